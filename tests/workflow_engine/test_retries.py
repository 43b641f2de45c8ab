"""The retry table, row by row: how many attempts, and the pause before each."""

import pytest

from sandboxes.errors import ExpectedError
from workorders.agent_executor.base import AgentFailureCategory
from workorders.workflow_engine.retries import DEFAULT, RULES, next_attempt_in


class Failed(ExpectedError):
    retryable = True

    def __init__(self, category: str, *, told: float | None = None, retryable: bool = True) -> None:
        super().__init__("It failed.", retryable=retryable)
        self.category = category
        self.retry_after_seconds = told


# category: the pause after the first, second, … attempt; then a person has to act
TABLE: dict[str, tuple[float, ...]] = {
    "evidence_missing": (0,),
    "agent_no_result": (1, 10),
    "agent_session_unusable": (0, 0),
    "agent_rate_limited": (60, 300),
    "agent_model_overloaded": (15, 60),
    "github_rate_limited": (60, 300),
    "github_unavailable": (2, 10, 30),
    "internal": (2,),
    "anything_else": (2, 10),
}


@pytest.mark.parametrize(("category", "pauses"), TABLE.items(), ids=TABLE)
def test_each_row(category: str, pauses: tuple[float, ...]) -> None:
    found = [next_attempt_in(Failed(category), attempt) for attempt in range(1, len(pauses) + 3)]
    assert found == [*pauses, None, None]


@pytest.mark.parametrize("category", TABLE)
def test_what_is_not_retryable_is_not_tried_again(category: str) -> None:
    assert next_attempt_in(Failed(category, retryable=False), 1) is None


@pytest.mark.parametrize("category", TABLE)
def test_a_pause_somebody_asked_for_is_kept_but_never_shortens_ours(category: str) -> None:
    pauses = TABLE[category]
    for attempt, pause in enumerate(pauses, start=1):
        assert next_attempt_in(Failed(category, told=1000), attempt) == 1000
        assert next_attempt_in(Failed(category, told=0.25), attempt) == max(pause, 0.25)
        assert next_attempt_in(Failed(category, told=0), attempt) == pause
    assert next_attempt_in(Failed(category, told=1000), len(pauses) + 1) is None


def test_no_row_is_left_untested_or_without_sense() -> None:
    assert set(RULES) == set(TABLE) - {"anything_else"}
    for rule in (DEFAULT, *RULES.values()):
        assert rule.attempts >= 2
        assert 1 <= len(rule.delays_seconds) <= rule.attempts - 1
        assert list(rule.delays_seconds) == sorted(rule.delays_seconds)


def test_rows_name_categories_that_exist() -> None:
    named = {category for category in RULES if category.startswith("agent_")}
    assert named <= {category.value for category in AgentFailureCategory}
