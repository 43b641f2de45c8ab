"""Untrusted requests become typed values, once: JSON API and management commands share these models.

Must not know HTTP or the database. Whatever passed here may be stored on both databases and shown.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from github_app.references import parse_issue_number, validate_branch_name
from sandboxes.kinds import SandboxType
from workorders import services
from workorders.workflow_definitions import WORKFLOW_ALIASES, AgentWorkflowType, parse_workflow_type

MAX_PROMPT_LENGTH = 100_000
MAX_REFERENCE_LENGTH = 512
_MODEL = re.compile(r"[A-Za-z0-9][\w.:\[\]/@-]{0,99}", re.ASCII)


def storable_text(value: str) -> str:
    """Text both databases store, as it was written; NUL and lone surrogates are refused."""
    if "\x00" in value:
        raise ValueError("must not contain NUL characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not contain lone surrogates")
    return value


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _issue_number(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return None if value is None else parse_issue_number(value)
    raise ValueError("An issue is given by its number, such as 42 or #42.")


def _workflow_type(value: Any) -> Any:
    """Only the aliases; an unknown name is pydantic's to refuse, which lists what there is."""
    return parse_workflow_type(value) if isinstance(value, str) and value in WORKFLOW_ALIASES else value


def _branch_name(value: str) -> str:
    return validate_branch_name(value)


def model_name(value: str) -> str:
    """Raises `ValueError`."""
    if _MODEL.fullmatch(value) is None:
        raise ValueError(
            "A model's name is up to 100 letters, digits and . _ : [ ] / @ -, not starting with a sign."
        )
    return value


Storable = AfterValidator(
    storable_text
)  # a length bound goes before it: behind, it is told as one of "items"
PromptText = Annotated[str, Field(max_length=MAX_PROMPT_LENGTH), Storable]
IssueNumber = Annotated[
    str | None,
    BeforeValidator(_issue_number),
    BeforeValidator(_none_if_empty),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}], "examples": ["42"]}
    ),
]
WorkflowName = Annotated[
    AgentWorkflowType,
    BeforeValidator(_workflow_type),
    WithJsonSchema({"type": "string", "enum": [*AgentWorkflowType, *WORKFLOW_ALIASES]}),
]


class _Request(BaseModel):
    """A field nobody knows is refused, so that a typing error is not silently lost."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class CreateAgentWorkOrderRequest(_Request):
    """A request to turn words or an issue into a pull request."""

    repository_url: str = Field(
        max_length=MAX_REFERENCE_LENGTH,
        description="https://github.com/owner/name(.git), git@github.com:owner/name.git or owner/name",
        examples=["https://github.com/user/repo.git"],
    )
    sandbox_type: SandboxType = Field(description="Where the agent works.")
    workflow_type: WorkflowName = Field(description="Which phases to run.")
    github_issue_number: IssueNumber = Field(None, description="The issue to work on: 42, “42” or “#42”.")
    initial_prompt: Annotated[PromptText | None, BeforeValidator(_none_if_empty)] = Field(
        None,
        repr=False,
        description="What the agent is asked to do, as it will read it; it must hold no secret.",
    )
    base_branch: Annotated[
        Annotated[str, AfterValidator(_branch_name)] | None, BeforeValidator(_none_if_empty)
    ] = Field(None, description="The branch to start from; the default branch where it is left out.")
    model: Annotated[Annotated[str, AfterValidator(model_name)] | None, BeforeValidator(_none_if_empty)] = (
        Field(None, description="The agent's model; the server's own where it is left out.")
    )

    def to_new_work_order(self) -> services.NewWorkOrder:
        """Raises `InvalidInput` where the repository is no acceptable reference."""
        reference = services.parse_repository(self.repository_url)
        return services.NewWorkOrder(
            repository=reference,
            sandbox_type=self.sandbox_type,
            workflow_type=self.workflow_type,
            github_issue_number=self.github_issue_number,
            initial_prompt=self.initial_prompt or "",
            base_branch=self.base_branch or "",
            model=self.model or "",
            repository_url=as_given(self.repository_url) or reference.repository_url,
        )


class AgentPromptRequest(_Request):
    """A follow-up to the agent; the id may be repeated in the body and must then be the path's."""

    agent_work_order_id: str | None = Field(None, max_length=100, description="The same id as in the path.")
    prompt_text: PromptText = Field(min_length=1, repr=False)


class ApprovalRequest(_Request):
    """A person's word about one commit, as `approval_sha` names it."""

    git_commit_sha: str = Field(
        pattern="^[0-9a-f]{40}([0-9a-f]{24})?$", description="All of the commit's sha."
    )


class GitHubRepositoryVerificationRequest(_Request):
    repository_url: str = Field(
        max_length=MAX_REFERENCE_LENGTH, examples=["https://github.com/user/repo.git"]
    )


def as_given(repository_url: str) -> str:
    """The address as the person wrote it where that was an https URL, else nothing. Only for showing."""
    return repository_url.rstrip("/") if repository_url.startswith("https://") else ""
