"""Numbers of a run, read from the rows once everything is at rest: how soon lost steps were taken over."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.chaos.clusters import ChaosServer
from tests.chaos.crashes import Crash
from tests.chaos.disruptions import Hit

_RUNS = """
SELECT o.agent_work_order_id, r.sequence, r.worker, r.started_at, r.completed_at, r.status, r.error_category
FROM workorders_phaserun r JOIN workorders_agentworkorder o ON o.id = r.agent_work_order_id
ORDER BY o.id, r.sequence
"""


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True)
class LostRun:
    """A run that was lost with its worker. Times as `time.time()`; `taken_over_at` is None where nobody began another.

    `cause`: what was done to the worker, or the place where some step of it died.
    """

    order_id: str
    sequence: int
    worker: str
    died_at: float
    cause: str
    taken_over_at: float | None

    @property
    def seconds(self) -> float:
        """From the worker's end to the start of the next run."""
        return max(0.0, (self.taken_over_at or self.died_at) - self.died_at)

    def __str__(self) -> str:
        died = datetime.fromtimestamp(self.died_at, UTC).time().isoformat("milliseconds")
        whose = f"run {self.sequence} of {self.order_id}"
        return f"{self.seconds:.1f} s for {whose}; {self.worker} died {died} by {self.cause}"


def lost_runs(server: ChaosServer, hits: list[Hit], crashes: list[Crash]) -> list[LostRun]:
    """All of which it is known when and why their workers ended."""
    runs = [_typed(row) for row in server.query(_RUNS)]
    deaths: dict[str, tuple[float, str]] = {}  # worker → when, by what
    lost = [run for run in runs if run[6] == "worker_lost" and run[5] == "interrupted"]
    for _, _, worker, started, completed, *_ in lost:
        pid = int(worker.split(":")[1]) if worker.count(":") >= 2 else 0
        ends = [(hit.at, hit.kind) for hit in hits if pid in hit.pids]
        ends += [(crash.at, crash.point) for crash in crashes if crash.pid == pid]
        if found := [end for end in ends if started - 1 <= end[0] <= completed]:
            deaths[worker] = min([*found, deaths.get(worker, (float("inf"), ""))])
    seen = []
    for order, number, worker, started, *_ in lost:
        begun = [run[3] for run in runs if run[0] == order and run[1] > number]
        died, cause = deaths.get(worker, (float("-inf"), ""))
        if died >= started - 1:
            seen.append(LostRun(order, number, worker, died, cause, begun[0] if begun else None))
    return seen


def _typed(row: tuple[Any, ...]) -> tuple[str, int, str, float, float, str, str]:
    order, number, worker, started, completed, status, category = row
    return order, number, worker, _seconds(started), _seconds(completed), status, category or ""


def _seconds(value: Any) -> float:
    """SQLite's text or Postgres's own, both in UTC."""
    if value is None:
        return float("inf")
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
