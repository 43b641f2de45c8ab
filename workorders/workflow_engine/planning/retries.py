"""Every failure's kind, and what follows it, as data: how often it is tried, how long it pauses, what it waits for.

`docs/errors.md` shows this table to people; a test keeps the two in step.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db import DatabaseError, InterfaceError

from sandboxes.errors import ExpectedError
from workorders.domain.states import Wait, WaitingReason


class ErrorKind(StrEnum):
    """Where a failure comes from, and so who looks first."""

    AGENT = "agent"
    GIT = "git"
    GITHUB = "github"
    SANDBOX = "sandbox"
    DATABASE = "database"
    OPERATOR = "operator"
    USER = "user"


@dataclass(frozen=True)
class ErrorRule:
    """`attempts` in all; `delays_seconds` before the second, third, … attempt (the last one repeats).

    A rule that `waits` counts no attempts: its delays are those between looks, as long as nobody said how long,
    and after `max_waits` of them in a row the order fails after all. Who names a time again, and was wrong, is not
    believed to take less than who names none, unless it is `told_together`: what another order was told meanwhile.
    """

    kind: ErrorKind
    attempts: int = 1
    delays_seconds: tuple[float, ...] = ()
    waits: WaitingReason | None = None
    max_waits: int = 100
    told_together: bool = False


@dataclass(frozen=True)
class TryAgain:
    """One more attempt, after a pause."""

    seconds: float


K = ErrorKind
_TWICE_MORE = (2.0, 10.0)
_PATIENTLY = (2.0, 10.0, 30.0)
_OUTAGE = (2.0, 10.0, 30.0, 60.0, 120.0, 300.0)
RULES: dict[str, ErrorRule] = {
    # the agent and its model
    "agent_account_refused": ErrorRule(K.OPERATOR),
    "agent_budget_exceeded": ErrorRule(K.USER),
    "agent_cancelled": ErrorRule(K.USER),
    "agent_exit_code": ErrorRule(K.AGENT, 3, _TWICE_MORE),
    "agent_killed": ErrorRule(K.AGENT, 3, _TWICE_MORE),
    "agent_lingered": ErrorRule(K.AGENT, 3, _TWICE_MORE),
    "agent_missing": ErrorRule(K.OPERATOR),
    "agent_model_overloaded": ErrorRule(
        K.AGENT, delays_seconds=(30.0, 60.0, 120.0, 300.0, 900.0), waits=WaitingReason.MODEL_OVERLOADED
    ),
    "agent_model_unreachable": ErrorRule(K.AGENT, 3, (10.0, 60.0)),
    "agent_no_result": ErrorRule(K.AGENT, 3, (1.0, 10.0)),
    "agent_not_logged_in": ErrorRule(K.OPERATOR),
    "agent_permission_denied": ErrorRule(K.OPERATOR),
    "agent_rate_limited": ErrorRule(
        K.AGENT, delays_seconds=(60.0, 300.0, 900.0, 1800.0), waits=WaitingReason.MODEL_QUOTA
    ),
    "agent_reported_error": ErrorRule(K.USER),
    "agent_request_rejected": ErrorRule(K.OPERATOR),
    "agent_result_too_long": ErrorRule(K.USER),
    "agent_session_unusable": ErrorRule(K.AGENT, 3, (0.0,)),
    "agent_silent": ErrorRule(K.AGENT, 3, _TWICE_MORE),
    "agent_timed_out": ErrorRule(K.USER),
    "agent_turn_limit": ErrorRule(K.USER),
    "command_invalid": ErrorRule(K.USER),
    "command_missing": ErrorRule(K.USER),
    "evidence_missing": ErrorRule(K.AGENT, 2, (0.0,)),  # the agent hears what is missing
    "secret_in_commits": ErrorRule(K.OPERATOR, 2, (0.0,)),  # the agent hears where it is
    "checkout_lost": ErrorRule(K.AGENT, 2, (0.0,)),  # the agent hears that it removed its git folder
    # git
    "commits_malformed": ErrorRule(K.AGENT, 2, (0.0,)),  # the agent hears which, and what is wrong
    "base_branch_missing": ErrorRule(K.USER),
    "bundle_rejected": ErrorRule(K.GIT, 3, _TWICE_MORE),
    "git_failed": ErrorRule(K.GIT, 3, _TWICE_MORE),
    "git_timeout": ErrorRule(K.GIT, 3, _TWICE_MORE),
    "git_host_failed": ErrorRule(K.GIT, 5, (2.0, 10.0, 30.0, 120.0)),
    "push_content_refused": ErrorRule(K.AGENT, 3, (0.0,)),  # the agent hears the remote's words
    "lfs_content_missing": ErrorRule(K.AGENT, 2, (0.0,)),  # the agent hears which files
    "lfs_unavailable": ErrorRule(K.GIT, 3, _TWICE_MORE),
    "push_rejected": ErrorRule(K.USER),
    "push_too_large": ErrorRule(K.AGENT, 2, (0.0,)),  # the agent hears what is too large
    "repository_access_denied": ErrorRule(K.OPERATOR),
    "repository_busy": ErrorRule(K.GIT, 3, _TWICE_MORE),
    "repository_empty": ErrorRule(K.USER),
    "repository_not_found": ErrorRule(K.USER),
    "submodule_commit_missing": ErrorRule(K.AGENT, 2, (0.0,)),  # the agent hears which
    # GitHub
    "gh_missing": ErrorRule(K.OPERATOR),
    "gh_not_logged_in": ErrorRule(K.OPERATOR),
    "github_access_denied": ErrorRule(K.OPERATOR),
    "github_answer_invalid": ErrorRule(  # for 40 minutes
        K.GITHUB, delays_seconds=_OUTAGE, waits=WaitingReason.GITHUB_UNAVAILABLE, max_waits=12
    ),
    "github_failed": ErrorRule(K.GITHUB),
    "github_moved": ErrorRule(K.USER),
    "github_not_found": ErrorRule(K.USER),
    "github_rate_limited": ErrorRule(
        K.GITHUB,
        delays_seconds=(60.0, 120.0, 240.0, 480.0, 900.0),
        waits=WaitingReason.GITHUB_RATE_LIMITED,
        told_together=True,
    ),
    "github_rejected": ErrorRule(K.USER),
    "github_token_invalid": ErrorRule(K.OPERATOR),
    "github_unavailable": ErrorRule(  # for two hours
        K.GITHUB, delays_seconds=_OUTAGE, waits=WaitingReason.GITHUB_UNAVAILABLE, max_waits=30
    ),
    "issue_is_pull_request": ErrorRule(K.USER),
    "issue_moved": ErrorRule(K.USER),
    "issue_not_found": ErrorRule(K.USER),
    "pull_request_left_open": ErrorRule(K.GITHUB, 60, (10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)),
    "push_permission_missing": ErrorRule(K.OPERATOR),
    "repository_replaced": ErrorRule(K.USER),
    # places to work, and this server
    "database_unavailable": ErrorRule(K.DATABASE, 5, _PATIENTLY),
    "internal": ErrorRule(K.OPERATOR, 2, (2.0,)),
    "prices_invalid": ErrorRule(K.OPERATOR),
    "program_missing": ErrorRule(K.OPERATOR),
    "sandbox_failed": ErrorRule(K.SANDBOX, 3, _TWICE_MORE),
    "sandbox_unavailable": ErrorRule(K.OPERATOR),
    "sandbox_unreachable": ErrorRule(K.SANDBOX, 3, (5.0, 30.0)),
    "sandbox_vanished": ErrorRule(K.SANDBOX, 3, _TWICE_MORE),
    "worker_lost": ErrorRule(
        K.OPERATOR, 3, (0.0, 15.0)
    ),  # deaths, which count apart from the step's own failures
    "workspace_busy": ErrorRule(K.SANDBOX, 3, _TWICE_MORE),
    # requests
    "api_key_not_found": ErrorRule(K.USER),
    "api_key_refused": ErrorRule(K.USER),
    "conflict": ErrorRule(K.USER),
    "idempotency_key_reused": ErrorRule(K.USER),
    "invalid_input": ErrorRule(K.USER),
    "not_found": ErrorRule(K.USER),
    "repository_refused": ErrorRule(K.OPERATOR),
    "request_holds_secret": ErrorRule(K.USER),
    "request_refused": ErrorRule(K.USER),
}
UNLISTED = ErrorRule(K.OPERATOR, 3, _TWICE_MORE)  # only an error's own `retryable` speaks for it
_WHILE_IT_WAITS = "Nothing to do: the step goes on by itself."  # an error's advice is for when it has failed
_JITTER = 0.25  # at most this part longer, so that what failed together does not come back together
_SPREAD_SECONDS = 15.0  # the same for long waits whose end somebody named


def rule_of(error: ExpectedError) -> ErrorRule:
    return RULES.get(error.category, UNLISTED)


def decide(
    error: ExpectedError,
    *,
    attempt: int,
    waited: Sequence[str] = (),
    chance: Callable[[], float] = random.random,
) -> TryAgain | Wait | None:
    """What follows a step's failure: another attempt, a wait, or None when a person has to act.

    `attempt` counts from 1; `waited` are the reasons this step waited for just before, without another end
    in between. `chance` gives a number from 0 to 1.
    """
    rule = rule_of(error)
    if not error.retryable:
        return None
    told = getattr(error, "retry_after_seconds", None)  # what the other side itself asked for
    if rule.waits is not None:
        before = _last_in_a_row(waited, rule.waits)
        if before >= rule.max_waits:
            return None
        return Wait(rule.waits, f"{error} {_WHILE_IT_WAITS}", _pause(rule, before, told, chance))
    if attempt >= rule.attempts:
        return None
    pause = _pause(rule, attempt - 1, None, chance)
    return TryAgain(max(pause, float(told)) if told else pause)


def _pause(rule: ErrorRule, before: int, told: float | None, chance: Callable[[], float]) -> float:
    if told is not None:
        least = _delay(rule, before - 1) if before and not rule.told_together else 0.0
        return max(float(told), least) + chance() * min(_SPREAD_SECONDS, 1 + told * _JITTER)
    return _delay(rule, before) * (1 + chance() * _JITTER)


def _delay(rule: ErrorRule, before: int) -> float:
    return rule.delays_seconds[min(before, len(rule.delays_seconds) - 1)]


def _last_in_a_row(waited: Sequence[str], reason: str) -> int:
    count = 0
    for earlier in reversed(waited):
        if earlier != reason:
            break
        count += 1
    return count


class DatabaseUnavailable(ExpectedError):
    """The database was away for longer than a step waits for it."""

    category = "database_unavailable"
    retryable = True
    advice = "Check the database and the network to it, then retry."


def fault(error: Exception) -> ExpectedError:
    """An exception nobody expected, as a failure a person can read."""
    if isinstance(error, DatabaseError | InterfaceError):  # Django derives neither from the other
        return DatabaseUnavailable(f"The database failed: {str(error)[:300]}")
    return ExpectedError(
        f"The server made a mistake: {type(error).__name__}: {str(error)[:500]}",
        advice="This is a defect of Work Orders; the worker's log has the details. Retry may help.",
        retryable=True,
    )
