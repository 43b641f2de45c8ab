"""Where an order's time went, read from the times of its own events."""

from collections import defaultdict
from statistics import median

from tests.benchmarks.servers import OrderTimes

# What lies between an event of this name and the one before it, where that is always the same work.
_WORK = {
    "agent_work_order_created": "POST: request, rows, ticket",
    "workflow_phase_started": "claim, read the plan, open the run",
    "sandbox_created": "ls-remote, new place to work",
    "agent_command_started": "ls-remote or attach, commands and guidance read from git",
    "agent started": "bwrap and interpreter",
    "agent_command_completed": "agent's exit, its numbers recorded",
    "git_commit_created": "settle, bundle, accept, statistics",
    "git_push_completed": "evidence, ls-remote, push",
    "workflow_phase_completed": "note where the place stands",
    "sandbox_cleanup_completed": "removal of the place, while it is pushed",
    "agent_work_order_completed": "last rows",
}
_BESIDE = {"agent_work_order_started", "git_branch_created", "agent_session_started", "agent_result"}


def order_segments(order: OrderTimes) -> dict[str, float]:
    """Seconds by kind of work, the agent's own time left out; their sum is the order's overhead."""
    found: dict[str, float] = defaultdict(float)
    points = [(event.at, event.name) for event in order.events if event.name not in _BESIDE]
    points += [(started, "agent started") for started, _ in order.agent_runs]
    points += [(ended, "agent ended") for _, ended in order.agent_runs]
    before = order.posted_at
    for at, name in sorted(points):
        if name != "agent ended":
            found[_WORK.get(name, name)] += at - before
        before = at
    return found


def start_segments(order: OrderTimes) -> dict[str, float]:
    """The same up to the agent's first statement."""
    started = order.agent_runs[0][0]
    events = tuple(event for event in order.events if event.at <= started)
    found = order_segments(OrderTimes(order.order_id, order.posted_at, events))
    found[_WORK["agent started"]] = started - events[-1].at
    return found


def told(breakdowns: list[dict[str, float]]) -> tuple[str, ...]:
    """A line for each kind of work: the median over all orders."""
    names = list(dict.fromkeys(name for breakdown in breakdowns for name in breakdown))
    medians = {name: median(item.get(name, 0.0) for item in breakdowns) * 1000 for name in names}
    return tuple(f"{medians[name]:8.1f} ms  {name}" for name in names)
