"""120 rehearsal orders at once beside a spinner on each core: with 8 workers (the floor), and with 100.

All must complete, no worker be replaced, none lost, and many workers must not take 1.3 times as long as few. Then the
same orders with 16 workers and nothing beside: the mean time to completion, whose floor is the same of another checkout
where WORKORDERS_BENCH_AGAINST names one (an earlier release), else half of the time until the last was complete.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Limit, Row
from tests.benchmarks.repositories import make_remote
from tests.e2e import harness
from tests.e2e.harness import FINISHED, LiveServer, wait_for

ORDERS, FEW, SOME, MANY = 120, 8, 16, 100
_SPINNER = "import os\nwhile os.getppid() == int(os.environ['PARENT']): sum(range(10000))"


@dataclass(frozen=True)
class Outcome:
    """Seconds from the first order's acceptance to the last one's end, and to each one's."""

    wall: float
    ends: list[float]
    unfinished: int
    replaced: int
    lost: int


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    orders = 2 if tiny else ORDERS
    with spinners(0 if tiny else os.cpu_count() or 1):  # a test suite beside it is load enough
        few = drive(folder / "few", workers=1 if tiny else FEW, orders=orders)
        many = drive(folder / "many", workers=2 if tiny else MANY, orders=orders)
    beside = Row(
        what=f"overload: {orders} orders with {MANY} workers beside a spinner on each core",
        values=[many.wall],
        floor_values=[few.wall],
        floor_is=f"the same with {FEW} workers, of which {few.unfinished} did not complete",
        unit="s",
        limits=(
            Limit("not completed = 0", many.unfinished, 0),
            Limit("workers replaced = 0", many.replaced, 0),
            Limit("steps that lost their worker = 0", many.lost, 0),
            Limit("at most 1.3 times as long", many.wall / few.wall, 1.3),
        ),
    )
    return [beside, _mean_completion(folder, 2 if tiny else SOME, orders)]


def _mean_completion(folder: Path, workers: int, orders: int) -> Row:
    ours = drive(folder / "ours", workers=workers, orders=orders)
    against = os.environ.get("WORKORDERS_BENCH_AGAINST", "")
    theirs = (
        drive(folder / "theirs", workers=workers, orders=orders, checkout=Path(against)) if against else ours
    )
    mean, other = sum(ours.ends) / orders, sum(theirs.ends) / orders if against else ours.wall / 2
    return Row(
        what=f"overload: mean completion of {orders} orders with {SOME} workers",
        values=[mean],
        floor_values=[other],
        floor_is=f"that of {against}" if against else "half of the time until the last",
        unit="s",
        limits=(Limit("at most 0.65 times", mean / other, 0.65),) if against else (),
        notes=(f"the last after {ours.wall:.1f} s" + (f", there {theirs.wall:.1f} s" if against else ""),),
    )


def drive(
    folder: Path, *, workers: int, orders: int, lease: int = 30, checkout: Path = harness.ROOT
) -> Outcome:
    """All of them on one server of their own."""
    remote = make_remote(folder / "remote.git")
    environment = {
        "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
        "WORKORDERS_WORKERS": str(workers),
        "WORKORDERS_LEASE_SECONDS": str(lease),
        "WORKORDERS_AGENT_COMMAND": f"{sys.executable} {checkout}/workorders/agent_executor/rehearsal_agent.py",
    }
    server = (
        _Elsewhere(folder / "server", environment, checkout)
        if checkout != harness.ROOT
        else LiveServer(folder / "server", environment)
    )
    with server:
        started = time.time()
        ids = [server.create(repository_url=str(remote))["agent_work_order_id"] for _ in range(orders)]
        found = [wait_for(partial(_ended, server, it), 1200, f"the end of {it}") for it in ids]
        ends = [
            datetime.fromisoformat(str(order["execution_completed_at"])).timestamp() - started
            for order in found
        ]
        events = [entry for it in ids for entry in server.logs(it) if entry["level"] != "info"]
    said = server.log.read_text(errors="replace")
    return Outcome(
        wall=max(ends),
        ends=ends,
        unfinished=sum(order["status"] != "completed" for order in found),
        replaced=said.count('"event": "worker_replaced"'),
        lost=said.count("worker_lost") + sum("worker_lost" in str(entry) for entry in events),
    )


def _ended(server: LiveServer, order_id: str) -> harness.Json | None:
    time.sleep(0.1)  # who asks all the time is load too
    found = server.order(order_id)
    return found if found["status"] in FINISHED else None


class _Elsewhere(LiveServer):
    """A server of another checkout, which has the same commands."""

    def __init__(self, folder: Path, environment: dict[str, str], checkout: Path) -> None:
        super().__init__(folder, environment)
        self._checkout = checkout

    def command(self) -> list[str]:
        return [sys.executable, str(self._checkout / "manage.py"), "serve", f"--port={self.port}"]

    def __enter__(self) -> "_Elsewhere":
        (self.folder / "home").mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, str(self._checkout / "manage.py"), "migrate", "--verbosity=0"]
        subprocess.run(argv, env=self.environment, cwd=self.folder, check=True)
        self.start()
        return self


@contextmanager
def spinners(count: int) -> Iterator[None]:
    """Processes that do nothing but work; they end with this one, too."""
    environment = {"PATH": os.environ["PATH"], "PARENT": str(os.getpid())}
    started = [subprocess.Popen([sys.executable, "-c", _SPINNER], env=environment) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in started:
            spinner.kill()
            spinner.wait()
