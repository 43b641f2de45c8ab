"""An order's phases, begun or not, and what they left: plan and test results."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.utils import timezone

from sandboxes.sweep.rules import LeftOut, sentences
from workorders.domain.states import ACTIVE, STEP_DONE, PhaseRunStatus, ShownState
from workorders.domain.workflows import TEST, Step, StepKind, steps_of
from workorders.models import AgentWorkOrder, PhaseRun
from workorders.models.shown_state import shown_state
from workorders.reading import progress
from workorders.reading.next_step import NextStep, next_step
from workorders.reading.pages.naming import delivery_title, step_title
from workorders.reading.progress import AGENT_RUNS
from workorders.reading.tested import TestsView, tests_of

SHOWN_FAILURES = 50


@dataclass(frozen=True)
class PhaseLine:
    """One phase, begun or not. `status` is a run's, or: `pending` before the first, `not_started` if it never will,
    `queued` or `waiting` for what is done next, `tests_failed` for tests that ran and found something, `outdated` for
    those of something else than is there now.

    `worked`: the seconds of its runs together, up to now where one is under way. `error`: why the last failed;
    `warning`: what is to be known of one that counts, or why it is tried again; `left_out`: what its agents left
    uncommitted and nobody committed for them, in words.
    """

    key: str
    title: str
    status: str
    worked: float | None = None
    ticks_since: datetime | None = None
    commits: int = 0
    attempts: int = 0
    error: str = ""
    warning: str = ""
    model_credential: str = ""
    left_out: tuple[str, ...] = ()
    is_tried_again: bool = False


@dataclass(frozen=True)
class Progress:
    """An order's phases, what is done `next` (empty: nothing is, or somebody is at it), and the seconds of its runs."""

    lines: tuple[PhaseLine, ...]
    next: str
    worked: float
    ticks_since: datetime | None


@dataclass(frozen=True)
class PlanText:
    path: str
    markdown: str


@dataclass(frozen=True)
class FailedTest:
    name: str
    message: str


@dataclass(frozen=True)
class TestSummary:
    """The last testing phase's `test_results.json`; `failures` lists the first of the `failed`.

    `view`: the numbers, and which commit they are of.
    """

    __test__ = False  # not one of pytest's

    view: TestsView
    skipped: int
    command: str
    summary: str
    failures: tuple[FailedTest, ...]

    @property
    def passed(self) -> int:
        return self.view.passed

    @property
    def failed(self) -> int:
        return self.view.failed


def progress_of(row: AgentWorkOrder, *, is_asked: bool, tests: TestsView | None) -> Progress:
    """`is_asked`: a follow-up prompt waits. `tests`: the results that the rest of the page shows."""
    columns = (
        "sequence",
        "kind",
        "phase",
        "status",
        "started_at",
        "completed_at",
        "commits",
        "prompt_id",
        "error_message",
        "error_category",
        "sandbox_start_seconds",
        "model_credential",
        "start_sha",
        "planned_sha",
        "left_out",
        "end_sha",
    )
    runs = list(PhaseRun.objects.filter(agent_work_order=row.pk).only(*columns).order_by("sequence"))
    state, now = shown_state(row), timezone.now()
    coming = next_step(row, runs, is_asked=is_asked) if row.status in ACTIVE else None
    reader = _Reader(row, runs, state, coming, now)
    title = ""
    if coming is not None and state is not ShownState.RUNNING:
        local = row.repository.is_local
        title = step_title(coming.kind, coming.phase, row.workflow_type, is_local=local)
    steps = steps_of(row.workflow_type)
    lines = (*(reader.phase(step) for step in steps), reader.delivery())
    lines = tuple(_as_tested(line, tests) if line.key == TEST.phase else line for line in lines)
    worked, ticks_since = reader.worked(runs)
    return Progress(lines, title, worked or 0.0, ticks_since)


def _as_tested(line: PhaseLine, tests: TestsView | None) -> PhaseLine:
    """The testing phase, as its results have it once it has ended."""
    if tests is None or line.status != PhaseRunStatus.SUCCEEDED:
        return line
    if not tests.is_current:
        return replace(line, status="outdated")
    return replace(line, status=ShownState.TESTS_FAILED.value) if tests.failed else line


class _Reader:
    """Reads the lines of one order."""

    def __init__(
        self,
        row: AgentWorkOrder,
        runs: Sequence[PhaseRun],
        state: ShownState,
        coming: NextStep | None,
        now: datetime,
    ) -> None:
        self._row = row
        self._runs = runs
        self._state = state
        self._coming = coming
        self._now = now
        self._history = {
            entry.phase: entry for entry in progress.phases_of(run for run in runs if run.kind in AGENT_RUNS)
        }

    def worked(self, runs: Sequence[PhaseRun]) -> tuple[float | None, datetime | None]:
        """Seconds of those runs, and since when they would have run without a pause, where one runs now."""
        if not runs:
            return None, None
        seconds = sum(((run.completed_at or self._now) - run.started_at).total_seconds() for run in runs)
        runs_now = runs[-1].status == PhaseRunStatus.RUNNING and self._state is ShownState.RUNNING
        return seconds, self._now - timedelta(seconds=seconds) if runs_now else None

    def phase(self, step: Step) -> PhaseLine:
        runs = [run for run in self._runs if run.kind in AGENT_RUNS and run.phase == step.phase]
        entry = self._history.get(step.phase)
        status = self._status(runs, is_next=self._comes(step.phase), is_ahead=self._is_ahead(step.phase))
        line = self._line(step.phase, step.title, status, runs)
        if entry is None:
            return line
        left_out = sentences(tuple(LeftOut(item.rule, item.path, item.detail) for item in entry.left_out))
        return replace(line, commits=entry.commits, attempts=entry.attempts, left_out=left_out)

    def delivery(self) -> PhaseLine:
        runs = [run for run in self._runs if run.kind == StepKind.DELIVERY]
        coming = self._coming is not None and self._coming.kind is StepKind.DELIVERY
        title = delivery_title(is_local=self._row.repository.is_local)
        status = self._status(runs, is_next=coming, is_ahead=self._coming is not None and not coming)
        return replace(self._line("delivery", title, status, runs), attempts=len(runs))

    def _comes(self, phase: str) -> bool:
        coming = self._coming
        return coming is not None and coming.kind is not StepKind.DELIVERY and coming.phase == phase

    def _is_ahead(self, phase: str) -> bool:
        """Whether it is to be done after what comes next, although it was done before."""
        coming = self._coming
        return coming is not None and coming.kind is StepKind.FOLLOW_UP and phase == TEST.phase

    def _status(self, runs: Sequence[PhaseRun], *, is_next: bool, is_ahead: bool) -> str:
        """A line's: what is under way or comes next counts before how the last run ended."""
        if is_next:
            under_way = bool(runs) and runs[-1].status == PhaseRunStatus.RUNNING
            if self._state is not ShownState.RUNNING:
                return self._state.value
            return PhaseRunStatus.RUNNING.value if under_way else ShownState.QUEUED.value
        if not runs or is_ahead:
            return "pending" if self._row.status in ACTIVE else "not_started"
        return runs[-1].status

    def _line(self, key: str, title: str, status: str, runs: Sequence[PhaseRun]) -> PhaseLine:
        if not runs:
            return PhaseLine(key, title, status)
        last = runs[-1]
        seconds, ticks_since = self.worked(runs)
        words, failed = last.error_message, last.status == PhaseRunStatus.FAILED
        tried_again = failed and status == ShownState.WAITING and not self._row.waiting_reason
        return PhaseLine(
            key=key,
            title=title,
            status=status,
            worked=seconds,
            ticks_since=ticks_since if last.status == PhaseRunStatus.RUNNING else None,
            error=words if failed and status == PhaseRunStatus.FAILED else "",
            warning=words if last.status in STEP_DONE or tried_again else "",
            is_tried_again=tried_again,
            model_credential=last.model_credential,
        )


def plan_of(row: AgentWorkOrder) -> PlanText | None:
    runs = PhaseRun.objects.filter(agent_work_order=row.pk).exclude(plan_text="").order_by("-sequence")
    found = runs.values_list("plan_path", "plan_text").first()
    return PlanText(*found) if found else None


def test_summary(row: AgentWorkOrder) -> TestSummary | None:
    view = tests_of([row]).get(row.pk)
    if view is None:
        return None
    runs = PhaseRun.objects.filter(agent_work_order=row.pk, tests_passed__isnull=False).order_by("-sequence")
    results = runs.values_list("test_results", flat=True).first()
    results = results if isinstance(results, dict) else {}
    cases = [case for case in results.get("tests") or () if isinstance(case, dict)]
    failures = [case for case in cases if case.get("status") == "failed"]
    return TestSummary(
        view=view,
        skipped=Counter(str(case.get("status")) for case in cases)["skipped"],
        command=str(results.get("command") or ""),
        summary=str(results.get("summary") or ""),
        failures=tuple(
            FailedTest(str(case.get("name") or ""), str(case.get("message") or ""))
            for case in failures[:SHOWN_FAILURES]
        ),
    )
