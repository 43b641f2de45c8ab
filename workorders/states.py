"""Statuses and the legal moves between them, as data; checked when imported.

`AgentWorkOrder.move()` is the one place that writes a status, and it asks this table.
"""

from enum import StrEnum


class AgentWorkOrderStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AgentWorkOrderOutcome(StrEnum):
    """How a completed order ended; empty while it is not complete."""

    PULL_REQUEST_OPENED = "pull_request_opened"
    BRANCH_PUSHED = "branch_pushed"
    TESTS_FAILED = "tests_failed"
    NO_CHANGE_NEEDED = "no_change_needed"


class PhaseRunStatus(StrEnum):
    """One attempt of one step. `interrupted`: put back by a shutdown or a lost lease, not counted."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    NO_CHANGE_NEEDED = "no_change_needed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class PromptStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DROPPED = "dropped"


S = AgentWorkOrderStatus
LEGAL_MOVES: dict[AgentWorkOrderStatus, frozenset[AgentWorkOrderStatus]] = {
    S.PENDING: frozenset({S.RUNNING, S.CANCELLED, S.FAILED}),
    S.RUNNING: frozenset({S.COMPLETED, S.FAILED, S.CANCELLED}),
    S.COMPLETED: frozenset({S.PENDING}),  # a follow-up prompt
    S.FAILED: frozenset({S.PENDING}),  # a retry, or a follow-up prompt
    S.CANCELLED: frozenset({S.PENDING}),
}
ACTIVE = frozenset({S.PENDING, S.RUNNING})
FINISHED = frozenset({S.COMPLETED, S.FAILED, S.CANCELLED})
RETRYABLE = frozenset({S.FAILED, S.CANCELLED})
STEP_DONE = frozenset({PhaseRunStatus.SUCCEEDED, PhaseRunStatus.NO_CHANGE_NEEDED})

if set(LEGAL_MOVES) != set(S) or set(S) != ACTIVE | FINISHED or ACTIVE & FINISHED:
    raise RuntimeError("workorders.states: every status needs its moves and exactly one of ACTIVE, FINISHED")


def is_legal(current: AgentWorkOrderStatus, target: AgentWorkOrderStatus) -> bool:
    return target in LEGAL_MOVES[current]
