"""The judge of a chaos run: no failure is excused before the retry table's attempts are used up."""

import pytest

from tests.chaos.excuses import Run, had_its_attempts


def runs(status: str, category: str, count: int, *, phase: str = "planning") -> list[Run]:
    return [Run("phase", phase, status, category)] * count


@pytest.mark.parametrize(
    ("found", "category", "excused"),
    [
        (runs("failed", "git_failed", 3), "git_failed", True),
        (runs("failed", "git_failed", 2), "git_failed", False),
        (runs("failed", "agent_killed", 2) + runs("failed", "git_failed", 1), "git_failed", True),
        (
            runs("failed", "git_failed", 2, phase="testing") + runs("failed", "git_failed", 1),
            "git_failed",
            False,
        ),
        (runs("interrupted", "worker_lost", 3) + runs("failed", "worker_lost", 1), "worker_lost", True),
        (runs("interrupted", "worker_lost", 2) + runs("failed", "worker_lost", 1), "worker_lost", False),
        (runs("interrupted", "", 3) + runs("failed", "worker_lost", 1), "worker_lost", False),
        (runs("failed", "github_rate_limited", 9), "github_rate_limited", False),
        (runs("failed", "agent_reported_error", 1), "agent_reported_error", True),
    ],
)
def test_a_failure_is_excused_after_all_its_attempts(
    found: list[Run], category: str, *, excused: bool
) -> None:
    assert had_its_attempts(found, category) is excused
