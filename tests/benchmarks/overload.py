"""120 rehearsal orders at once beside a spinner on each core: with 8 workers (the floor), and with 100.

All must complete, no worker be replaced, none lost, and many workers must not take 1.3 times as long as few; nor may
they with a lease of 6 seconds. A supervisor that is stopped beside the spinners is replaced, and its order completes;
an order whose supervisor is stopped each time ends. Then the same orders with 16 workers and nothing beside: the mean
time to completion, whose floor is the same of another checkout where WORKORDERS_BENCH_AGAINST names one (an earlier
release), else half of the time until the last was complete; with another checkout its 100 workers are compared, too.

WORKORDERS_BENCH_PARTS names some of `beside`, `lease`, `stopped`, `mean`, `many`; WORKORDERS_BENCH_ORDERS is another
number of orders. Workers and agents have a niceness and spinners have none, so that 120 orders beside them take ten
minutes and more.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Limit, Row
from tests.benchmarks.repositories import make_remote
from tests.benchmarks.servers import MeasuredServer
from tests.e2e import harness
from tests.e2e.harness import FINISHED, LiveServer, processes_with, wait_for

ORDERS, FEW, SOME, MANY = 120, 8, 16, 100
SHORT_LEASE = 6
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
    orders = 2 if tiny else int(os.environ.get("WORKORDERS_BENCH_ORDERS", ORDERS))
    against = os.environ.get("WORKORDERS_BENCH_AGAINST", "")
    parts: dict[str, Callable[[], Row]] = {
        "beside": lambda: _beside(folder / "beside", orders, tiny=tiny),
        "lease": lambda: _short_lease(folder / "lease", orders, tiny=tiny),
        "stopped": lambda: _stopped(folder / "stopped", tiny=tiny),
        "mean": lambda: _mean_completion(folder / "mean", 2 if tiny else SOME, orders, against),
    }
    if against:
        parts["many"] = lambda: _no_slower(folder / "many", orders, against)
    wanted = os.environ.get("WORKORDERS_BENCH_PARTS", "").split() or parts
    return [parts[name]() for name in wanted]


def _beside(folder: Path, orders: int, *, tiny: bool) -> Row:
    with spinners(0 if tiny else os.cpu_count() or 1):  # a test suite beside it is load enough
        few = drive(folder / "few", workers=1 if tiny else FEW, orders=orders)
        many = drive(folder / "many", workers=2 if tiny else MANY, orders=orders)
    return Row(
        what=f"overload: {orders} orders with {MANY} workers beside a spinner on each core",
        values=[many.wall],
        floor_values=[few.wall],
        floor_is=f"the same with {FEW} workers, of which {few.unfinished} did not complete",
        unit="s",
        limits=(*_unharmed(many), Limit("at most 1.3 times as long", many.wall / few.wall, 1.3)),
    )


def _short_lease(folder: Path, orders: int, *, tiny: bool) -> Row:
    with spinners(0 if tiny else os.cpu_count() or 1):  # a test suite beside it is load enough
        found = drive(folder, workers=2 if tiny else MANY, orders=orders, lease=SHORT_LEASE)
    return Row(
        what=f"overload: {orders} orders with {MANY} workers beside spinners, a lease of {SHORT_LEASE} s",
        values=[found.wall],
        floor_values=[found.wall / 2],
        floor_is="half of it",
        unit="s",
        limits=_unharmed(found),
    )


def _unharmed(found: Outcome) -> tuple[Limit, ...]:
    return (
        Limit("not completed = 0", found.unfinished, 0),
        Limit("workers replaced = 0", found.replaced, 0),
        Limit("steps that lost their worker = 0", found.lost, 0),
    )


def _no_slower(folder: Path, orders: int, against: str) -> Row:
    theirs = drive(folder / "theirs", workers=MANY, orders=orders, checkout=Path(against))
    ours = drive(folder / "ours", workers=MANY, orders=orders)
    return Row(
        what=f"overload: {orders} orders with {MANY} workers on a quiet machine",
        values=[ours.wall],
        floor_values=[theirs.wall],
        floor_is=f"that of {against}",
        unit="s",
        limits=(*_unharmed(ours), Limit("no slower", ours.wall / theirs.wall, 1.05)),
    )


def _stopped(folder: Path, *, tiny: bool) -> Row:
    """One order's supervisor is stopped once; then another's each time that an agent of it runs."""
    remote = make_remote(folder / "remote.git")
    with (
        spinners(0 if tiny else os.cpu_count() or 1),
        MeasuredServer(folder / "server", lease=SHORT_LEASE) as server,
    ):
        mended, status = _stop_supervisors(server, remote, times=1)
        deaths = 1 if tiny else 20
        ended, bad = _stop_supervisors(server, remote, times=deaths)
    return Row(
        what="overload: an order whose supervisor is stopped beside spinners",
        values=[mended],
        floor_values=[SHORT_LEASE],
        floor_is="a lease",
        unit="s",
        limits=(
            Limit("stopped once, not completed = 0", status != "completed", 0),
            Limit("stopped each time, not ended = 0", bad not in FINISHED, 0),
        ),
        notes=(f"stopped each time, it was {bad} after {ended:.0f} s",),
    )


def _stop_supervisors(server: MeasuredServer, remote: Path, *, times: int) -> tuple[float, str]:
    """Seconds until the order has ended, and how, where its first `times` supervisors are stopped."""
    started = time.monotonic()
    fields = {"initial_prompt": "bench-sleep: 5", "workflow_type": "agent_workflow_plan"}
    order_id = str(server.create(repository_url=str(remote), **fields)["agent_work_order_id"])
    stopped: set[int] = set()

    def look() -> str | None:
        time.sleep(0.2)
        if len(stopped) < times:
            for pid in _supervisors_of(order_id) - stopped:
                os.kill(pid, signal.SIGSTOP)
                stopped.add(pid)
                break
        status = str(server.order(order_id)["status"])
        return status if status in FINISHED else None

    status = wait_for(look, 900, f"the end of {order_id}")
    return time.monotonic() - started, status


def _supervisors_of(order_id: str) -> set[int]:
    """The parents of the order's sandbox, where they are workers."""
    found = set()
    for pid in processes_with(order_id):
        with suppress(OSError, ValueError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            is_worker = b"qcluster" in Path(f"/proc/{parent}/cmdline").read_bytes()
            if is_worker and Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap":
                found.add(parent)
    return found


def _mean_completion(folder: Path, workers: int, orders: int, against: str) -> Row:
    ours = drive(folder / "ours", workers=workers, orders=orders)
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
    [agent] = checkout.glob("workorders/agent*/rehearsal*.py")  # an older checkout has it in another room
    environment = {
        "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
        "WORKORDERS_WORKERS": str(workers),
        "WORKORDERS_LEASE_SECONDS": str(lease),
        "WORKORDERS_AGENT_COMMAND": f"{sys.executable} -I -S {agent}",
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
