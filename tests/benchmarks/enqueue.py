"""From a ticket's commit to the first claim: a real `serve`, single-phase orders.

From the event that the order's rows and its ticket are committed to the event that a worker has claimed the
step, read its plan and opened its run. Once with workers that already supervise (they look for claimable steps
by themselves), once after a pause, where the ticket itself has to wake one. The floor is SQLite's: a row written
by one connection and seen by another.
"""

import sqlite3
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import Limit, Row, milliseconds
from tests.benchmarks.repositories import make_remote
from tests.benchmarks.servers import MeasuredServer
from tests.benchmarks.start_latency import IDLE_SECONDS

LIMIT_SECONDS = 30.0  # the requirements' "Work order queue latency"


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    busy, idle = (2, 0) if tiny else (20, 6)
    remote = make_remote(folder / "remote.git")
    floor = _floor(folder / "floor.sqlite3", 200)
    with MeasuredServer(folder / "server") as server:
        _claimed(server, remote)
        rows = [_row("workers supervise already", [_claimed(server, remote) for _ in range(busy)], floor)]
        values = []
        for _ in range(idle):
            time.sleep(IDLE_SECONDS)
            values.append(_claimed(server, remote))
        if values:
            rows.append(_row(f"after {IDLE_SECONDS:.0f} s idle", values, floor))
    return rows


def _claimed(server: MeasuredServer, remote: Path) -> float:
    order = server.measure(remote, workflow_type="agent_workflow_plan")
    at = {event.name: event.at for event in order.events}
    return at["agent_work_order_started"] - at["agent_work_order_created"]


def _floor(file: Path, count: int) -> list[float]:
    writer, reader = sqlite3.connect(file, isolation_level=None), sqlite3.connect(file, isolation_level=None)
    for connection in (writer, reader):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    writer.execute("CREATE TABLE ticket (number INTEGER)")
    values = []
    for number in range(count):
        started = time.perf_counter()
        writer.execute("INSERT INTO ticket VALUES (?)", [number])
        reader.execute("SELECT max(number) FROM ticket").fetchone()
        values.append(time.perf_counter() - started)
    writer.close()
    reader.close()
    return values


def _row(what: str, seconds: list[float], floor: list[float]) -> Row:
    return Row(
        what=f"enqueue: ticket → first claim, {what}",
        values=milliseconds(seconds),
        floor_values=milliseconds(floor),
        floor_is="SQLite: written by one connection, read by another",
        limits=(Limit(f"median < {LIMIT_SECONDS:.0f} s", median(seconds), LIMIT_SECONDS),),
    )
