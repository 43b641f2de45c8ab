"""What runs beside a command begins with it, and what git has shown of ancestors is not asked for again."""

import time
from pathlib import Path

import pytest

from sandboxes.processes import run as process
from sandboxes.processes.concurrency import after_start
from sandboxes.processes.run import ProcessLimits
from sandboxes.trusted_git.git import GitSettings, TrustedGit


def test_what_is_beside_begins_while_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxes.processes.concurrency._SOON_SECONDS", 20)
    times: dict[str, float] = {}

    def here() -> None:
        time.sleep(0.2)
        times["started"] = time.monotonic()
        process.run(["sleep", "1"], env={"PATH": "/usr/bin:/bin"}, limits=ProcessLimits(total_seconds=10))
        times["ended"] = time.monotonic()

    after_start(here, lambda: times.update(beside=time.monotonic()))
    assert times["started"] < times["beside"] < times["ended"]


def test_it_begins_too_where_no_command_starts() -> None:
    began: list[bool] = []

    def fails() -> None:
        raise ValueError("no command")

    with pytest.raises(ValueError, match="no command"):
        after_start(fails, lambda: began.append(True))
    assert began == [True]


def test_a_descent_that_was_shown_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = TrustedGit(GitSettings())
    git.note_descent(tmp_path, "a" * 40, "b" * 40)
    monkeypatch.setattr(TrustedGit, "run", lambda *_args, **_more: pytest.fail("git was asked"))
    assert git.is_ancestor(tmp_path, "a" * 40, "b" * 40)
    for asked in ((tmp_path, "b" * 40, "a" * 40), (tmp_path / "other", "a" * 40, "b" * 40)):
        with pytest.raises(pytest.fail.Exception):
            git.is_ancestor(*asked)
