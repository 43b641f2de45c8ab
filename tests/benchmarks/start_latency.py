"""From POST to the agent's first statement, with a warm mirror: `serve`, orders one after another.

Twice for each sandbox type: orders in quick succession (workers already supervise) and orders after a pause in
which the workers let go of the queue, as for a person's first order of the day. The floor is what no server
could leave out: ls-remote, the place to work, bubblewrap and the agent's interpreter.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.benchmarks.bare import BareOrder, BareRepository
from tests.benchmarks.breakdown import start_segments, told
from tests.benchmarks.measure import Limit, Row, milliseconds, percentile
from tests.benchmarks.repositories import make_remote
from tests.benchmarks.servers import MeasuredServer, OrderTimes

SANDBOX_TYPES = ("git_branch", "git_worktree")
IDLE_SECONDS = 11.0  # supervisors linger 10 s


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    busy, idle = (2, 0) if tiny else (20, 6)
    remote = make_remote(folder / "remote.git")
    bare = BareRepository(folder / "bare", remote)
    rows = []
    with MeasuredServer(folder / "server") as server:
        for sandbox_type in SANDBOX_TYPES:

            def order(sandbox_type: str = sandbox_type) -> OrderTimes:
                return server.measure(remote, sandbox_type=sandbox_type, workflow_type="agent_workflow_plan")

            order()
            _floor(bare, sandbox_type)
            floor: list[float] = []
            measured = []
            for _ in range(busy):
                measured.append(order())
                floor.append(_floor(bare, sandbox_type))
            rows.append(_row(f"{sandbox_type}, one after another", measured, floor))
            if idle and sandbox_type == "git_branch":  # the queue's part does not depend on the sandbox
                rows.append(
                    _row(f"{sandbox_type}, after {IDLE_SECONDS:.0f} s idle", _idle(order, idle), floor)
                )
    return rows


def _idle(order: Callable[[], OrderTimes], count: int) -> list[OrderTimes]:
    measured = []
    for _ in range(count):
        time.sleep(IDLE_SECONDS)
        measured.append(order())
    return measured


def _floor(bare: BareRepository, sandbox_type: str) -> float:
    order = BareOrder(bare, sandbox_type)
    started = time.time()
    order.fetch()
    order.open()
    order.run_agent("planning")
    order.close()
    return order.agent_runs[0][0] - started


def _row(what: str, orders: list[OrderTimes], floor: list[float]) -> Row:
    values = milliseconds([order.agent_runs[0][0] - order.posted_at for order in orders])
    return Row(
        what=f"start_latency: POST → agent's first statement, {what}",
        values=values,
        floor_values=milliseconds(floor),
        floor_is="bare ls-remote, checkout, bwrap and interpreter",
        limits=(
            Limit("median < 500 ms", median(values), 500),
            Limit("p95 < 1000 ms", percentile(values, 0.95), 1000),
        ),
        notes=told([start_segments(order) for order in orders]),
    )
