"""How often a step is tried and how long it waits in between, as data. Only retryable failures get here."""

from dataclasses import dataclass

from sandboxes.errors import ExpectedError


@dataclass(frozen=True)
class RetryRule:
    """`attempts` in all; `delays_seconds` before the second, third, … attempt (the last one repeats)."""

    attempts: int
    delays_seconds: tuple[float, ...]


DEFAULT = RetryRule(attempts=3, delays_seconds=(2.0, 10.0))
RULES: dict[str, RetryRule] = {
    "evidence_missing": RetryRule(attempts=2, delays_seconds=(0.0,)),  # the agent hears what is missing
    "agent_no_result": RetryRule(attempts=3, delays_seconds=(1.0, 10.0)),
    "agent_session_unusable": RetryRule(attempts=3, delays_seconds=(0.0,)),
    "agent_rate_limited": RetryRule(attempts=3, delays_seconds=(60.0, 300.0)),
    "agent_model_overloaded": RetryRule(attempts=3, delays_seconds=(15.0, 60.0)),
    "github_rate_limited": RetryRule(attempts=3, delays_seconds=(60.0, 300.0)),
    "github_unavailable": RetryRule(attempts=4, delays_seconds=(2.0, 10.0, 30.0)),
    "internal": RetryRule(attempts=2, delays_seconds=(2.0,)),
}


def next_attempt_in(error: ExpectedError, attempt: int) -> float | None:
    """Seconds until the next attempt, or None when a person has to act."""
    rule = RULES.get(error.category, DEFAULT)
    if not error.retryable or attempt >= rule.attempts:
        return None
    delay = rule.delays_seconds[min(attempt, len(rule.delays_seconds)) - 1]
    told = getattr(error, "retry_after_seconds", None)  # what GitHub itself asked for
    return max(delay, float(told)) if told else delay
