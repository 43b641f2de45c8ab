"""Statuses and the legal moves between them, as data; checked when imported.

`AgentWorkOrder.move()` is the one place that writes a status, and it asks this table.
"""

from dataclasses import dataclass
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


class ShownState(StrEnum):
    """What people are told of an order, in the order of lists; an active one's comes from its lease."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    TESTS_FAILED = "tests_failed"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PhaseRunStatus(StrEnum):
    """One attempt of one step. `interrupted`: put back by a shutdown or a lost lease, not counted."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    NO_CHANGE_NEEDED = "no_change_needed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class ApiKeyScope(StrEnum):
    """What a program may do with its key; writing includes reading."""

    READ = "read"
    WRITE = "write"


class UsageSource(StrEnum):
    """Whose figures a run's cost and tokens are; empty while there are none."""

    NONE = ""
    AGENT = "agent"  # what the agent says of itself
    GATEWAY = "gateway"  # metered from the model's answers


class PromptStatus(StrEnum):
    """`done` only once its step has ended well; `dropped` has a reason, and a retry may take it up again."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DROPPED = "dropped"


class PromptDropped(StrEnum):
    """Why a prompt was not done; empty for one that was not dropped."""

    FAILED = "failed"
    CANCELLED = "cancelled"
    REPLACED = "replaced"


PROMPT_TO_DO = frozenset({PromptStatus.QUEUED, PromptStatus.RUNNING})
# What a retry of the order does after all.
RESUMED_BY_RETRY = frozenset({PromptDropped.FAILED, PromptDropped.CANCELLED})
PROMPT_DROPPED_WORDS: dict[PromptDropped, str] = {
    PromptDropped.FAILED: "Its step failed; Retry does it again.",
    PromptDropped.CANCELLED: "It was not done, as the work order was cancelled; Retry does it.",
    PromptDropped.REPLACED: "It was not done, and a later prompt was sent instead.",
}


class WaitingReason(StrEnum):
    """What an active order waits for before its next step may begin; its status stays what it was."""

    GITHUB_RATE_LIMITED = "github_rate_limited"
    GITHUB_UNAVAILABLE = "github_unavailable"
    MODEL_OVERLOADED = "model_overloaded"
    MODEL_QUOTA = "model_quota"
    DISK_FULL = "disk_full"
    APPROVAL_REQUIRED = "approval_required"


WAITING_WORDS: dict[WaitingReason, str] = {
    WaitingReason.GITHUB_RATE_LIMITED: "for GitHub's rate limit",
    WaitingReason.GITHUB_UNAVAILABLE: "for GitHub, which does not answer as it should",
    WaitingReason.MODEL_OVERLOADED: "for the model, which is overloaded",
    WaitingReason.MODEL_QUOTA: "for the model's usage limit to reset",
    WaitingReason.DISK_FULL: "for free disk space",
    WaitingReason.APPROVAL_REQUIRED: "for a person's approval",
}
# Going on before its time is only impatience; these ask for a decision, which has a way of its own.
NEEDS_DECISION = frozenset({WaitingReason.APPROVAL_REQUIRED})


@dataclass(frozen=True)
class Wait:
    """A step that cannot go on now, through no fault of its own: not an attempt.

    `message` says in words what is waited for; `seconds` from now until it is tried again, None: a person acts.
    """

    reason: WaitingReason
    message: str
    seconds: float | None = None


class EffectKind(StrEnum):
    """What the server does outside itself for an order."""

    PUSH = "push"
    PULL_REQUEST = "pull_request"
    PULL_REQUEST_UPDATE = "pull_request_update"
    COMMENT = "comment"


class EffectState(StrEnum):
    """`unknown`: asked for, and the answer was lost; looked for before it is ever asked for again.

    Where the order was cancelled: `owed` is still to be taken back, `undoing`: that is tried now, `undone`: it is done.
    """

    PLANNED = "planned"
    SENT = "sent"
    CONFIRMED = "confirmed"
    UNKNOWN = "unknown"
    OWED = "owed"
    UNDOING = "undoing"
    UNDONE = "undone"


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
# A pull request in one of these is being opened, or kept up to date, by whoever holds the order.
BEING_DELIVERED = frozenset({EffectState.SENT, EffectState.CONFIRMED})
WITHDRAWAL_OWED = frozenset({EffectState.OWED, EffectState.UNDOING})
# In one of these it may be there, or be there in a moment.
MAY_BE_THERE = BEING_DELIVERED | WITHDRAWAL_OWED | {EffectState.UNKNOWN}
STEP_DONE = frozenset({PhaseRunStatus.SUCCEEDED, PhaseRunStatus.NO_CHANGE_NEEDED})

if set(WAITING_WORDS) != set(WaitingReason):
    raise RuntimeError("workorders.domain.states: every waiting reason needs its words")
if set(PROMPT_DROPPED_WORDS) != set(PromptDropped):
    raise RuntimeError("workorders.domain.states: every reason for a dropped prompt needs its words")
if set(LEGAL_MOVES) != set(S) or set(S) != ACTIVE | FINISHED or ACTIVE & FINISHED:
    raise RuntimeError(
        "workorders.domain.states: every status needs its moves and exactly one of ACTIVE, FINISHED"
    )


def is_legal(current: AgentWorkOrderStatus, target: AgentWorkOrderStatus) -> bool:
    return target in LEGAL_MOVES[current]


CONTENT_REFUSED = frozenset(
    {"commits_malformed", "push_content_refused", "push_too_large", "secret_in_commits"}
)
"""Error categories of work that could not be pushed for what it holds: the agent does it again without that."""
PUSH_REFUSED = frozenset({"git_host_failed", "push_rejected", "repository_access_denied"})
"""Those of commits that are good and kept, and that the remote does not take as things are."""
