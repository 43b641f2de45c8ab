"""What passes between a cluster's processes, without a lock that a killed process could take along.

`multiprocessing`'s queues, events and values hand locks around; where the holder is killed everybody else waits for
ever, as does who wakes an event's waiter that is dead. Here the kernel keeps messages whole and hands each to one
reader, and a flag is one byte of shared memory that is looked at. Only the calls django-q2 makes are offered.
"""

import errno
import multiprocessing
import pickle  # nosec B403  # between our own processes only
import select
import socket
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

MAX_MESSAGE_BYTES = 1024 * 1024
_LOOK_SECONDS = 0.05
_context = multiprocessing.get_context("fork")
_CUT = 2000


class TicketPipe:
    """`buffer_bytes` bounds how much may wait in it; `put` waits for room."""

    def __init__(self, buffer_bytes: int) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)

    def put(self, item: Any) -> None:
        try:
            self._writer.send(pickle.dumps(item))
        except OSError as error:
            if error.errno != errno.EMSGSIZE or not isinstance(item, dict):
                raise
            self._writer.send(pickle.dumps({**item, "result": str(item.get("result"))[:_CUT]}))

    def get(self) -> Any:
        return pickle.loads(self._reader.recv(MAX_MESSAGE_BYTES))  # noqa: S301  # nosec B301  # from our own processes

    def empty(self) -> bool:
        return self._reader.fileno() < 0 or not select.select([self._reader], [], [], 0)[0]

    def qsize(self) -> int:
        """Whether something waits; the kernel does not say how much."""
        return int(not self.empty())

    def close(self) -> None:
        """This process's ends; what was put stays for those who still read."""
        self._reader.close()
        self._writer.close()

    def join_thread(self) -> None:
        """Nothing to wait for."""


class Flag:
    """`multiprocessing.Event`'s calls. `beat` is the moment (monotonic) of the last look of who waits for it."""

    def __init__(self) -> None:
        self._set = _context.Value("b", 0, lock=False)
        self._beat = _context.Value("d", time.monotonic(), lock=False)

    def is_set(self) -> bool:
        return bool(self._set.value)

    def set(self) -> None:
        self._set.value = 1

    def clear(self) -> None:
        self._set.value = 0

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.is_set() and (now := time.monotonic()) < deadline:
            self._beat.value = now
            time.sleep(min(_LOOK_SECONDS, deadline - now))
        return self.is_set()

    @property
    def beat(self) -> float:
        return float(self._beat.value)


class Timer:
    """A worker's time-out as django-q2 keeps it: a number that the worker and its sentinel write."""

    def __init__(self) -> None:
        self._value = _context.Value("f", -1, lock=False)

    @property
    def value(self) -> float:
        return float(self._value.value)

    @value.setter
    def value(self, number: float) -> None:
        self._value.value = number

    def get_lock(self) -> AbstractContextManager[None]:
        return nullcontext()
