"""POST and GET of the API in this process on SQLite, against a view that does nothing behind the same middleware.

The database is as the server uses it: a file, with the settings of `config.settings`. The list is measured with
100 orders and with 10,000; its floor is the shorter list.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median

from django.test import Client
from django.test.utils import override_settings

from tests.benchmarks.in_process import Answer, fill, make_measured_order, start_django, timed
from tests.benchmarks.measure import Limit, Row, milliseconds

LIMIT_MS = 30.0
BODY = {
    "repository_url": "https://github.com/octo/spoon",
    "sandbox_type": "git_branch",
    "workflow_type": "agent_workflow_plan_build_test",
    "initial_prompt": "Count the widgets.",
}


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    count, few, many = (3, 5, 20) if tiny else (300, 100, 10_000)
    start_django(folder)
    order = make_measured_order()
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
        fill(order, few)
        short = timed(listing, count // 3)
        rows.append(
            _row(f"GET the list with {few} orders", short, timed(get("/bare"), count // 3), "a bare view")
        )
        fill(order, many)
        rows.append(
            _row(f"GET the list with {many:,} orders", timed(listing, count // 3), short, "the shorter list")
        )
    return rows


def _compared(
    what: str, request: Callable[[], Answer], bare: Callable[[], Answer], count: int, *, status: int = 200
) -> Row:
    return _row(what, timed(request, count, status), timed(bare, count), "a bare view")


def _row(what: str, seconds: list[float], floor: list[float], floor_is: str) -> Row:
    values = milliseconds(seconds)
    return Row(
        what=f"api: {what}",
        values=values,
        floor_values=milliseconds(floor),
        floor_is=floor_is,
        limits=(Limit(f"median < {LIMIT_MS:.0f} ms", median(values), LIMIT_MS),),
    )
