"""Who may work in one workspace of this host: one attempt at a time, and none before the last one's processes are gone.

The lock file holds the number of the attempt that works there now. Every command gets a shared lock on it as an open
descriptor that only the command's own process tree keeps; a new attempt needs the lock for itself alone. So what a
dead or stopped worker left running keeps the next attempt out, which ends it and then goes on.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandboxes.errors import WorkspaceBusy
from sandboxes.processes.guard import end_tagged, processes_holding
from sandboxes.processes.run import step_is_stopped

TAKE_OVER_SECONDS = 15.0
_SHARE_SECONDS = 5.0
_PAUSE_SECONDS = 0.02


class WorkspaceLock:
    """`attempt` grows with every claim of the order; `tag_prefix` is on every process started in the workspace."""

    def __init__(self, path: Path, *, attempt: int, tag_prefix: str) -> None:
        self._path = path
        self._attempt = attempt
        self._tag_prefix = tag_prefix

    def take_over(self, *, sweep: bool) -> None:
        """Make the workspace this attempt's, once nothing of an earlier one runs there; that is ended here.

        `sweep` also looks for processes that have let go of the lock. Raises `WorkspaceBusy` where a later attempt
        has it, or where something does not end in time, which is at once for a step that is stopped.
        """
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        if sweep:
            end_tagged(self._tag_prefix)
        while not self._written():
            if time.monotonic() > deadline or step_is_stopped():
                raise WorkspaceBusy(f"Processes of an earlier attempt still use {self._path.stem}.")
            end_tagged(self._tag_prefix, within_seconds=1.0)
            for pid in processes_holding(self._path):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_PAUSE_SECONDS)

    def _written(self) -> bool:
        """Whether the lock was free and now names this attempt."""
        with self._opened(os.O_RDWR | os.O_CREAT) as descriptor:
            if not _locked(descriptor, fcntl.LOCK_EX, self._path):
                return False
            held_by = _number(descriptor)
            if held_by > self._attempt:
                raise WorkspaceBusy(
                    f"Attempt {held_by} has taken {self._path.stem} over from {self._attempt}."
                )
            if held_by != self._attempt:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(self._attempt).encode(), 0)
            return True

    def share(self) -> int:
        """A descriptor for one command's process tree. Raises `WorkspaceBusy` for another attempt's workspace."""
        deadline = time.monotonic() + _SHARE_SECONDS
        while True:
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise WorkspaceBusy(f"{self._path.stem} is not this attempt's workspace.") from None
            if _locked(descriptor, fcntl.LOCK_SH, self._path):
                break
            os.close(descriptor)
            if time.monotonic() > deadline:
                raise WorkspaceBusy(f"Another attempt is taking {self._path.stem} over.")
            time.sleep(_PAUSE_SECONDS)
        if _number(descriptor) != self._attempt:
            os.close(descriptor)
            raise WorkspaceBusy(f"{self._path.stem} belongs to another attempt by now.")
        return descriptor

    def is_ours(self) -> bool:
        try:
            return int(self._path.read_text() or "-1") == self._attempt
        except (OSError, ValueError):
            return False

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, flags | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def remove_if_free(path: Path) -> bool:
    """Remove the lock file of a workspace nobody uses."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not _locked(descriptor, fcntl.LOCK_EX, path):
            return False
        path.unlink()
        return True
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int, path: Path) -> bool:
    """Locked, and still the file of that name: whoever removes it holds the lock, and then it is another file."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _number(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0)
    return int(text) if text.isdigit() else -1
