"""The pages in this process on SQLite: many orders against few, and polls with no news against a bare view.

The database is as the server uses it: a file, with the settings of `config.settings`. Most of the log belongs to the
order that is looked at, which has commits, files, a plan and test results. Processor time is compared, for all that
happens is in this process, and a ratio should not depend on what else the machine does.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING

from django.test import Client
from django.test.utils import override_settings

from tests.benchmarks.in_process import Answer, fill, make_measured_order, start_django
from tests.benchmarks.in_process import timed as timed_by
from tests.benchmarks.measure import Limit, Row, milliseconds, percentile

if TYPE_CHECKING:
    from workorders.models import AgentWorkOrder

POLL_LIMIT = GROWTH_LIMIT = 1.5
LOG_ROWS_PER_ORDER = 10
OTHERS_SHARE = 10  # one log row in ten belongs to another order
PAGES = {
    "the list": "/",
    "the list, one status": "/?status=completed",
    "the list's last page": "/?page=1000000",
    "the list, words that many have": "/?q=widgets",
    "the list, words that one has": "/?q=needle",
    "a new order": "/work-orders/new/?repository=octo/spoon",
    "repositories": "/repositories/",
    "a repository": "/repositories/{repository}/",
    "an order": "/work-orders/{order}/",
    "an order, problems alone": "/work-orders/{order}/?kind=problems",
    "an order's state": "/work-orders/{order}/state/",
    "an order's earlier log": "/work-orders/{order}/feed/?before=500",
    "an order's changes": "/work-orders/{order}/changes/",
    "a changed file": "/work-orders/{order}/changes/3/",
}
HTMX = {"HX-Request": "true"}
timed = partial(timed_by, clock=process_time)


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    count, few, many = (3, 5, 20) if tiny else (60, 100, 10_000)
    start_django(folder)
    order = _order_with_everything()
    client = Client()
    with override_settings(ROOT_URLCONF="tests.benchmarks.bare_urls"):
        addresses = {
            name: path.format(order=order.agent_work_order_id, repository=order.repository_id)
            for name, path in PAGES.items()
        }
        _fill(order, few)
        before = {name: timed(_get(client, path), count) for name, path in addresses.items()}
        _fill(order, many)
        after = {name: timed(_get(client, path), count) for name, path in addresses.items()}
        polls = [_poll(client, name, path, count * 5) for name, path in _polls(client, order).items()]
    return [_growth(name, after[name], before[name], few, many) for name in addresses] + polls


def _order_with_everything() -> "AgentWorkOrder":
    from tests.factories import SHA, make_run  # only now: models need Django to be set up
    from tests.reading.pages.order_rows import add_commits, add_files
    from workorders.domain.workflows import AgentWorkflowPhase
    from workorders.models import AgentWorkOrder

    order = make_measured_order()
    add_commits(order, 40)
    add_files(order, *(f"src/part_{number % 5}/widget_{number}.py" for number in range(60)))
    plan = "# The plan\n\n" + "1. A **step** with `code`.\n" * 30
    make_run(order, AgentWorkflowPhase.PLANNING, plan_text=plan, plan_path="specs/plan.md")
    tests = {"tests": [{"name": f"test_{number}", "status": "failed"} for number in range(20)]}
    make_run(order, AgentWorkflowPhase.TESTING, tests_passed=80, tests_failed=20, test_results=tests)
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt="The needle", head_sha=SHA)
    order.refresh_from_db()
    return order


def _fill(order: "AgentWorkOrder", orders: int) -> None:
    """That many orders and ten times as many log rows; no row is a problem, so that a search finds none."""
    from django.utils import timezone

    from workorders.models import AgentWorkOrder, WorkOrderLog

    fill(order, orders)
    others = AgentWorkOrder.objects.exclude(pk=order.pk)
    finished = {"claimable_at": None, "execution_completed_at": timezone.now(), "head_sha": "a" * 40}
    others.update(
        initial_prompt="Count the widgets.", status="completed", outcome="pull_request_opened", **finished
    )
    wanted = orders * LOG_ROWS_PER_ORDER
    now = timezone.now()
    rows: list[WorkOrderLog] = []
    for pk, share in ((order.pk, wanted - wanted // OTHERS_SHARE), (others[0].pk, wanted // OTHERS_SHARE)):
        so_far = WorkOrderLog.objects.filter(agent_work_order=pk).count()
        for sequence in range(so_far + 1, share + 1):
            is_tool = sequence % 3 == 0
            event = "agent_tool_finished" if is_tool else "agent_message"
            fields = {"summary": f"Words about widgets, {sequence}", "tool": "Bash", "is_error": False}
            rows.append(
                WorkOrderLog(
                    agent_work_order_id=pk,
                    sequence=sequence,
                    timestamp=now,
                    level="info",
                    event=event,
                    fields=fields,
                )
            )
        AgentWorkOrder.objects.filter(pk=pk).update(log_sequence=max(share, so_far))
    WorkOrderLog.objects.bulk_create(rows, batch_size=500)


def _get(client: Client, path: str, **headers: str) -> Callable[[], Answer]:
    return lambda: client.get(path, headers=headers)


def _polls(client: Client, order: "AgentWorkOrder") -> dict[str, str]:
    """Addresses that the open pages ask, as those pages have them."""
    order.refresh_from_db()
    page = client.get(f"/work-orders/{order.agent_work_order_id}/").content.decode()
    listing = client.get("/").content.decode()
    found = {
        "an order's state": re.search(r'hx-get="([^"]*/state/[^"]*)"', page),
        "an order's log": re.search(r'hx-get="([^"]*/feed/[^"]*after[^"]*)"', page),
        "the list": re.search(r'hx-get="([^"]*version=[^"]*)"', listing),
    }
    return {name: match[1].replace("&amp;", "&") for name, match in found.items() if match}


def _poll(client: Client, name: str, path: str, count: int) -> Row:
    """Both in turns, so that whatever else the machine does meets both."""
    poll, bare = _get(client, path, **HTMX), _get(client, "/bare")
    seconds: list[float] = []
    floor: list[float] = []
    for _ in range(5):
        seconds += timed(poll, max(1, count // 5), status=204)
        floor += timed(bare, max(1, count // 5))
    ratio = _undisturbed(seconds) / _undisturbed(floor)
    limit = Limit(f"≤ {POLL_LIMIT} × a bare view", ratio, POLL_LIMIT)
    return Row(
        what=f"pages: unchanged poll of {name}",
        values=milliseconds(seconds),
        floor_values=milliseconds(floor),
        floor_is="a bare view",
        limits=(limit,),
    )


def _undisturbed(seconds: list[float]) -> float:
    """Neighbours on the machine cost caches and clock, so that the fastest tenth is what the work itself takes."""
    return percentile(seconds, 0.1)


def _growth(name: str, after: list[float], before: list[float], few: int, many: int) -> Row:
    ratio = _undisturbed(after) / _undisturbed(before)
    limit = Limit(f"≤ {GROWTH_LIMIT} × with {few} orders", ratio, GROWTH_LIMIT)
    return Row(
        what=f"pages: {name} with {many:,} orders and {many * LOG_ROWS_PER_ORDER:,} log rows",
        values=milliseconds(after),
        floor_values=milliseconds(before),
        floor_is=f"the same with {few} orders",
        limits=(limit,),
    )
