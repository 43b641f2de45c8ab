"""The doorbell: heard across processes of a host, harmless where nobody listens."""

import errno
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from workorders.queueing.doorbell import Doorbell, Listener, is_heard, ring_all

SECONDS = 5.0


def test_rings_of_other_processes_are_heard_once(tmp_path: Path) -> None:
    one, other = Doorbell(tmp_path), Doorbell(tmp_path)
    assert not one.wait(0)
    code = "import pathlib, sys; from workorders.queueing.doorbell import ring_all; ring_all(pathlib.Path(sys.argv[1]))"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=30)
    assert one.wait(SECONDS)
    assert other.wait(SECONDS)
    assert not one.wait(0)
    one.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_a_ring_ends_a_wait(tmp_path: Path) -> None:
    doorbell = Doorbell(tmp_path)
    started = time.monotonic()
    threading.Timer(0.05, ring_all, [tmp_path]).start()
    assert doorbell.wait(30)
    assert time.monotonic() - started < SECONDS
    doorbell.close()


def test_one_that_nobody_hears_any_more_is_taken_away(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "doorbell-1-dead")
    ring_all(tmp_path)
    assert list(tmp_path.iterdir()) == []
    ring_all(tmp_path / "missing")


def test_one_is_kept_that_the_ringer_could_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_descriptors(*_arguments: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    doorbell = Doorbell(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", out_of_descriptors)
        ring_all(tmp_path)
    ring_all(tmp_path)
    assert doorbell.wait(0)
    doorbell.close()


def test_each_kind_of_listener_hears_its_own(tmp_path: Path) -> None:
    doorbells = {}
    for listener in Listener:
        assert not is_heard(tmp_path, listener)
        doorbells[listener] = Doorbell(tmp_path, listener)
        assert is_heard(tmp_path, listener)
    for listener in Listener:
        ring_all(tmp_path, listener)
        assert [other for other, doorbell in doorbells.items() if doorbell.wait(0)] == [listener]
    for doorbell in doorbells.values():
        doorbell.ring_others()
        assert not any(other.wait(0) for other in doorbells.values())
    for doorbell in doorbells.values():
        doorbell.close()


def test_a_full_one_does_not_block(tmp_path: Path) -> None:
    doorbell = Doorbell(tmp_path)
    writer = os.open(next(tmp_path.iterdir()), os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"!" * 1000)
    os.close(writer)
    ring_all(tmp_path)
    assert doorbell.wait(0)
    doorbell.close()


def test_where_the_folder_takes_no_pipe_it_hears_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    doorbell = Doorbell(tmp_path / "file" / "run")
    assert not doorbell.wait(0.01)
    doorbell.close()
