"""Wakes the processes of this host that wait for something to do, so that they need not look all the time.

A doorbell is a named pipe that one process listens to; whoever commits work writes a byte to each. It promises
nothing: a ring may be lost or come for nothing, and processes of other hosts hear none. They look now and then.
"""

import errno
import os
import select
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from uuid import uuid4


class Listener(StrEnum):
    """Who listens: its doorbells' names begin with the value, and no value begins with another."""

    SUPERVISOR = "doorbell-"  # rung when a step may have become claimable
    BROKER = "ticketbell-"  # rung when a message was queued


def ring_all(folder: Path, listener: Listener = Listener.SUPERVISOR, *, but: Path | None = None) -> None:
    """Ring every such doorbell in `folder` but one; one that nobody listens to any more is taken away."""
    for path in folder.glob(f"{listener}*"):
        if path == but:
            continue
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if (
                error.errno == errno.ENXIO
            ):  # its owner has died; else the fault is ours: it may still be heard
                with suppress(OSError):
                    path.unlink()
            continue
        try:
            _write(descriptor)
        finally:
            os.close(descriptor)


def is_heard(folder: Path, listener: Listener) -> bool:
    """Whether there is such a doorbell; its owner may have died since somebody rang."""
    return any(folder.glob(f"{listener}*"))


def _write(descriptor: int) -> None:
    with suppress(OSError):  # full: it has been rung often enough
        os.write(descriptor, b"!")


class Doorbell:
    """Listens. Where the folder takes no pipes, it hears nothing."""

    def __init__(self, folder: Path, listener: Listener = Listener.SUPERVISOR) -> None:
        self._folder = folder
        self._listener = listener
        self._path: Path | None = folder / f"{listener}{os.getpid()}-{uuid4().hex[:8]}"
        try:
            self._listen(self._path)
        except OSError:
            self._path = None
            self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller = select.poll()
        self._poller.register(self._reader, select.POLLIN)

    def _listen(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unheard = path.with_name(f".{path.name}")  # nobody finds it before somebody listens
        os.mkfifo(unheard, 0o600)
        try:
            # for both, so that it never ends when a writer closes its side
            self._reader = self._writer = os.open(unheard, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            unheard.rename(path)
        except OSError:
            unheard.unlink(missing_ok=True)
            raise

    def ring_others(self) -> None:
        ring_all(self._folder, self._listener, but=self._path)

    def wait(self, seconds: float) -> bool:
        """Whether it rang within that time; all rings until now count as one."""
        rung = bool(self._poller.poll(seconds * 1000))
        if rung:
            with suppress(OSError):
                os.read(self._reader, 65536)
        return rung

    def close(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        for descriptor in {self._reader, self._writer}:
            os.close(descriptor)
