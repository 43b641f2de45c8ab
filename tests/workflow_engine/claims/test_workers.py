"""Who works and who has died: locks that end with their holders."""

import fcntl
import socket
from pathlib import Path

import pytest

from workorders.workflow_engine.claims.workers import (
    Death,
    dead_workers,
    forget_death,
    note_replacement,
    signed_on,
)

ME = f"{socket.gethostname()}:17:1"


def die(folder: Path, name: str) -> None:
    """Leave the lock's file with nobody holding it, as a killed process does."""
    with pytest.raises(RuntimeError), signed_on(folder, name):
        raise RuntimeError


def test_nobody_sees_a_worker_before_it_holds_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Death]] = []

    def flock(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_SH:
            seen.append(dead_workers(tmp_path))
        locked(descriptor, operation)

    locked = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with signed_on(tmp_path, ME):
        assert dead_workers(tmp_path) == []
    assert seen == [[]]


def test_a_death_is_seen_until_it_is_forgotten(tmp_path: Path) -> None:
    with signed_on(tmp_path / "run", ME):
        assert dead_workers(tmp_path / "run") == []
    assert dead_workers(tmp_path / "run") == [], "it left as it should"
    die(tmp_path / "run", ME)
    assert dead_workers(tmp_path / "run") == [Death(ME)]
    assert dead_workers(tmp_path / "run") == [Death(ME)]
    forget_death(tmp_path / "run", ME)
    assert dead_workers(tmp_path / "run") == []


@pytest.mark.parametrize("excused", [True, False])
def test_whom_the_cluster_ended_itself_is_told_from_who_died(tmp_path: Path, excused: bool) -> None:
    die(tmp_path, ME)
    note_replacement(tmp_path, 17, excused=excused)
    assert dead_workers(tmp_path) == [Death(ME, replaced=True, excused=excused)]
    forget_death(tmp_path, ME)
    assert list(tmp_path.iterdir()) == [], "the next process of this id is another one"


def test_other_hosts_workers_are_not_judged(tmp_path: Path) -> None:
    die(tmp_path, "elsewhere:17:1")
    assert dead_workers(tmp_path) == []


def test_no_folder_and_no_file_are_no_deaths(tmp_path: Path) -> None:
    assert dead_workers(tmp_path / "none") == []
    forget_death(tmp_path / "none", ME)
