"""A real `serve` to measure, and the times an order leaves in its log file (so that looking costs it nothing)."""

import json
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.harness import LiveServer, wait_for

AGENT_ARGV = (sys.executable, "-I", "-S", str(Path(__file__).with_name("agent.py")))
_LAST_EVENTS = ("agent_work_order_completed", "agent_work_order_failed", "agent_work_order_cancelled")


@dataclass(frozen=True)
class Event:
    """A line of an order's log file; `at` is seconds since 1970."""

    name: str
    at: float
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class OrderTimes:
    """One order as seen from outside: when it was posted, and its events, the last of which ended it."""

    order_id: str
    posted_at: float
    events: tuple[Event, ...]

    @property
    def seconds(self) -> float:
        return self.events[-1].at - self.posted_at

    @property
    def agent_runs(self) -> list[tuple[float, float]]:
        """Start and end of each run, by the benchmark agent's own clock."""
        runs = [json.loads(event.fields["summary"]) for event in self.events if event.name == "agent_result"]
        return [(run["started"], run["ended"]) for run in runs]

    @property
    def agent_seconds(self) -> float:
        return sum(ended - started for started, ended in self.agent_runs)


class MeasuredServer(LiveServer):
    """`serve` on local repositories with the benchmark's agent, or another one."""

    def __init__(
        self,
        folder: Path,
        *,
        agent: str = shlex.join(AGENT_ARGV),
        workers: int = 4,
        lease: int = 30,
        database_url: str = "",
    ) -> None:
        environment = {
            "WORKORDERS_LEASE_SECONDS": str(lease),
            "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
            "WORKORDERS_AGENT_COMMAND": agent,
            "WORKORDERS_WORKERS": str(workers),
        }
        super().__init__(folder, environment, database_url)

    def measure(self, remote: Path, *, seconds: float = 120, **fields: Any) -> OrderTimes:
        """One order from its POST to its end."""
        posted_at = time.time()
        order_id = self.create(repository_url=str(remote), **fields)["agent_work_order_id"]
        events = wait_for(lambda: self._ended(order_id), seconds, f"the end of {order_id}\n{self.tail()}")
        if events[-1].name != "agent_work_order_completed":
            raise RuntimeError(f"{order_id} did not complete: {events[-1]}")
        return OrderTimes(order_id, posted_at, events)

    def _ended(self, order_id: str) -> tuple[Event, ...] | None:
        events = self.order_events(order_id)
        return events if events and events[-1].name in _LAST_EVENTS else None

    def order_events(self, order_id: str) -> tuple[Event, ...]:
        found = []
        for file in sorted((self.data_dir / "logs" / "agent_work_orders").glob(f"*/{order_id}.jsonl")):
            for line in file.read_text().splitlines():
                fields = json.loads(line)
                found.append(Event(fields["event"], _seconds(fields["timestamp"]), fields))
        return tuple(sorted(found, key=lambda event: event.at))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
