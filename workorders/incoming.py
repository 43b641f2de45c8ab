"""Untrusted requests become typed values, once: JSON API and management commands share these models.

Must not know HTTP or the database. Whatever passed here may be stored on both databases and shown.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from github_app.references import (
    PastedLink,
    names_a_repository,
    parse_issue_number,
    validate_branch_name,
)
from sandboxes.kinds import SandboxType
from workorders.domain.errors import InvalidInput
from workorders.domain.workflows import WORKFLOW_ALIASES, AgentWorkflowType, parse_workflow_type
from workorders.repositories.pasted import parse_pasted
from workorders.services import work_orders as services

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


def _issue(value: Any) -> Any:
    """A number; or the text of a link, which `to_new_work_order` reads beside the repository."""
    if isinstance(value, str) and names_a_repository(value):
        if len(value) > MAX_REFERENCE_LENGTH:
            raise ValueError(f"A link to an issue has at most {MAX_REFERENCE_LENGTH} characters.")
        return value
    return _issue_number(value)


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
IssueReference = Annotated[
    str | None,
    BeforeValidator(_issue),
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
        description="https://github.com/owner/name(.git), git@github.com:owner/name.git or owner/name; the link of an "
        "issue fills in its number, too",
        examples=["https://github.com/user/repo.git"],
    )
    sandbox_type: SandboxType = Field(description="Where the agent works.")
    workflow_type: WorkflowName = Field(description="Which phases to run.")
    github_issue_number: IssueReference = Field(
        None, description="The issue to work on: 42, “42”, “#42”, or its link."
    )
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
        """Raises `InvalidInput` where the repository is no acceptable reference, or a link says something else."""
        pasted = parse_pasted(self.repository_url)
        reference = pasted.repository
        return services.NewWorkOrder(
            repository=reference,
            sandbox_type=self.sandbox_type,
            workflow_type=self.workflow_type,
            github_issue_number=self._issue_of(pasted),
            initial_prompt=self.initial_prompt or "",
            base_branch=self.base_branch or "",
            model=self.model or "",
            repository_url=as_given(self.repository_url) or reference.repository_url,
        )

    def _issue_of(self, pasted: PastedLink) -> str | None:
        """The number that was typed, or that a link names, in either field; what contradicts itself is refused."""
        if pasted.pull_request_number:
            raise InvalidInput("repository_url", _no_pull_request(pasted))
        number, given = pasted.issue_number, self.github_issue_number
        if given and names_a_repository(given):
            link = parse_pasted(given, "github_issue_number")
            if link.pull_request_number:
                raise InvalidInput("github_issue_number", _no_pull_request(link))
            if not link.issue_number:
                raise InvalidInput(
                    "github_issue_number", "The link names no issue; give a number, such as 42."
                )
            if link.repository.key != pasted.repository.key:
                raise InvalidInput(
                    "github_issue_number",
                    f"The issue is one of {link.repository.full_name}, "
                    f"and the repository is {pasted.repository.full_name}; choose one of the two.",
                )
            given = link.issue_number
        if number and given and number != given:
            raise InvalidInput(
                "github_issue_number", f"The repository's link names issue #{number}, and this is #{given}."
            )
        return given or number or None


def _no_pull_request(link: PastedLink) -> str:
    return (
        f"#{link.pull_request_number} is a pull request of {link.repository.full_name}, and a work order starts from "
        f"an issue or from words: give {link.repository.repository_url} and say in the request what to change."
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
    """The address as the person wrote it where that was a plain https URL, else nothing. Only for showing."""
    if not repository_url.startswith("https://") or not parse_pasted(repository_url).is_plain:
        return ""
    return repository_url.rstrip("/")
