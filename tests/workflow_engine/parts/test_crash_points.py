"""Crash points: nothing without a name, SIGKILL at the named place, once where a marker is given."""

import os
import signal
from pathlib import Path

import pytest

from workorders.workflow_engine.parts.crash_points import POINTS, CrashEntry, CrashPoints, parse_crash_points

BRANCH = "feat-issue-7-wo-abcd2345"


def died_at(points: CrashPoints, name: str, branch: str = BRANCH) -> bool:
    """Whether a process that comes by that place is gone without a farewell."""
    pid = os.fork()
    if pid == 0:
        points(name, branch)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_nothing_happens_without_a_name() -> None:
    for name in POINTS:
        parse_crash_points("")(name, BRANCH)


def test_only_the_named_place_kills() -> None:
    points = parse_crash_points("pushed")
    points("claimed", BRANCH)
    assert died_at(points, "pushed")
    assert died_at(points, "pushed")


def test_a_marker_lets_a_restarted_worker_go_on(tmp_path: Path) -> None:
    marker = tmp_path / "pushed"
    points = parse_crash_points(f"pushed/issue-7@{marker}, cleaning@{tmp_path / 'cleaning'}")
    assert not died_at(points, "pushed", "feat-issue-8-wo-abcd2345")
    assert died_at(points, "pushed")
    assert marker.exists()
    assert not died_at(points, "pushed")
    assert points.entries[1] == CrashEntry("cleaning", "", tmp_path / "cleaning")


def test_a_misspelt_place_is_refused() -> None:
    with pytest.raises(ValueError, match="'pusht' is none of claimed"):
        parse_crash_points("pusht")
