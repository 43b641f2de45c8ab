"""A number of places on this host that processes share: whoever finds none free waits. Gone with who holds it."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POLL_SECONDS = 0.02


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
