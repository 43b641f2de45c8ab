"""The state of one order: all its page says but the log."""

from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from workorders.models import AgentWorkOrder
from workorders.pages.approval import Approval, approval_of
from workorders.pages.choices import workflow_name
from workorders.pages.commits import CommitLine, commit_line
from workorders.pages.file_tree import TreeRow, file_tree
from workorders.pages.naming import Links, links, order_title, status_word
from workorders.pages.phases import PhaseLine, PlanText, TestSummary, phases_of, plan_of, tests_of
from workorders.pages.rows import commits_of, files_of, glance, order_row
from workorders.progress import PromptView, WorkOrderView, prompts_of
from workorders.states import ACTIVE, RETRYABLE, AgentWorkOrderStatus
from workorders.workflow_definitions import AgentWorkflowType

SHOWN_COMMITS = 30
SHOWN_FILES = 60
SHOWN_PROMPTS = 30


@dataclass(frozen=True)
class OrderState:
    """All a page says of an order but its log. `position` changes whenever any of it may have."""

    order: WorkOrderView
    position: str
    title: str
    issue_title: str
    repository_name: str
    workflow_name: str
    is_on_github: bool
    links: Links
    phases: tuple[PhaseLine, ...]
    commits: tuple[CommitLine, ...]
    tree: tuple[TreeRow, ...]
    plan: PlanText | None
    tests: TestSummary | None
    prompts: tuple[PromptView, ...]
    retry_at: datetime | None = field(default=None)
    approval: Approval | None = None

    @property
    def word(self) -> str:
        return status_word(self.order.status, self.order.waiting_reason)

    @property
    def is_active(self) -> bool:
        return self.order.status in ACTIVE

    @property
    def can_retry(self) -> bool:
        return self.order.status in RETRYABLE

    @property
    def is_cancelling(self) -> bool:
        return self.is_active and self.order.cancel_requested_at is not None

    @property
    def is_complete(self) -> bool:
        return self.order.status == AgentWorkOrderStatus.COMPLETED

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes so far."""
        started = self.order.execution_started_at
        if started is None:
            return None
        return ((self.order.execution_completed_at or timezone.now()) - started).total_seconds()

    @property
    def model_credential(self) -> str:
        """What the last agent held to reach the model; empty before the first, or where it held nothing."""
        return next((phase.model_credential for phase in reversed(self.phases) if phase.model_credential), "")

    @property
    def failed_phase(self) -> PhaseLine | None:
        return next((phase for phase in self.phases if phase.status == "failed"), None)

    @property
    def error_title(self) -> str:
        if self.order.status != AgentWorkOrderStatus.FAILED:
            return "Cancelled, with something left to do"
        return f"{self.failed_phase.title} failed" if self.failed_phase else "The work order failed"

    @property
    def commits_left_out(self) -> int:
        return max(0, self.order.git_commit_count - len(self.commits))

    @property
    def files_left_out(self) -> int:
        return max(0, self.order.git_files_changed - sum(not row.is_folder for row in self.tree))


def position(agent_work_order_id: str) -> str:
    """The `position` of the order's state now, by one small query. Raises `WorkOrderNotFound`."""
    seen = glance(agent_work_order_id)
    return f"{seen.version}-{seen.log_sequence}"


def order_state(agent_work_order_id: str) -> OrderState:
    """Raises `WorkOrderNotFound`."""
    row = order_row(agent_work_order_id)
    commits = commits_of(row)[:SHOWN_COMMITS]
    return OrderState(
        order=WorkOrderView.model_validate(row),
        position=f"{row.version}-{row.log_sequence}",
        title=order_title(row.github_issue_title, row.initial_prompt, row.github_issue_number),
        issue_title=row.github_issue_title,
        repository_name=row.repository.full_name,
        workflow_name=workflow_name(AgentWorkflowType(row.workflow_type)),
        is_on_github=not row.repository.is_local,
        links=links(row),
        phases=phases_of(row),
        commits=tuple(commit_line(row.repository, commit) for commit in commits),
        tree=file_tree(files_of(row).defer("patch").order_by("path")[:SHOWN_FILES]),
        plan=plan_of(row),
        tests=tests_of(row),
        prompts=prompts_of(row, limit=SHOWN_PROMPTS),
        retry_at=_retry_at(row),
        approval=approval_of(row),
    )


def _retry_at(row: AgentWorkOrder) -> datetime | None:
    """When the next attempt is due, while the order waits for it."""
    waits = row.status in ACTIVE and not row.claim_owner and not row.waiting_reason
    return row.claimable_at if waits and row.claimable_at and row.claimable_at > timezone.now() else None
