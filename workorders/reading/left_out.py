"""What the sweep left out of an order's steps, as its runs say it: for pages, API and pull requests."""

from collections.abc import Sequence

from sandboxes.sweep.rules import LeftOut, from_json, merged
from workorders.domain.states import STEP_DONE, PhaseRunStatus
from workorders.domain.workflows import StepKind
from workorders.models import PhaseRun


def counts(run: PhaseRun) -> bool:
    """Whether a run's findings hold for what the order has: it ended well, or its result was adopted by a later one."""
    adopted = run.status == PhaseRunStatus.INTERRUPTED and bool(run.planned_sha)
    return run.status in STEP_DONE or adopted


def of_runs(runs: Sequence[PhaseRun]) -> tuple[LeftOut, ...]:
    """What the runs of one phase left out, in their order: of the last one, and of those it goes on from."""
    last = runs[-1] if runs else None
    every = [run for run in runs if run is last or counts(run)]
    return merged(*(from_json(run.left_out) for run in every))


def of_delivery(runs: Sequence[PhaseRun]) -> tuple[tuple[LeftOut, ...], tuple[LeftOut, ...]]:
    """What was left out since the last delivery: by the last step, and by those before it.

    Conflict markers of an earlier step do not count: the last one has looked at all files again.
    """
    delivered = [
        run.sequence
        for run in runs
        if run.kind == StepKind.DELIVERY and run.status == PhaseRunStatus.SUCCEEDED
    ]
    since = max(delivered, default=0)
    worked = [run for run in runs if run.sequence > since and run.kind != StepKind.DELIVERY and counts(run)]
    if not worked:
        return (), ()
    last = worked[-1]
    same = [run for run in worked if (run.phase, run.prompt_id) == (last.phase, last.prompt_id)]
    earlier = merged(*(from_json(run.left_out) for run in worked if run not in same))
    return (
        merged(*(from_json(run.left_out) for run in same)),
        tuple(item for item in earlier if item.rule != "conflict_markers"),
    )
