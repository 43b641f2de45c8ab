"""Ends the servers of a test run that was killed: nobody else would, for no fixture runs any more then.

A process beside the run reads from a pipe which servers were started. It ends those that are left when the pipe closes,
as it does however the run ends. Run as a program it is that process; it needs no module of the project.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_PATIENCE_SECONDS = 20.0  # a server stops its workers and they their agents
_LOOK_SECONDS = 0.1
_starting = threading.Lock()
_writers: dict[int, int] = {}  # by the process that has it: a forked one gets its own


def hold(process: "subprocess.Popen[bytes]", *, number: int = signal.SIGTERM) -> None:
    """Let `process` get the signal when this process has ended without ending it, and SIGKILL if that is no use."""
    line = f"{process.pid} {started_at(process.pid)} {int(number)}\n"
    with suppress(BrokenPipeError):  # somebody has killed the other side
        os.write(_writer(), line.encode())


def started_at(pid: int) -> str:
    """In the kernel's ticks since its start; '' for a process that is gone. With the number it names one process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _writer() -> int:
    with _starting:
        if os.getpid() not in _writers:
            reader, _writers[os.getpid()] = os.pipe()
            subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            os.close(reader)
        return _writers[os.getpid()]


def main() -> None:
    left = [line.split() for line in sys.stdin.read().splitlines()]
    alive = [(int(pid), begun, int(number)) for pid, begun, number in left if started_at(int(pid)) == begun]
    for pid, _begun, number in alive:
        _signal(pid, number)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(_lives(pid, begun) for pid, begun, _number in alive) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    for pid, begun, _number in alive:
        if _lives(pid, begun):
            _signal(pid, signal.SIGKILL)


def _lives(pid: int, begun: str) -> bool:
    return started_at(pid) == begun


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    main()
