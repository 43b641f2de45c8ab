"""Finds supervisors that no longer turn, and tells them from those that only get no processor.

Late is not dead: while this process gets its own turns late, or the machine's processors are asked for by far more
than they can serve, the watchdog's clock runs at a quarter of its speed. After ten leases of real time it says so all
the same.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workorders.queueing.liveness import Tick

LATE_SECONDS = 0.5
PRESSURE_PERCENT = 60.0
SLOWED_DOWN = 0.25
_ALL_THE_SAME_LEASES = 10
_GRACE_SECONDS = 2.0
_PRESSURE_FILES = (Path("/proc/pressure/cpu"), Path("/sys/fs/cgroup/cpu.pressure"))


def cpu_pressure() -> float:
    """Percent of the last ten seconds in which something waited for a processor; 0 where the kernel does not tell."""
    for path in _PRESSURE_FILES:
        with suppress(OSError, ValueError, IndexError):
            return float(path.read_text().partition("avg10=")[2].split()[0])
    return 0.0


@dataclass
class _Patience:
    """With one tick: since when it stands, and for how long by the watchdog's own clock."""

    tick: Tick
    since: float
    silent: float = 0.0


@dataclass(frozen=True)
class Silent:
    """A process to be replaced. `under_pressure`: the machine was so busy that this says nothing of its work."""

    pid: int
    seconds: float
    under_pressure: bool


class Watchdog:
    """To be asked again and again, several times a second; asks no database. Remembers what it has seen."""

    def __init__(
        self,
        lease_seconds: float,
        *,
        pressure: Callable[[], float] = cpu_pressure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = lease_seconds + _GRACE_SECONDS
        self._all_the_same = lease_seconds * _ALL_THE_SAME_LEASES
        self._pressure = pressure
        self._clock = clock
        self._looked_at = clock()
        self._pressed_until = 0.0
        self._seen: dict[int, _Patience] = {}

    @property
    def is_under_pressure(self) -> bool:
        """Now, or so shortly ago that what is seen now comes of it."""
        return self._looked_at < self._pressed_until

    def look(self, ticks: Iterable[Tick], *, late_seconds: float = 0.0) -> list[Silent]:
        """Those that have been silent for longer than a lease. `late_seconds`: how late somebody else had his turn."""
        now = self._clock()
        passed, self._looked_at = now - self._looked_at, now
        if max(passed, late_seconds) > LATE_SECONDS or self._pressure() > PRESSURE_PERCENT:
            self._pressed_until = now + self._limit
        speed = SLOWED_DOWN if self.is_under_pressure else 1.0
        before, self._seen = self._seen, {}
        for tick in ticks:
            known = before.get(tick.pid)
            if known is None or known.tick != tick:
                self._seen[tick.pid] = _Patience(tick, now)
                continue
            known.silent += passed * speed
            self._seen[tick.pid] = known
        return [
            Silent(pid, now - known.since, self.is_under_pressure)
            for pid, known in self._seen.items()
            if known.silent > self._limit or now - known.since > self._all_the_same
        ]
