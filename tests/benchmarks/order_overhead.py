"""What the server adds to a three-phase order beside the agent's own time, against the same work done bare.

A real `serve` runs plan–build–test orders one at a time on a local repository; after each, the same phases are
done bare (see `bare.py` for exactly what that is). Both run the same agent in the same bubblewrap profile and
push once for each phase. From both, the agent's own time (measured inside the agent, first statement to last
line) is subtracted; starting and ending its process stays in both. The server's time ends when the order is
`completed`: its place is removed by then, as on the bare side.
"""

from pathlib import Path
from statistics import median

from tests.benchmarks.bare import BareOrder, BareRepository
from tests.benchmarks.breakdown import order_segments, told
from tests.benchmarks.measure import Limit, Row, milliseconds
from tests.benchmarks.repositories import make_remote
from tests.benchmarks.servers import MeasuredServer

PHASES = ("planning", "implementing", "testing")
RATIO_LIMIT = 1.44


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    count = 1 if tiny else 15
    remote = make_remote(folder / "remote.git")
    bare = BareRepository(folder / "bare", remote)
    with MeasuredServer(folder / "server") as server:
        return [
            _measure(server, bare, sandbox_type, count) for sandbox_type in ("git_branch", "git_worktree")
        ]


def _measure(server: MeasuredServer, bare: BareRepository, sandbox_type: str, count: int) -> Row:
    server.measure(bare.remote, sandbox_type=sandbox_type)
    BareOrder(bare, sandbox_type).run(PHASES)
    orders, floors, values, floor_values = [], [], [], []
    for _ in range(count):
        order = server.measure(bare.remote, sandbox_type=sandbox_type)
        orders.append(order)
        values.append(order.seconds - order.agent_seconds)
        floor = BareOrder(bare, sandbox_type)
        floor_values.append(floor.run(PHASES) - sum(ended - started for started, ended in floor.agent_runs))
        floors.append({name: sum(seconds) for name, seconds in floor.stages.items()})
    ratio = median(values) / median(floor_values)
    agent = median([order.agent_seconds for order in orders]) * 1000
    return Row(
        what=f"order_overhead: a three-phase order beside its agent's own time, {sandbox_type}",
        values=milliseconds(values),
        floor_values=milliseconds(floor_values),
        floor_is="the same git and process work bare",
        limits=(Limit(f"ratio ≤ {RATIO_LIMIT}", ratio, RATIO_LIMIT),),
        notes=(
            f"agent's own time, left out: {agent:.0f} ms; server, median of each kind of work in one order:",
            *told([order_segments(order) for order in orders]),
            "bare, likewise (agent with its own time):",
            *told(floors),
        ),
    )
