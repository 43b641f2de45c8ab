"""POST and GET of the API in this process on SQLite, against a view that does nothing behind the same middleware.

The database is as the server uses it: a file, with the settings of `config.settings`. The list is measured with
100 orders and with 10,000; its floor is the shorter list.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import django
from django.core.management import call_command
from django.test import Client
from django.test.utils import override_settings

from tests.benchmarks.measure import Limit, Row, milliseconds

if TYPE_CHECKING:
    from workorders.models import AgentWorkOrder

LIMIT_MS = 30.0
BODY = {
    "repository_url": "https://github.com/octo/spoon",
    "sandbox_type": "git_branch",
    "workflow_type": "agent_workflow_plan_build_test",
    "initial_prompt": "Count the widgets.",
}
Answer = Any  # the test client's response has more than HttpResponse declares


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    count, few, many = (3, 5, 20) if tiny else (300, 100, 10_000)
    _start_django(folder)
    order = _make_order()
    client = Client()
    with override_settings(ROOT_URLCONF="tests.benchmarks.bare_urls"):
        address = f"/api/agent-work-orders/{order.agent_work_order_id}"

        def post(path: str) -> Callable[[], Answer]:
            return lambda: client.post(path, BODY, content_type="application/json")

        def get(path: str) -> Callable[[], Answer]:
            return lambda: client.get(path)

        rows = [
            _compared("POST an order", post("/api/agent-work-orders"), post("/bare"), count, status=201),
            _compared("GET an order", get(address), get("/bare"), count),
            _compared("GET its git-progress", get(f"{address}/git-progress"), get("/bare"), count),
        ]
        listing = get("/api/agent-work-orders")
        _fill(order, few)
        short = _timed(listing, count // 3)
        rows.append(
            _row(f"GET the list with {few} orders", short, _timed(get("/bare"), count // 3), "a bare view")
        )
        _fill(order, many)
        rows.append(
            _row(f"GET the list with {many:,} orders", _timed(listing, count // 3), short, "the shorter list")
        )
    return rows


def _start_django(folder: Path) -> None:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="config.settings",
        DATABASE_URL="",
        WORKORDERS_SECRET_KEY="for-benchmarks-only",
        WORKORDERS_DATA_DIR=str(folder),
        WORKORDERS_ALLOWED_HOSTS="testserver",
        WORKORDERS_AUTH="none",
        WORKORDERS_LOG_LEVEL="WARNING",
    )
    django.setup()
    call_command("migrate", verbosity=0)


def _make_order() -> "AgentWorkOrder":
    """An order with a run for each phase, as git-progress shows it; tickets go nowhere, no worker runs."""
    from tests.factories import make_order, make_run  # only now: models need Django to be set up
    from workorders.workflow_definitions import AgentWorkflowPhase

    order = make_order()
    for phase in ("planning", "implementing", "testing"):
        make_run(order, AgentWorkflowPhase(phase))
    return order


def _fill(order: "AgentWorkOrder", wanted: int) -> None:
    """Copies of the order until there are `wanted`, or the surplus of earlier measurements removed."""
    rows = type(order)._default_manager
    surplus = rows.exclude(pk=order.pk).order_by("pk").values_list("pk", flat=True)
    rows.filter(pk__in=list(surplus[: max(0, rows.count() - wanted)])).delete()
    columns = [field.attname for field in order._meta.concrete_fields if not field.primary_key]
    same = {name: getattr(order, name) for name in columns}
    copies = []
    for _ in range(wanted - rows.count()):
        name = f"wo-{uuid4().hex[:8]}"
        copies.append(type(order)(**{**same, "agent_work_order_id": name, "git_branch_name": f"feat-{name}"}))
    rows.bulk_create(copies, batch_size=200)


def _timed(request: Callable[[], Answer], count: int, status: int = 200) -> list[float]:
    values = []
    for number in range(count + 3):
        started = time.perf_counter()
        answer = request()
        seconds = time.perf_counter() - started
        if answer.status_code != status:
            raise RuntimeError(f"answered {answer.status_code}: {answer.content[:500]!r}")
        if number >= 3:  # the first ones import and connect
            values.append(seconds)
    return values


def _compared(
    what: str, request: Callable[[], Answer], bare: Callable[[], Answer], count: int, *, status: int = 200
) -> Row:
    return _row(what, _timed(request, count, status), _timed(bare, count), "a bare view")


def _row(what: str, seconds: list[float], floor: list[float], floor_is: str) -> Row:
    values = milliseconds(seconds)
    return Row(
        what=f"api: {what}",
        values=values,
        floor_values=milliseconds(floor),
        floor_is=floor_is,
        limits=(Limit(f"median < {LIMIT_MS:.0f} ms", median(values), LIMIT_MS),),
    )
