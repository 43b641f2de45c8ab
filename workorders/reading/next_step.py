"""What is done next for an order, as its rows tell it: a decision that the engine and the pages share."""

from collections.abc import Sequence
from dataclasses import dataclass

from workorders.domain.states import PUSH_REFUSED, STEP_DONE
from workorders.domain.workflows import (
    TEST,
    AgentWorkflowPhase,
    Step,
    StepKind,
    follow_up_phase,
    steps_of,
)
from workorders.models import AgentWorkOrder, PhaseRun


@dataclass(frozen=True)
class NextStep:
    """What is done next. `tested`: the run that the test results so far are of; `tests_again`: they are stale."""

    kind: StepKind
    phase: AgentWorkflowPhase
    step: Step | None = None
    tested: PhaseRun | None = None
    tests_again: bool = False


def next_step(order: AgentWorkOrder, runs: Sequence[PhaseRun], *, is_asked: bool) -> NextStep:
    """A prompt (`is_asked`: one waits), else the first unfinished phase, else stale tests, else the delivery."""
    tested = last_tested(runs)
    if is_asked and (order.has_commits or _holds_unpushed(runs)):
        return NextStep(StepKind.FOLLOW_UP, follow_up_phase(order.workflow_type), tested=tested)
    steps = steps_of(order.workflow_type)
    done = {run.phase for run in runs if run.kind == StepKind.PHASE and run.status in STEP_DONE}
    for step in steps:
        if step.phase not in done:
            return NextStep(StepKind.PHASE, step.phase, step, tested)
    if tested is not None and _is_stale(order, tested, runs):
        return NextStep(StepKind.PHASE, TEST.phase, TEST, tested, tests_again=True)
    return NextStep(StepKind.DELIVERY, steps[-1].phase, tested=tested)


def last_tested(runs: Sequence[PhaseRun]) -> PhaseRun | None:
    """The run whose test results are the order's: the newest testing phase that was done."""
    done = (
        run
        for run in reversed(runs)
        if (run.kind, run.phase) == (StepKind.PHASE, TEST.phase) and run.status in STEP_DONE
    )
    return next(done, None)


def _is_stale(order: AgentWorkOrder, tested: PhaseRun, runs: Sequence[PhaseRun]) -> bool:
    """A follow-up came after the tests, and the head is another tree than theirs."""
    followed = any(
        run.kind == StepKind.FOLLOW_UP and run.status in STEP_DONE and run.sequence > tested.sequence
        for run in runs
    )
    return followed and bool(order.head_sha) and order.head_sha not in {tested.end_sha, order.tested_sha}


def _holds_unpushed(runs: Sequence[PhaseRun]) -> bool:
    """Commits are kept that the remote did not take as things were: a prompt may say how it does."""
    return any(run.planned_sha and run.error_category in PUSH_REFUSED for run in runs)
