"""Numbers of a run, read from the rows once everything is at rest: how soon lost steps were taken over."""

from collections.abc import Iterable
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


def takeovers(server: ChaosServer, hits: list[Hit], crashes: list[Crash]) -> list[float]:
    """Seconds from a worker's end to the start of the next run, for each run that was lost with a worker."""
    runs = [_typed(row) for row in server.query(_RUNS)]
    deaths: dict[str, float] = {}  # worker → when
    lost = [run for run in runs if run[6] == "worker_lost"]
    for _, _, worker, started, completed, *_ in lost:
        pid = int(worker.split(":")[1]) if worker.count(":") >= 2 else 0
        ends = [hit.at for hit in hits if pid in hit.pids] + [
            crash.at for crash in crashes if crash.pid == pid
        ]
        if found := [at for at in ends if started - 1 <= at <= completed]:
            deaths[worker] = min([*found, deaths.get(worker, float("inf"))])
    seconds = []
    for order, number, worker, started, *_ in lost:
        begun = [run[3] for run in runs if run[0] == order and run[1] > number]
        died = deaths.get(worker)
        if begun and died is not None and died >= started - 1:
            seconds.append(max(0.0, begun[0] - died))
    return seconds


def _typed(row: tuple[Any, ...]) -> tuple[str, int, str, float, float, str, str]:
    order, number, worker, started, completed, status, category = row
    return order, number, worker, _seconds(started), _seconds(completed), status, category or ""


def _seconds(value: Any) -> float:
    """SQLite's text or Postgres's own, both in UTC."""
    if value is None:
        return float("inf")
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
