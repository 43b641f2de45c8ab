"""Whether an order's failure is the doing of what was done to it, and came only after all its attempts."""

from collections.abc import Sequence
from dataclasses import dataclass

from workorders.domain.errors import WorkersLost
from workorders.domain.states import PhaseRunStatus
from workorders.workflow_engine.planning.retries import RULES

WORKER_LOST = WorkersLost.category
# What dead workers, GitHub and git that fail at random lead to; an agent's failures are excused by the agent itself.
INFLICTED = frozenset({WORKER_LOST, "github_unavailable", "git_failed", "git_timeout"})


@dataclass(frozen=True)
class Run:
    """One phase run; `category` is empty where it did not fail."""

    kind: str
    phase: str
    status: str
    category: str


def had_its_attempts(runs: Sequence[Run], category: str) -> bool:
    """Whether the step that failed last was tried as often as the retry table says for this failure."""
    step = [run for run in runs if (run.kind, run.phase) == (runs[-1].kind, runs[-1].phase)]
    rule = RULES[category]
    lost = sum(run.status == PhaseRunStatus.INTERRUPTED and run.category == WORKER_LOST for run in step)
    failed = sum(run.status == PhaseRunStatus.FAILED for run in step)
    return rule.waits is None and (lost if category == WORKER_LOST else failed) >= rule.attempts
