"""Signs of life that heavy load cannot fake away: each supervisor's own tick in memory that its cluster shares.

A supervisor ticks at every turn of its loop. Nothing of it goes through the database, a disk or a queue, all of which
other work may hold up. The memory is made when this module is first imported, before a cluster forks.
"""

import mmap
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_SLOTS = 256
_CELL = struct.Struct("=qd")  # process id, moment; one process writes each cell


@dataclass(frozen=True)
class Tick:
    """A supervisor's process and the moment (monotonic, the same clock in all processes) of its last turn."""

    pid: int
    at: float


class Ticks:
    """A cell for each supervisor of a cluster."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, MOST_SLOTS * _CELL.size)

    def ticker(self, slot: int, pid: int) -> Callable[[], None]:
        """For a supervisor: what it calls at every turn."""
        return lambda: _CELL.pack_into(self._memory, slot * _CELL.size, pid, time.monotonic())

    def forget(self, slot: int) -> None:
        """It has ended as it should."""
        _CELL.pack_into(self._memory, slot * _CELL.size, 0, 0.0)

    def read(self) -> list[Tick]:
        """Those of supervisors that have not said goodbye; a process that was killed is among them."""
        cells = (_CELL.unpack_from(self._memory, slot * _CELL.size) for slot in range(MOST_SLOTS))
        return [Tick(pid, at) for pid, at in cells if pid]
