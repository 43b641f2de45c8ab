"""Processes that a signal has stopped are told from those that work, without the database."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.harness import wait_for
from workorders.management.cluster import stopped
from workorders.management.cluster.stopped import StoppedProcesses


@pytest.fixture
def process() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        yield sleeper.pid
        sleeper.kill()


def test_a_process_counts_after_it_has_stood_still_for_a_while(
    process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = StoppedProcesses()
    monkeypatch.setattr(stopped, "STOPPED_SECONDS", 0.2)
    assert looks.among([process]) == []
    os.kill(process, signal.SIGSTOP)
    os.waitpid(process, os.WUNTRACED)
    assert looks.among([process, 2**22 + 1]) == [], "only since this look"
    wait_for(lambda: looks.among([process]) == [process], 5, "the time a process may stand still")
    os.kill(process, signal.SIGCONT)
    wait_for(lambda: looks.among([process]) == [], 5, "the process to go on")
    os.kill(process, signal.SIGSTOP)
    os.waitpid(process, os.WUNTRACED)
    assert looks.among([process]) == [], "an earlier stop is forgotten"
