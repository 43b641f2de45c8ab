"""Fifty orders at once on one repository with WORKORDERS_WORKERS=50, on SQLite, and on Postgres where
WORKORDERS_BENCH_POSTGRES=1.

1. Fifty rehearsal orders: all must complete; wall time is printed. Meanwhile one client asks for one order every
   50 ms; its floor is the same client at the same rate just before, with nothing else to do.
2. Fifty waiting agents (they sleep): what the worker processes hold beyond their idle memory, divided by fifty.
   The agents' own processes are not counted. RSS counts pages shared between the workers once for each of
   them; PSS divides them, also with the agents' interpreters, so that it may fall when agents start: the larger
   difference decides.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.benchmarks.measure import Limit, Row, milliseconds, percentile
from tests.benchmarks.repositories import make_remote
from tests.benchmarks.servers import MeasuredServer
from tests.e2e.harness import FINISHED, REHEARSAL, wait_for
from tests.support_postgres import private_postgres

ASK_EVERY_SECONDS = 0.05
GOAL_MB = 15.0
_MB = 1024  # /proc counts in kB


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    databases = {"SQLite": _sqlite}
    if os.environ.get("WORKORDERS_BENCH_POSTGRES") == "1":
        databases["Postgres"] = _postgres
    rows = []
    for name, fresh_database in databases.items():
        for measure in (_completing, _waiting):
            with fresh_database() as url:
                rows.append(measure(folder / f"{name}{measure.__name__}", name, url, tiny=tiny))
    return rows


@contextmanager
def _sqlite() -> Iterator[str]:
    yield ""


@contextmanager
def _postgres() -> Iterator[str]:
    with private_postgres() as postgres:
        yield postgres.url


# --- fifty orders to their end ---


def _completing(folder: Path, database: str, database_url: str, *, tiny: bool) -> Row:
    count, idle_seconds = (2, 0.5) if tiny else (50, 15.0)
    remote = make_remote(folder / "remote.git")
    with MeasuredServer(
        folder / "server", agent=REHEARSAL, workers=count, database_url=database_url
    ) as server:
        watched = server.measure(remote).order_id
        with _asking(server, watched) as idle:
            time.sleep(idle_seconds)
        with _asking(server, watched) as busy:
            started = time.time()
            ids = [server.create(repository_url=str(remote))["agent_work_order_id"] for _ in range(count)]
            ends = [_end_of(server, order_id) for order_id in ids]
        completed = sum(name == "agent_work_order_completed" for name, _ in ends)
        wall = max(at for _, at in ends) - started
    factor = percentile(busy, 0.95) / percentile(idle, 0.95)
    return Row(
        what=f"fifty_orders: GET an order while {count} rehearsal orders run, {database}",
        values=milliseconds(busy),
        floor_values=milliseconds(idle),
        floor_is=f"the same without orders, p95 {percentile(idle, 0.95) * 1000:.2f} ms",
        limits=(
            Limit(f"{count} orders, not completed = 0", count - completed, 0),
            Limit("p95 ≤ 2 × idle p95", factor, 2),
        ),
        notes=(f"all {count} orders took {wall:.1f} s of wall time, {wall / count:.2f} s an order",),
    )


def _end_of(server: MeasuredServer, order_id: str) -> tuple[str, float]:
    """The name and time of an order's last event."""

    def look() -> tuple[str, float] | None:
        time.sleep(0.1)
        events = server.order_events(order_id)
        last = events[-1] if events else None
        ended = last is not None and last.name.removeprefix("agent_work_order_") in FINISHED
        return (last.name, last.at) if last and ended else None

    return wait_for(look, 600, f"the end of {order_id}\n{server.tail()}")


@contextmanager
def _asking(server: MeasuredServer, order_id: str) -> Iterator[list[float]]:
    """One client that asks for an order at a steady rate; the list of seconds each answer took."""
    values: list[float] = []
    done = threading.Event()

    def ask() -> None:
        due = time.monotonic()
        with httpx.Client(base_url=server.http.base_url, timeout=60, trust_env=False) as client:
            while not done.wait(max(0.0, due - time.monotonic())):
                due = max(due + ASK_EVERY_SECONDS, time.monotonic())
                started = time.perf_counter()
                client.get(f"/api/agent-work-orders/{order_id}").raise_for_status()
                values.append(time.perf_counter() - started)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield values
    finally:
        done.set()
        thread.join()


# --- fifty waiting agents ---


def _waiting(folder: Path, database: str, database_url: str, *, tiny: bool) -> Row:
    count = 2 if tiny else 50
    remote = make_remote(folder / "remote.git")
    with MeasuredServer(folder / "server", workers=count, database_url=database_url) as server:
        for _ in range(1 if tiny else 6):  # both supervisors at work once
            server.measure(remote)
        idle = _worker_memory(server.pid)
        started = time.time()
        fields = {"initial_prompt": "bench-sleep: 600", "workflow_type": "agent_workflow_plan"}
        orders = [server.create(repository_url=str(remote), **fields) for _ in range(count)]
        ids = [order["agent_work_order_id"] for order in orders]
        wait_for(lambda: _all_run(server, ids), 300, "all agents to run")
        seconds = time.time() - started
        time.sleep(2)
        busy = _worker_memory(server.pid)
        for order_id in ids:
            server.http.post(f"/api/agent-work-orders/{order_id}/cancel").raise_for_status()
        for order_id in ids:
            _end_of(server, order_id)
    rss, pss = ((busy[name] - idle[name]) / _MB / count for name in ("Rss", "Pss"))
    return Row(
        what=f"fifty_orders: worker memory of each of {count} waiting orders, {database}",
        values=[max(rss, pss)],
        floor_values=[idle["Pss"] / _MB / idle["processes"]],
        floor_is="an idle worker process, PSS: what a process for each order would hold",
        unit="MB",
        limits=(Limit(f"< {GOAL_MB:.0f} MB for each", max(rss, pss), GOAL_MB),),
        notes=(
            f"by RSS {rss:.2f} MB, by PSS {pss:.2f} MB for each; workers in all: "
            f"PSS {idle['Pss'] / _MB:.0f} → {busy['Pss'] / _MB:.0f} MB, "
            f"RSS {idle['Rss'] / _MB:.0f} → {busy['Rss'] / _MB:.0f} MB",
            f"all {count} agents ran after {seconds:.1f} s",
        ),
    )


def _all_run(server: MeasuredServer, ids: list[str]) -> bool:
    time.sleep(0.2)
    return all(
        any(event.name == "agent_session_started" for event in server.order_events(order_id))
        for order_id in ids
    )


def _worker_memory(server_pid: int) -> dict[str, int]:
    """kB held by the workers' processes (those below the server that run this product's command), and how many."""
    total = {"Rss": 0, "Pss": 0, "processes": 0}
    for pid in _descendants(server_pid):
        folder = Path("/proc", str(pid))
        try:
            if b"qcluster" not in (folder / "cmdline").read_bytes():
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:  # gone meanwhile
            continue
        total["processes"] += 1
        for line in lines:
            name, _, rest = line.partition(":")
            if name in ("Rss", "Pss"):
                total[name] += int(rest.split()[0])
    return total


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
