"""The read model: what pages, API answers and commands show of work orders, as frozen values.

A constant number of queries for each value; no git, no process, no write. The field names are the API's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.urls import reverse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from github_app.models import Repository
from github_app.references import RepositoryReference
from sandboxes.kinds import SandboxCondition, SandboxType
from workorders.domain.errors import WorkOrderNotFound
from workorders.domain.states import (
    FINISHED,
    NEEDS_DECISION,
    STEP_DONE,
    AgentWorkOrderOutcome,
    AgentWorkOrderStatus,
    PhaseRunStatus,
    PromptDropped,
    PromptStatus,
    WaitingReason,
)
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType, StepKind, steps_of
from workorders.models import AgentPrompt, AgentWorkOrder, PhaseRun, WorkerProcess, WorkOrderLog
from workorders.models.clock import Parameter, moment_in_query, moment_in_sql
from workorders.models.logs import order_context
from workorders.reading import left_out
from workorders.reading.tested import TestsView, tests_of
from workorders.text.redaction import redact

_SIGN_OF_LIFE = timedelta(seconds=15)
MOST_PROMPTS = 200
PROMPT_WAITS = "It was not done before the work order ended; Retry does it, and so does the next prompt."
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
_ORDER_ID = re.compile(r"wo-[a-z0-9]{8}", re.ASCII)
_NOT_IN_LISTS = ("initial_prompt", "github_issue_body", "github_issue_title", "latest_commit_message")
AGENT_RUNS = (StepKind.PHASE, StepKind.FOLLOW_UP)

Known = BeforeValidator(lambda value: value or None)  # rows say "not known yet" with an empty text


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class WorkOrderSummary(_Value):
    """A work order as lists show it. Money in US dollars, times in UTC."""

    agent_work_order_id: str
    repository_url: str
    git_branch_name: Annotated[str | None, Known]
    agent_session_id: Annotated[str | None, Known]
    sandbox_identifier: Annotated[str | None, Known]
    sandbox_handle: Annotated[str | None, Known] = Field(
        description="what the sandbox's provider calls it; null: it is on the worker's machine"
    )
    sandbox_state: Annotated[SandboxCondition | None, Known]
    sandbox_started_at: datetime | None
    sandbox_expires_at: datetime | None = Field(
        description="when it ends by itself; put off while a step runs"
    )
    workflow_type: AgentWorkflowType
    sandbox_type: SandboxType
    github_issue_number: str | None
    base_branch: Annotated[str | None, Known] = Field(description="null: the repository's default branch")
    model: Annotated[str | None, Known] = Field(description="null: the server's default model")
    status: AgentWorkOrderStatus
    current_phase: AgentWorkflowPhase | None
    outcome: AgentWorkOrderOutcome | None
    error_message: str | None
    error_category: str | None
    error_advice: str | None
    cancel_requested_at: datetime | None
    waiting_reason: Annotated[WaitingReason | None, Known] = Field(description="null: it waits for nothing")
    waiting_until: datetime | None = Field(description="when it goes on by itself; null: when a person acts")
    waiting_message: Annotated[str | None, Known]
    created_at: datetime
    updated_at: datetime
    execution_started_at: datetime | None
    execution_completed_at: datetime | None
    github_pull_request_url: str | None
    github_pull_request_number: int | None
    git_commit_count: int
    git_files_changed: int
    git_lines_added: int
    git_lines_removed: int
    cost_usd: float
    cost_is_complete: bool = Field(description="false: a model of no known price was used, so it cost more")
    usage_is_reported: bool = Field(description="true: some figures are an agent's own, and were not metered")
    input_tokens: int
    output_tokens: int
    attempts: int = Field(description="agent runs so far")
    is_queued: bool = Field(
        description="its next step may begin and no worker is at it; its status may be running all the same"
    )
    tests: TestsView | None = Field(default=None, description="the newest results; null: there are none")
    version: int = Field(description="grows with every change of the order")

    @property
    def can_continue(self) -> bool:
        """Whether a person may end the wait before its time."""
        return self.waiting_reason is not None and self.waiting_reason not in NEEDS_DECISION


class ProtectedChange(_Value):
    """A protected path and the newest unpushed commit that changes it."""

    path: str
    commit_sha: str


class WorkOrderView(WorkOrderSummary):
    """A work order in full."""

    initial_prompt: Annotated[str | None, Known] = Field(
        description="secrets and control characters masked; the agent is told what was written"
    )
    approval_sha: Annotated[str | None, Known] = Field(
        description="the unpushed commit a person must approve"
    )
    approval_paths: tuple[ProtectedChange, ...] = Field(description="the protected paths it changes")
    approved_sha: Annotated[str | None, Known] = Field(description="the last commit a person approved")
    approved_by: Annotated[str | None, Known]
    approved_at: datetime | None

    @property
    def etag(self) -> str:
        return f'W/"{self.agent_work_order_id}.{self.version}"'


class PromptView(_Value):
    """A follow-up prompt and what became of it. `done` means that its step has ended well."""

    prompt_id: int
    prompt_text: str
    status: PromptStatus
    dropped_because: Annotated[PromptDropped | None, Known] = Field(
        description="null unless dropped; a retry does what was dropped as failed or cancelled"
    )
    note: Annotated[str | None, Known] = Field(
        description="what became of it, in words, where that needs some"
    )
    by: str
    created_at: datetime
    ended_at: datetime | None = Field(description="when it was done, or dropped")


class WorkOrderInFull(WorkOrderView):
    """A work order with its follow-up prompts."""

    prompts: tuple[PromptView, ...] = Field(description="oldest first; the newest 200")


class WorkOrderAnswer(_Value):
    """A work order and where its log is."""

    agent_work_order: WorkOrderInFull
    logs_url: str


class WorkOrderPage(_Value):
    """Newest first; `total_count` counts all that match the filters."""

    agent_work_orders: tuple[WorkOrderSummary, ...]
    total_count: int
    has_more: bool


class LeftOutEntry(_Value):
    """One thing an agent left uncommitted that was not committed for it, or is wrong in what it committed."""

    rule: str = Field(description="of the sweep's table, docs/sweep.md")
    path: str = Field(description="empty where it is about no single path")
    detail: str
    message: str = Field(description="the same in words")


class PhaseHistoryEntry(_Value):
    """One phase of the workflow: all its runs together, follow-ups included."""

    phase: AgentWorkflowPhase
    started_at: datetime
    completed_at: datetime | None = Field(description="null while the phase is unfinished or runs again")
    commits: int
    attempts: int = Field(description="runs, without those a shutdown interrupted")
    sandbox_start_seconds: float | None = Field(
        description="until its last place to work was ready; null: none was opened"
    )
    model_credential: Annotated[str | None, Known] = Field(
        description="what its last agent held: gateway_token, provider_key; null: nothing"
    )
    status: PhaseRunStatus = Field(description="how its last run stands")
    left_out: tuple[LeftOutEntry, ...] = Field(
        description="what its runs left out of git, and why: docs/sweep.md"
    )


class GitProgressView(_Value):
    """What git said last; `snapshot_timestamp` is when it was asked, or the order's last change before that."""

    agent_work_order_id: str
    current_phase: AgentWorkflowPhase = Field(description="before the start: the phase it will start with")
    git_commit_count: int
    git_files_changed: int
    git_lines_added: int
    git_lines_removed: int
    latest_commit_message: Annotated[str | None, Known]
    latest_commit_sha: Annotated[str | None, Known]
    snapshot_timestamp: datetime
    phase_history: tuple[PhaseHistoryEntry, ...]
    version: int = Field(description="grows with every change of the order")

    @property
    def etag(self) -> str:
        return f'W/"{self.agent_work_order_id}.{self.version}.git"'


class LogEntry(_Value):
    """One event, flat: the fields below and whatever the event carries beside them."""

    model_config = ConfigDict(frozen=True, extra="allow")

    timestamp: datetime
    level: str
    event: str
    sequence: int = Field(description="counts from 1 for each order")
    agent_work_order_id: str
    workflow_type: AgentWorkflowType
    sandbox_type: SandboxType
    repository_url: str


class LogPage(_Value):
    """Oldest first. `total_count` counts what matches `level`; `has_more` looks beyond this page."""

    agent_work_order_id: str
    log_entries: tuple[LogEntry, ...]
    total_count: int
    has_more: bool


class StatusCounts(_Value):
    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.pending + self.running + self.completed + self.failed + self.cancelled


class WorkOrderQuery(_Value):
    """What a list is narrowed to; `q` is looked for in id, prompt, issue title, branch and repository."""

    status: AgentWorkOrderStatus | None = None
    sandbox_type: SandboxType | None = None
    workflow_type: AgentWorkflowType | None = None
    repository: RepositoryReference | None = None
    repository_pk: int | None = None
    github_issue_number: str | None = None
    q: str = ""
    limit: int = 50
    offset: int = 0


def known_id(agent_work_order_id: str) -> str:
    """The text itself where it can be an order's id at all. Raises `WorkOrderNotFound`."""
    if _ORDER_ID.fullmatch(agent_work_order_id) is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id[:40]!r}.")
    return agent_work_order_id


def work_order(agent_work_order_id: str) -> WorkOrderInFull:
    """Raises `WorkOrderNotFound`."""
    prompted = AgentPrompt.objects.filter(agent_work_order=OuterRef("pk"))
    row = _row(agent_work_order_id, AgentWorkOrder.objects.annotate(is_prompted=Exists(prompted)))
    return _in_full(row, is_prompted=row.is_prompted)  # type: ignore[attr-defined]  # annotated here


def _in_full(row: AgentWorkOrder, *, is_prompted: bool = True) -> WorkOrderInFull:
    """Most orders have no prompts, and asking for them costs a query."""
    view = WorkOrderView.model_validate(row)
    prompts = prompts_of(row, limit=MOST_PROMPTS) if is_prompted else ()
    tests = tests_of([row]).get(row.pk)
    return WorkOrderInFull(**view.model_dump(exclude={"tests"}), tests=tests, prompts=prompts)


def answer_for(order: AgentWorkOrder | WorkOrderInFull) -> WorkOrderAnswer:
    return WorkOrderAnswer(
        agent_work_order=order if isinstance(order, WorkOrderInFull) else _in_full(order),
        logs_url=reverse("api:logs", args=[order.agent_work_order_id]),
    )


def prompts_of(order: AgentWorkOrder, *, limit: int) -> tuple[PromptView, ...]:
    """The newest follow-up prompts of an order, oldest first."""
    newest = AgentPrompt.objects.filter(agent_work_order=order.pk)
    waits = PROMPT_WAITS if order.status in FINISHED else None
    return tuple(
        PromptView(
            prompt_id=row.pk,
            prompt_text=redact(row.prompt_text),
            status=PromptStatus(row.status),
            dropped_because=PromptDropped(row.dropped_because) if row.dropped_because else None,
            note=row.note or (waits if row.status == PromptStatus.QUEUED else None),
            by=row.by,
            created_at=row.created_at,
            ended_at=row.ended_at,
        )
        for row in reversed(newest.order_by("-pk")[:limit])
    )


def git_progress(agent_work_order_id: str) -> GitProgressView:
    """Raises `WorkOrderNotFound`."""
    order = _row(agent_work_order_id)
    return GitProgressView(
        agent_work_order_id=order.agent_work_order_id,
        current_phase=AgentWorkflowPhase(order.current_phase or steps_of(order.workflow_type)[0].phase),
        git_commit_count=order.git_commit_count,
        git_files_changed=order.git_files_changed,
        git_lines_added=order.git_lines_added,
        git_lines_removed=order.git_lines_removed,
        latest_commit_message=order.latest_commit_message,
        latest_commit_sha=order.latest_commit_sha,
        snapshot_timestamp=order.git_observed_at or order.updated_at,
        phase_history=_phase_history(order),
        version=order.version,
    )


def work_orders(query: WorkOrderQuery) -> WorkOrderPage:
    """One page of the orders that match."""
    found = matching(query)
    total = found.count()
    rows = list(found.defer(*_NOT_IN_LISTS)[query.offset : query.offset + query.limit])
    tests = tests_of(rows)
    page = tuple(
        WorkOrderSummary.model_validate(row).model_copy(update={"tests": tests.get(row.pk)}) for row in rows
    )
    return WorkOrderPage(
        agent_work_orders=page, total_count=total, has_more=query.offset + len(page) < total and bool(page)
    )


def status_counts() -> StatusCounts:
    rows = AgentWorkOrder.objects.order_by().values_list("status").annotate(number=Count("pk"))
    return StatusCounts(**dict(rows))


def log_page(
    agent_work_order_id: str, *, limit: int, offset: int = 0, after: int = 0, level: str = ""
) -> LogPage:
    """Entries after sequence number `after`, of `level` and above. Raises `WorkOrderNotFound`."""
    order = _row(agent_work_order_id)
    entries = WorkOrderLog.objects.filter(agent_work_order=order.pk)
    if level:
        entries = entries.filter(level__in=LOG_LEVELS[LOG_LEVELS.index(level) :])
    rows = list(entries.filter(sequence__gt=after).order_by("sequence")[offset : offset + limit + 1])
    return LogPage(
        agent_work_order_id=order.agent_work_order_id,
        log_entries=tuple(_log_entry(order, row) for row in rows[:limit]),
        total_count=entries.count(),
        has_more=len(rows) > limit,
    )


def phases_of(runs: Iterable[PhaseRun]) -> tuple[PhaseHistoryEntry, ...]:
    """The phases that `runs` (of the kinds in `AGENT_RUNS`) belong to, in the workflow's order."""
    place = {phase: number for number, phase in enumerate(AgentWorkflowPhase)}
    ordered = sorted(runs, key=lambda run: (place[AgentWorkflowPhase(run.phase)], run.sequence))
    return tuple(_phase_entry(phase, runs) for phase, runs in groupby(ordered, key=lambda run: run.phase))


@dataclass(frozen=True)
class WorkerRow:
    """One worker process that is alive: a supervisor of steps, or a cluster's main process (`is_cluster`)."""

    host: str
    version: str
    is_cluster: bool
    share: int
    running: int
    started_at: datetime
    last_beat_at: datetime
    gateway_state: str = ""


def workers_alive() -> list[WorkerRow]:
    """Worker processes that showed a sign of life just now, by the database's clock."""
    return [
        WorkerRow(
            host=row.host,
            version=row.version,
            is_cluster=row.name.endswith(":cluster"),
            share=row.share,
            running=row.running,
            started_at=row.started_at,
            last_beat_at=row.last_beat_at,
            gateway_state=row.gateway_state,
        )
        for row in _alive()
    ]


def live_workers() -> int:
    """Worker processes that showed a sign of life just now, by the database's clock."""
    return _alive().count()


def live_worker_in_sql() -> tuple[str, Parameter]:
    """Whether there are any `live_workers`, as a condition in plain SQL with one parameter."""
    since, parameter = moment_in_sql(ago=_SIGN_OF_LIFE)
    table = WorkerProcess._meta.db_table
    return f"EXISTS (SELECT 1 FROM {table} WHERE last_beat_at >= {since})", parameter  # noqa: S608  # nosec B608  # names from the code only


def _alive() -> QuerySet[WorkerProcess]:
    return WorkerProcess.objects.filter(last_beat_at__gte=moment_in_query(ago=_SIGN_OF_LIFE))


def gateways_of(host: str) -> list[str]:
    """Addresses of the model gateways that live clusters of a machine keep."""
    rows = _alive().filter(host=host).exclude(gateway_url="")
    return list(rows.values_list("gateway_url", flat=True))


def _row(agent_work_order_id: str, rows: QuerySet[AgentWorkOrder] | None = None) -> AgentWorkOrder:
    rows = AgentWorkOrder.objects.all() if rows is None else rows
    order = rows.filter(agent_work_order_id=known_id(agent_work_order_id)).first()
    if order is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id!r}.")
    return order


def matching(query: WorkOrderQuery) -> QuerySet[AgentWorkOrder]:
    """The rows that match, newest first; `limit` and `offset` are the caller's to apply."""
    exact = {
        "repository_id": query.repository_pk,
        "status": query.status,
        "sandbox_type": query.sandbox_type,
        "workflow_type": query.workflow_type,
        "github_issue_number": query.github_issue_number,
    }
    rows = AgentWorkOrder.objects.filter(**{name: value for name, value in exact.items() if value})
    if query.repository is not None:
        rows = rows.filter(_same_repository(query.repository))
    if query.q:
        rows = rows.filter(_mentions(query.q))
    return newest_first(rows)


def newest_first(rows: QuerySet[AgentWorkOrder]) -> QuerySet[AgentWorkOrder]:
    return rows.order_by("-created_at", "-pk")


def _same_repository(reference: RepositoryReference) -> Q:
    """The order's repository row, whatever spelling the order was given in; GitHub ignores case in names."""
    if reference.is_local:
        return Q(repository__repository_url=reference.repository_url)
    return Q(
        repository__host__iexact=reference.host,
        repository__owner__iexact=reference.owner,
        repository__name__iexact=reference.name,
    )


def _mentions(text: str) -> Q:
    """Few long columns, since each is read in each row; the branch's name has the order's id and issue in it."""
    repositories = Repository.objects.filter(repository_url__icontains=text)
    found = Q(repository__in=repositories.order_by())
    for field in ("git_branch_name", "github_issue_title", "initial_prompt"):
        found |= Q(**{f"{field}__icontains": text})
    return found


def _log_entry(order: AgentWorkOrder, row: WorkOrderLog) -> LogEntry:
    fixed = {
        **order_context(order),
        "timestamp": row.timestamp,
        "level": row.level,
        "event": row.event,
        "sequence": row.sequence,
    }
    return LogEntry.model_validate({**row.fields, **fixed})


def _phase_history(order: AgentWorkOrder) -> tuple[PhaseHistoryEntry, ...]:
    runs = PhaseRun.objects.filter(agent_work_order=order.pk, kind__in=AGENT_RUNS).only(
        "phase",
        "kind",
        "sequence",
        "status",
        "started_at",
        "completed_at",
        "commits",
        "prompt_id",
        "sandbox_start_seconds",
        "model_credential",
        "planned_sha",
        "left_out",
    )
    return phases_of(runs)


def _phase_entry(phase: str, runs: Iterable[PhaseRun]) -> PhaseHistoryEntry:
    """`runs` in order of their sequence, at least one."""
    every = list(runs)
    last = every[-1]
    finished = [run for run in every if run.status in STEP_DONE]
    is_running = last.status == PhaseRunStatus.RUNNING
    # the phase's own step, its follow-ups, and tests that were run again: each run knows all commits of its step
    steps: dict[tuple[int | None, int], int] = {}
    times_done = 0
    for run in every:
        step = (run.prompt_id, times_done if run.kind == StepKind.PHASE else 0)
        steps[step] = max(steps.get(step, 0), run.commits)
        times_done += run.kind == StepKind.PHASE and run.status in STEP_DONE
    return PhaseHistoryEntry(
        phase=AgentWorkflowPhase(phase),
        started_at=every[0].started_at,
        completed_at=None if is_running or not finished else finished[-1].completed_at,
        commits=sum(steps.values()),
        attempts=sum(run.status != PhaseRunStatus.INTERRUPTED for run in every),
        status=PhaseRunStatus(last.status),
        sandbox_start_seconds=last.sandbox_start_seconds,
        model_credential=last.model_credential,
        left_out=tuple(
            LeftOutEntry(**item.as_json(), message=item.words) for item in left_out.of_runs(every)
        ),
    )
