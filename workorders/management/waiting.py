"""Waits in a terminal for a work order to end, reading the database; the order does not know of it."""

import signal
import threading
import time
from collections.abc import Callable

from django.core.management.base import CommandError

from workorders.domain.states import FINISHED, AgentWorkOrderStatus
from workorders.management.printing import changes_between, ending
from workorders.reading import progress
from workorders.reading.progress import WorkOrderView

POLL_SECONDS = 0.5


def wait_until_completed(
    agent_work_order_id: str, *, timeout_seconds: float | None, say: Callable[[str], None]
) -> WorkOrderView:
    """The completed order. Raises `CommandError` where it ends otherwise, in time-out, or at Ctrl-C."""
    _hear_interrupts()
    still = f"{agent_work_order_id} goes on; look at it with: manage.py show_work_order {agent_work_order_id}"
    try:
        order = _follow(agent_work_order_id, timeout_seconds, say)
    except KeyboardInterrupt:
        raise CommandError(f"Stopped waiting. {still}", returncode=130) from None
    if order.status not in FINISHED:
        raise CommandError(f"Not finished within {timeout_seconds:g} s. {still}", returncode=3)
    if order.status != AgentWorkOrderStatus.COMPLETED:
        raise ending(order)
    return order


def _hear_interrupts() -> None:
    """A shell starts background jobs deaf to SIGINT; whoever waits for a person must hear it all the same."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _follow(
    agent_work_order_id: str, timeout_seconds: float | None, say: Callable[[str], None]
) -> WorkOrderView:
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    seen: WorkOrderView | None = None
    while True:
        order = progress.work_order(agent_work_order_id)
        for line in changes_between(seen, order):
            say(line)
        seen = order
        if order.status in FINISHED or (deadline is not None and time.monotonic() >= deadline):
            return order
        time.sleep(POLL_SECONDS)
