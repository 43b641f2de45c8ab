"""A test run that is killed leaves no server behind."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import lifeline
from tests.e2e.harness import ROOT, processes_with, wait_for

RUN = """
import sys, time
from pathlib import Path
from tests.e2e.harness import LiveServer
with LiveServer(Path(sys.argv[1]), {"WORKORDERS_WORKERS": "1"}) as server:
    print("ready", flush=True)
    time.sleep(300)
"""


def test_a_server_ends_after_its_run_was_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", RUN, str(tmp_path / "server")]
    with (tmp_path / "said").open("wb") as said:
        run = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n", (tmp_path / "said").read_text()
        assert len(processes_with(str(tmp_path / "server"))) > 2
    finally:
        run.kill()
        run.wait()
        assert run.stdout is not None
        run.stdout.close()
    wait_for(lambda: not processes_with(str(tmp_path / "server")), 40, "the end of the server")


def test_a_process_that_hears_no_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setattr(lifeline, "_PATIENCE_SECONDS", 0.3)
        end_what_is_left(monkeypatch, process.pid, lifeline.started_at(process.pid))
        assert process.wait(10) == -signal.SIGKILL


def test_another_process_with_the_same_number_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    end_what_is_left(monkeypatch, os.getpid(), "1")


def end_what_is_left(monkeypatch: pytest.MonkeyPatch, pid: int, begun: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{pid} {begun} {int(signal.SIGTERM)}\n"))
    lifeline.main()
