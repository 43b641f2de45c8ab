"""An order's phases, begun or not, and what they left: plan and test results."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from sandboxes.sweep import LeftOut, sentences
from workorders import progress
from workorders.models import AgentWorkOrder, PhaseRun
from workorders.pages.naming import status_word
from workorders.progress import AGENT_RUNS, PhaseHistoryEntry
from workorders.states import ACTIVE, STEP_DONE, PhaseRunStatus
from workorders.workflow_definitions import StepKind, steps_of

SHOWN_FAILURES = 50


@dataclass(frozen=True)
class PhaseLine:
    """One phase, begun or not; `status` is a run's, `pending` before the first, `not_started` if it never will.

    An interrupted run of an order that waits is called `waiting`: it goes on afterwards.

    From the first run's start to the last one's end, retries between them included; `error`: why the last failed;
    `warning`: what is to be known of one that counts; `left_out`: what its agents left uncommitted and nobody committed
    for them, in words.
    """

    key: str
    title: str
    status: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    commits: int = 0
    attempts: int = 0
    error: str = ""
    warning: str = ""
    model_credential: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        if self.started_at is None:
            return None
        return ((self.ended_at or timezone.now()) - self.started_at).total_seconds()


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
    """The last testing phase's `test_results.json`; `failures` lists the first of the `failed`."""

    __test__ = False  # not one of pytest's

    passed: int
    failed: int
    skipped: int
    command: str
    summary: str
    failures: tuple[FailedTest, ...]


def phases_of(row: AgentWorkOrder) -> tuple[PhaseLine, ...]:
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
        "sandbox_start_seconds",
        "model_credential",
        "planned_sha",
        "left_out",
    )
    runs = list(PhaseRun.objects.filter(agent_work_order=row.pk).only(*columns).order_by("sequence"))
    agent_runs = [run for run in runs if run.kind in AGENT_RUNS]
    history = {entry.phase: entry for entry in progress.phases_of(agent_runs)}
    last_runs = {run.phase: run for run in agent_runs}
    not_begun = "pending" if row.status in ACTIVE else "not_started"
    lines = [
        _phase(step.title, history[step.phase], last_runs[step.phase], row)
        if step.phase in history
        else PhaseLine(step.phase, step.title, not_begun)
        for step in steps_of(row.workflow_type)
    ]
    title = "Delivery" if row.repository.is_local else "Pull request"
    deliveries = [run for run in runs if run.kind == StepKind.DELIVERY]
    return (*lines, _delivery(title, deliveries, not_begun, row))


def _word(run_status: str, row: AgentWorkOrder) -> str:
    return status_word(run_status, row.waiting_reason if run_status == PhaseRunStatus.INTERRUPTED else "")


def _phase(title: str, entry: PhaseHistoryEntry, last: PhaseRun, row: AgentWorkOrder) -> PhaseLine:
    return PhaseLine(
        key=entry.phase,
        title=title,
        status=_word(entry.status, row),
        started_at=entry.started_at,
        ended_at=last.completed_at,
        commits=entry.commits,
        attempts=entry.attempts,
        model_credential=last.model_credential,
        error=last.error_message if entry.status == "failed" else "",
        warning=last.error_message if last.status in STEP_DONE else "",
        left_out=sentences(tuple(LeftOut(item.rule, item.path, item.detail) for item in entry.left_out)),
    )


def _delivery(title: str, runs: list[PhaseRun], not_begun: str, row: AgentWorkOrder) -> PhaseLine:
    if not runs:
        return PhaseLine("delivery", title, not_begun)
    last = runs[-1]
    return PhaseLine(
        key="delivery",
        title=title,
        status=_word(last.status, row),
        started_at=last.started_at,
        ended_at=last.completed_at,
        attempts=len(runs),
        error=last.error_message if last.status == "failed" else "",
    )


def plan_of(row: AgentWorkOrder) -> PlanText | None:
    runs = PhaseRun.objects.filter(agent_work_order=row.pk).exclude(plan_text="").order_by("-sequence")
    found = runs.values_list("plan_path", "plan_text").first()
    return PlanText(*found) if found else None


def tests_of(row: AgentWorkOrder) -> TestSummary | None:
    runs = PhaseRun.objects.filter(agent_work_order=row.pk, tests_passed__isnull=False).order_by("-sequence")
    found = runs.values_list("tests_passed", "tests_failed", "test_results").first()
    if found is None:
        return None
    passed, failed, results = found
    results = results if isinstance(results, dict) else {}
    cases = [case for case in results.get("tests") or () if isinstance(case, dict)]
    failures = [case for case in cases if case.get("status") == "failed"]
    return TestSummary(
        passed=passed or 0,
        failed=failed or 0,
        skipped=Counter(str(case.get("status")) for case in cases)["skipped"],
        command=str(results.get("command") or ""),
        summary=str(results.get("summary") or ""),
        failures=tuple(
            FailedTest(str(case.get("name") or ""), str(case.get("message") or ""))
            for case in failures[:SHOWN_FAILURES]
        ),
    )
