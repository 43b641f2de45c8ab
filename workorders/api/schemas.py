"""Query parameters and the answers that are no read model; bodies are in `workorders.incoming`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sandboxes.kinds import SandboxType
from workorders.domain.states import AgentWorkOrderStatus
from workorders.incoming import MAX_REFERENCE_LENGTH, IssueNumber, Storable, WorkflowName
from workorders.reading.progress import WorkOrderQuery
from workorders.services import work_orders as services

MAX_OFFSET = 10**9
MAX_SEQUENCE = 2**63 - 1


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


Blank = BeforeValidator(_none_if_empty)  # what an untouched form field sends
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET, description="How many to skip.")]


class WorkOrderFilters(BaseModel):
    """What `GET /agent-work-orders` is narrowed to."""

    status: Annotated[AgentWorkOrderStatus | None, Blank] = None
    sandbox_type: Annotated[SandboxType | None, Blank] = None
    workflow_type: Annotated[WorkflowName | None, Blank] = None
    repository_url: Annotated[
        Annotated[str, Field(max_length=MAX_REFERENCE_LENGTH)] | None,
        Blank,
        Field(description="In any accepted spelling."),
    ] = None
    github_issue_number: Annotated[IssueNumber, WithJsonSchema({"type": "string"})] = None
    q: Annotated[
        str,
        Field(max_length=200, description="Text in id, prompt, issue title, branch or repository."),
        Storable,
    ] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    offset: Offset = 0

    def to_query(self) -> WorkOrderQuery:
        """Raises `InvalidInput` where the repository is no acceptable reference."""
        return WorkOrderQuery(
            **self.model_dump(exclude={"repository_url"}),
            repository=services.parse_repository(self.repository_url) if self.repository_url else None,
        )


class LogFilters(BaseModel):
    """Which entries of a log; to tail it, pass the last `sequence` seen as `after`."""

    after: Annotated[int, Field(ge=0, le=MAX_SEQUENCE, description="Only entries after this sequence.")] = 0
    level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        Blank,
        Field(description="Only entries of this level and above."),
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Offset = 0


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class AgentPromptResponse(_Answer):
    agent_work_order_id: str
    prompt_accepted: bool
    message: str


class VerifiedRepository(_Answer):
    repository_owner: str = Field(description="empty for a local repository")
    repository_name: str
    repository_url: str
    default_branch: str
    is_accessible: bool
    access_verified_at: datetime | None
    can_push: bool
    is_private: bool


class GitHubRepositoryVerificationResponse(_Answer):
    """`error_message` says what is missing and what to do where the verification fails."""

    repository: VerifiedRepository
    verification_success: bool
    error_message: str | None
