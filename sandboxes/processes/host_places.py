"""What processes of this host share out among themselves: a number of places, and its processors' time.

A place is gone with who holds it. Who finds none free waits.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL_SECONDS = 0.02
_LOAD = Path("/proc/loadavg")
_BUSY = 3  # threads for each processor: so many have enough to do, should some wait for the disk


class HostPlaces:
    """`count` places, a lock file each in `folder`. Threads of one process queue up for one look at the files."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._looking = threading.Lock()

    @contextmanager
    def one(
        self, check: Callable[[], None], left: Callable[[], None] = lambda: None
    ) -> Iterator[Callable[[], None]]:
        """Hold a place; the caller may leave it early by calling what it gets. `check` is asked while it waits.

        `left` is called when it has been left. Raises what `check` raises.
        """
        descriptor = self._take(check)
        leaving = threading.Lock()

        def leave() -> None:
            nonlocal descriptor
            with leaving:
                if descriptor < 0:
                    return
                os.close(descriptor)
                descriptor = -1
            left()

        try:
            yield leave
        finally:
            leave()

    def _take(self, check: Callable[[], None]) -> int:
        while not self._looking.acquire(timeout=_POLL_SECONDS):
            check()
        try:
            while (found := self._try()) is None:
                check()
                time.sleep(_POLL_SECONDS)
            return found
        finally:
            self._looking.release()

    def _try(self) -> int | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(self._count):
            descriptor = os.open(
                self._folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            os.close(descriptor)
        return None


class ProcessorRoom:
    """Tells whether this host's processors have room for new work, beside the work that was begun.

    Work begun earlier ends earlier where new work waits for room, and all of it takes no longer. So that new work is
    never shut out by other programs, some may begin in each `patience_seconds` whatever the load.
    """

    def __init__(self, note: Path, *, patience_seconds: float = 1.0, load: Path = _LOAD) -> None:
        """`note`: a file that all processes of the server on this host share."""
        self._note = note
        self._patience = patience_seconds
        self._load = load

    def is_there(self) -> bool:
        return self._waiting_threads() < _BUSY * len(os.sched_getaffinity(0)) or self._is_due()

    def take(self) -> None:
        """New work begins now."""
        self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._note.touch(mode=0o600)

    def _waiting_threads(self) -> int:
        """How many others run or could at this moment; 0 where this kernel does not tell."""
        try:
            return int(self._load.read_text().split()[3].partition("/")[0]) - 1
        except (OSError, ValueError, IndexError):
            return 0

    def _is_due(self) -> bool:
        try:
            passed = time.time() - self._note.stat().st_mtime
        except OSError:  # nobody has begun anything yet
            return True
        return not 0 <= passed < self._patience  # a clock that was set back holds nobody up
