"""The state of one order: all its page says but the log."""

from dataclasses import dataclass, field
from datetime import datetime

from workorders.domain.states import ACTIVE, PROMPT_TO_DO, RETRYABLE, AgentWorkOrderStatus, ShownState
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.models.shown_state import clock, is_held, shown_state
from workorders.reading.pages.approval import Approval, approval_of
from workorders.reading.pages.choices import workflow_name
from workorders.reading.pages.commits import CommitLine, commit_line
from workorders.reading.pages.file_tree import TreeRow, file_tree
from workorders.reading.pages.naming import Links, links, order_title
from workorders.reading.pages.phases import (
    PhaseLine,
    PlanText,
    Progress,
    TestSummary,
    plan_of,
    progress_of,
    test_summary,
)
from workorders.reading.pages.rows import commits_of, files_of, glance, order_row
from workorders.reading.progress import PromptView, WorkOrderView, live_workers, prompts_of

SHOWN_COMMITS = 30
SHOWN_FILES = 60
SHOWN_PROMPTS = 30
PAUSE_WORTH_A_WORD = 10.0


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
    state: ShownState
    progress: Progress
    commits: tuple[CommitLine, ...]
    tree: tuple[TreeRow, ...]
    plan: PlanText | None
    tests: TestSummary | None
    prompts: tuple[PromptView, ...]
    retry_at: datetime | None = field(default=None)
    approval: Approval | None = None
    queued_since: datetime | None = None
    no_worker: bool = False

    @property
    def word(self) -> str:
        return self.state.value

    @property
    def stale_sha(self) -> str:
        """The commit that the tests of a completed order are of, where it is not what is there now; else ''."""
        tests = self.tests
        stale = self.is_complete and tests is not None and not tests.view.is_current
        return tests.view.git_commit_sha[:7] if stale and tests is not None else ""

    @property
    def title_word(self) -> str:
        """What the page's title begins with."""
        word = self.word.replace("_", " ").capitalize()
        if not self.stale_sha:
            return word
        is_failed = self.state is ShownState.TESTS_FAILED
        return f"{word} at {self.stale_sha}" if is_failed else f"{word}, tested at {self.stale_sha}"

    @property
    def icon_word(self) -> str:
        """Which favicon the page has: a grey one where nobody knows what tests would say."""
        return ShownState.QUEUED.value if self.stale_sha else self.word

    @property
    def phases(self) -> tuple[PhaseLine, ...]:
        return self.progress.lines

    @property
    def is_held(self) -> bool:
        """Whether a worker is at it."""
        return self.state is ShownState.RUNNING

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
    def over(self) -> float | None:
        """From its first step to its end, where that is much longer than what was worked."""
        started, ended = self.order.execution_started_at, self.order.execution_completed_at
        if started is None or ended is None:
            return None
        whole = (ended - started).total_seconds()
        return whole if whole - self.progress.worked >= PAUSE_WORTH_A_WORD else None

    @property
    def queued_seconds(self) -> float:
        since = self.queued_since
        return max(0.0, (clock() - since).total_seconds()) if since else 0.0

    @property
    def model_credential(self) -> str:
        """What the last agent held to reach the model; empty before the first, or where it held nothing."""
        return next((phase.model_credential for phase in reversed(self.phases) if phase.model_credential), "")

    @property
    def failed_phase(self) -> PhaseLine | None:
        """What failed, or is to be tried again after it has."""
        return next(
            (phase for phase in self.phases if phase.status == "failed" or phase.is_tried_again), None
        )

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
    """The `position` of the order's state now, by one small query. Raises `WorkOrderNotFound`.

    A worker that dies, and all of them that are gone, change no row.
    """
    seen = glance(agent_work_order_id)
    no_worker = not seen.any_worker if _waits_for_worker(seen.status, is_held=seen.is_held) else None
    return _position(seen.version, seen.log_sequence, no_worker=no_worker)


def _position(version: int, log_sequence: int, *, no_worker: bool | None) -> str:
    """`no_worker`: None where it does not matter."""
    mark = {None: "", False: "-q", True: "-n"}[no_worker]
    return f"{version}-{log_sequence}{mark}"


def _waits_for_worker(status: str, *, is_held: bool) -> bool:
    """Whether it is active and nobody is at it, so that the page says if there is nobody at all."""
    return status in ACTIVE and not is_held


def order_state(agent_work_order_id: str) -> OrderState:
    """Raises `WorkOrderNotFound`."""
    row = order_row(agent_work_order_id)
    commits = commits_of(row)[:SHOWN_COMMITS]
    prompts = prompts_of(row, limit=SHOWN_PROMPTS)
    tests = test_summary(row)
    state = shown_state(row)
    no_worker = not live_workers() if _waits_for_worker(row.status, is_held=is_held(row)) else None
    return OrderState(
        order=WorkOrderView.model_validate(row),
        position=_position(row.version, row.log_sequence, no_worker=no_worker),
        title=order_title(row.github_issue_title, row.initial_prompt, row.github_issue_number),
        issue_title=row.github_issue_title,
        repository_name=row.repository.full_name,
        workflow_name=workflow_name(AgentWorkflowType(row.workflow_type)),
        is_on_github=not row.repository.is_local,
        links=links(row),
        state=state,
        progress=progress_of(
            row,
            is_asked=any(prompt.status in PROMPT_TO_DO for prompt in prompts),
            tests=tests.view if tests else None,
        ),
        commits=tuple(commit_line(row.repository, commit) for commit in commits),
        tree=file_tree(files_of(row).defer("patch", "coloured").order_by("path")[:SHOWN_FILES]),
        plan=plan_of(row),
        tests=tests,
        prompts=prompts,
        retry_at=_retry_at(row),
        approval=approval_of(row),
        queued_since=(row.claimable_at or row.created_at) if state is ShownState.QUEUED else None,
        no_worker=bool(no_worker),
    )


def _retry_at(row: AgentWorkOrder) -> datetime | None:
    """When the next attempt is due, while the order waits for it."""
    is_put_off = shown_state(row) is ShownState.WAITING and not row.waiting_reason
    return row.claimable_at if is_put_off else None
