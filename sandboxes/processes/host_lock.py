"""Locks between the processes of one host."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxes.errors import LockTimeout, LockWaitStopped
from sandboxes.processes.run import step_is_stopped

LOCK_SECONDS = 300.0
_POLL_SECONDS = 0.01


@contextmanager
def exclusive_lock(path: Path, *, timeout_seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """A lock between processes of this host, gone with its holder. Raises `LockTimeout`.

    A step that is stopped while it waits gets `LockWaitStopped` at once: its holder may be at work for minutes.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout_seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimeout(
                        f"Another step held the lock {path.name} for over {timeout_seconds:.0f} s."
                    ) from None
                if step_is_stopped():
                    raise LockWaitStopped(
                        f"The step was stopped while another one held the lock {path.name}."
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
