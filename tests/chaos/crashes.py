"""Crash points that work once each, one after the other, so that each part of a run has its share of them.

A point's file keeps it from working while it is there. It is there at first, is taken away in its turn, and comes back
with the id of the process that has died.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workorders.workflow_engine.parts.crash_points import POINTS


@dataclass(frozen=True)
class Crash:
    """A worker's death at a point; `at` is `time.time()`."""

    point: str
    pid: int
    at: float


class Crashes:
    """`points` in a random order, spread over `starts` starts of agents."""

    def __init__(self, folder: Path, points: Sequence[str], *, starts: float, dice: random.Random) -> None:
        names = [f"{number}-{point}" for number, point in enumerate(points)]
        self._folder = folder
        self._waiting = [folder / name for name in dice.sample(names, len(names))]
        self._every = starts / (len(names) + 1)
        self._next = self._every
        folder.mkdir(parents=True)
        for path in self._waiting:
            path.touch()
        self.setting = ",".join(f"{_point(path)}@{path}" for path in self._waiting)

    def arm(self, started: int) -> None:
        """Let those work whose turn it is once so many agents have started."""
        while self._waiting and started >= self._next:
            self._waiting.pop().unlink()
            self._next += self._every

    def worked(self) -> list[Crash]:
        done = [path for path in self._folder.iterdir() if path.stat().st_size]
        return [Crash(_point(path), int(path.read_text()), path.stat().st_mtime) for path in done]


def points_for(orders: int, steps: float, faults: float, dice: random.Random) -> list[str]:
    """Each point as often as `faults` says of so many steps; few orders get some of the points only."""
    if faults <= 0:
        return []
    points = list(POINTS) if orders >= len(POINTS) else dice.sample(POINTS, max(2, orders // 3))
    return points * max(1, round(steps * faults / len(POINTS)))


def _point(path: Path) -> str:
    return path.name.partition("-")[2]
