"""When a limit resets, from the words of Claude Code, HTTP and the agent's own event; never a time without end."""

import json
import time
from datetime import UTC, datetime

import pytest

from workorders.agents.base import AgentFailure
from workorders.agents.base import AgentFailureCategory as Category
from workorders.agents.claude_code.command import AGENT_ENVIRONMENT
from workorders.agents.claude_code.failures import explained_by_model
from workorders.agents.claude_code.model_limits import LONGEST_SECONDS, seconds_until_reset
from workorders.agents.claude_code.stream import ResponseParser

NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)  # a Wednesday; 15:00 in Berlin
HOUR = 3600.0
SLACK = 30.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("You've hit your session limit · resets 3:45pm (UTC)", 1.75 * HOUR + SLACK),
        ("You've hit your limit · resets 4pm (Europe/Berlin)", HOUR + SLACK),
        ("You've hit your weekly limit · resets Nov 27, 2pm (UTC)", 48 * HOUR + SLACK),
        ("limit · resets Nov 27 at 2:30\u202fPM (UTC)", 48.5 * HOUR + SLACK),
        ("You've hit your weekly limit · resets Jan 2, 2027, 3pm (UTC)", LONGEST_SECONDS),
        ("resets 1am (UTC)", 11 * HOUR + SLACK),
        ("resets 12am (UTC)", 10 * HOUR + SLACK),
        ("resets 2pm (UTC)", SLACK),
        ("resets 1:59pm (UTC)", None),
        ("resets 1pm (UTC)", None),
        ("resets 11:55pm (Australia/Brisbane)", None),  # where it is midnight
        ("resets 11am (UTC)", 21 * HOUR + SLACK),
        ("resets Nov 25, 1pm (UTC)", None),
        ("resets 3:45pm", 1.75 * HOUR + SLACK),
        (f"Claude AI usage limit reached|{int(NOW.timestamp()) + 600}", 600 + SLACK),
        (f"Claude AI usage limit reached|{int(NOW.timestamp()) - 60}", None),
        ("API Error: 429 retry-after: 17", 17.0),
        ("API Error: 429 retry-after: 0", None),
        ("rate_limit_error; please try again in 2 minutes", 120.0),
        ("usage limit resets in 3h", 3 * HOUR),
        ("You will regain access on 2026-11-27 at 00:00 UTC.", 34 * HOUR + SLACK),
        ("regain access on 2026-11-26", 10 * HOUR + SLACK),
        ("resets 2026-11-25T15:30:00Z", 1.5 * HOUR + SLACK),
        ("regain access on 2026-13-45 at 00:00 UTC", None),
        ("regain access on 2026-11-01 at 00:00 UTC", None),
        ("Weekly limit reached ∙ resets Fri 2pm", 48 * HOUR + SLACK),
        ("resets Wed 3:00 PM", HOUR + SLACK),
        ("resets Wed 9am", 163 * HOUR + SLACK),
        ("resets tomorrow at 9am (UTC)", 19 * HOUR + SLACK),
        ("limit resets at 15:45 (UTC)", 1.75 * HOUR + SLACK),
        ("Your limit will reset at 4pm (Europe/Berlin).", HOUR + SLACK),
        ("resets in 2h 30m", 2.5 * HOUR),
        ("try again in 1 day", 24 * HOUR),
        ("try again in 3 hours and 5 minutes", 3 * HOUR + 300),
        ("Please try again at 3:45pm", 1.75 * HOUR + SLACK),
        ("resets Oct 5 at 9am (UTC)", None),
        ("You've hit your limit", None),
        ("resets Feb 31, 3pm (UTC)", None),
        ("resets 3pm (Nowhere/Land)", HOUR + SLACK),
        ("resets 99pm", None),
        ("|9999999999", None),
    ],
)
def test_words(text: str, seconds: float | None) -> None:
    assert seconds_until_reset(text, now=NOW) == seconds


def test_a_time_without_a_zone_is_of_the_zone_that_agents_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's, which this process has besides, is not that of a machine elsewhere."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert AGENT_ENVIRONMENT["TZ"] == "UTC"
        assert seconds_until_reset("resets 3:45pm", now=NOW) == 1.75 * HOUR + SLACK
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_agents_own_event_says_it_best_and_only_a_rejection_counts() -> None:
    parser = ResponseParser()
    line = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed_warning", "resetsAt": 1}}
    parser.feed(json.dumps(line).encode() + b"\n")
    assert parser.limit_resets_at is None
    line["rate_limit_info"] = {"status": "rejected", "resetsAt": NOW.timestamp() + 900}
    parser.feed(json.dumps(line).encode() + b"\n")
    found = seconds_until_reset("resets 3pm (UTC)", now=NOW, resets_at=parser.limit_resets_at)
    assert found == 900 + SLACK
    assert seconds_until_reset("", now=NOW, resets_at=10.0**14) == LONGEST_SECONDS


@pytest.mark.parametrize(
    ("said", "status", "resets_in", "category", "seconds"),
    [
        (Category.RATE_LIMITED, 429, HOUR, Category.RATE_LIMITED, HOUR),
        (Category.RATE_LIMITED, 429, None, Category.RATE_LIMITED, 60.0),
        (Category.RATE_LIMITED, 429, -HOUR, Category.RATE_LIMITED, 60.0),
        (Category.RATE_LIMITED, 529, None, Category.MODEL_OVERLOADED, 60.0),
        (Category.MODEL_UNREACHABLE, 529, 20.0, Category.MODEL_OVERLOADED, 20.0),
        (Category.REPORTED_ERROR, 429, HOUR, Category.RATE_LIMITED, HOUR),
        (Category.NO_RESULT, 429, 10.0**9, Category.RATE_LIMITED, LONGEST_SECONDS),
        (Category.RATE_LIMITED, 400, HOUR, Category.RATE_LIMITED, 60.0),
        (Category.REPORTED_ERROR, 400, None, Category.REPORTED_ERROR, 60.0),
        (Category.CANCELLED, 429, HOUR, Category.CANCELLED, 60.0),
        (Category.TIMED_OUT, 429, HOUR, Category.TIMED_OUT, 60.0),
    ],
)
def test_the_models_own_answer_counts_for_more_than_the_agents_words(
    said: Category, status: int, resets_in: float | None, category: Category, seconds: float
) -> None:
    failure = AgentFailure(said, "Its words.", "Advice.", False, 60.0)
    explained = explained_by_model(failure, status, resets_in)
    assert (explained.category, explained.retry_after_seconds) == (category, seconds)
    assert "Its words." in explained.message
