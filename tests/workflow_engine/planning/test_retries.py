"""The retry table, row by row: attempts and the pause before each, waits and their growth, and its page."""

import re

import pytest
from django.db import InterfaceError, OperationalError

from config.env import BASE_DIR
from github_app.gh import REFUSALS
from sandboxes.errors import ExpectedError
from workorders.domain.states import Wait, WaitingReason
from workorders.workflow_engine.planning.retries import RULES, UNLISTED, TryAgain, decide, fault

ERRORS_PAGE = (BASE_DIR / "docs" / "errors.md").read_text()


class Failed(ExpectedError):
    retryable = True
    advice = "Do something."

    def __init__(self, category: str, *, told: float | None = None, retryable: bool = True) -> None:
        super().__init__("It failed.", retryable=retryable)
        self.category = category
        self.retry_after_seconds = told


TRIED = {category: rule for category, rule in {**RULES, "unlisted": UNLISTED}.items() if rule.waits is None}
WAITED = {category: rule for category, rule in RULES.items() if rule.waits is not None}


def pause(category: str, attempt: int, *, told: float | None = None, chance: float = 0) -> float | None:
    found = decide(Failed(category, told=told), attempt=attempt, chance=lambda: chance)
    assert found is None or isinstance(found, TryAgain)
    return None if found is None else found.seconds


def wait(category: str, waited: list[str], *, told: float | None = None, chance: float = 0) -> Wait | None:
    found = decide(Failed(category, told=told), attempt=1, waited=waited, chance=lambda: chance)
    assert found is None or isinstance(found, Wait)
    return found


@pytest.mark.parametrize("category", TRIED)
def test_attempts_and_pauses(category: str) -> None:
    rule = TRIED[category]
    found = [pause(category, attempt) for attempt in range(1, rule.attempts + 2)]
    delays = [rule.delays_seconds[min(n, len(rule.delays_seconds) - 1)] for n in range(rule.attempts - 1)]
    assert found == [*delays, None, None]
    assert sorted(delays) == delays
    assert decide(Failed(category, retryable=False), attempt=1) is None
    for delay in delays[:1]:
        assert pause(category, 1, chance=1) == delay * 1.25
        assert pause(category, 1, told=1000) == 1000
        assert pause(category, 1, told=0.25) == max(delay, 0.25)


@pytest.mark.parametrize("category", WAITED)
def test_waits_grow_and_are_no_attempts(category: str) -> None:
    rule = WAITED[category]
    assert rule.waits is not None
    waited: list[str] = []
    for delay in (*rule.delays_seconds, rule.delays_seconds[-1]):
        found = wait(category, waited)
        assert found == Wait(rule.waits, "It failed. Nothing to do: the step goes on by itself.", delay)
        waited.append(rule.waits)
    assert wait(category, [rule.waits] * rule.max_waits) is None
    other = next(reason for reason in WaitingReason if reason != rule.waits)
    found = wait(category, [*waited, other])
    assert found is not None
    assert found.seconds == rule.delays_seconds[0], "waits for something else do not add up"
    told = [wait(category, [], told=1000, chance=chance) for chance in (0, 1)]
    assert [item.seconds for item in told if item] == [1000, 1015]
    again = [wait(category, waited[:number], told=1) for number in range(3)]
    least = (0, 0) if rule.told_together else rule.delays_seconds
    assert [item.seconds for item in again if item] == [1, max(1, least[0]), max(1, least[1])]
    assert decide(Failed(category, retryable=False), attempt=1) is None


def test_a_fault_of_ours_is_a_failure_a_person_can_read() -> None:
    for error in (OperationalError("gone"), InterfaceError("gone")):
        assert (fault(error).category, fault(error).retryable) == ("database_unavailable", True)
    found = fault(KeyError("x"))
    assert (found.category, found.retryable) == ("internal", True)
    assert "KeyError" in str(found)


def test_the_page_says_what_follows_each_of_githubs_answers() -> None:
    section = ERRORS_PAGE.split("### What GitHub's answers lead to")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| .+ \| `(\w+)` \| (.+) \|$", section, re.MULTILINE))
    assert set(rows) >= {row.error.category for row in REFUSALS}
    for category, follows in rows.items():
        rule = RULES[category]
        expected = "waits" if rule.waits else "tried again" if rule.attempts > 1 else "fails"
        assert follows.startswith(expected), category
