"""What the benchmarks inside one process share: Django on a database file as the server uses it, rows, timing."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

if TYPE_CHECKING:
    from workorders.models import AgentWorkOrder

Answer = Any  # the test client's response has more than HttpResponse declares


def start_django(folder: Path) -> None:
    """On a database of its own in `folder`, also where another benchmark has started Django in this process."""
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
    connection.close()
    connection.settings_dict["NAME"] = folder / "workorders.sqlite3"
    settings.WORKORDERS_DATA_DIR = folder
    call_command("migrate", verbosity=0)


def make_measured_order() -> "AgentWorkOrder":
    """An order with a run for each phase, as git-progress shows it; tickets go nowhere, no worker runs."""
    from tests.factories import make_order, make_run  # only now: models need Django to be set up
    from workorders.domain.workflows import AgentWorkflowPhase

    order = make_order()
    for phase in ("planning", "implementing", "testing"):
        make_run(order, AgentWorkflowPhase(phase))
    return order


def fill(order: "AgentWorkOrder", wanted: int) -> None:
    """Copies of the order until there are `wanted`, or the surplus of earlier measurements removed."""
    from workorders.models.agent_work_order import new_agent_work_order_id  # only now: see above

    rows = type(order)._default_manager
    surplus = rows.exclude(pk=order.pk).order_by("pk").values_list("pk", flat=True)
    rows.filter(pk__in=list(surplus[: max(0, rows.count() - wanted)])).delete()
    columns = [field.attname for field in order._meta.concrete_fields if not field.primary_key]
    same = {name: getattr(order, name) for name in columns}
    names = {new_agent_work_order_id() for _ in range(wanted - rows.count())}
    copies = [
        type(order)(**{**same, "agent_work_order_id": name, "git_branch_name": f"feat-{name}"})
        for name in names
    ]
    rows.bulk_create(copies, batch_size=200)


def timed(
    request: Callable[[], Answer],
    count: int,
    status: int = 200,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    values = []
    for number in range(count + 3):
        started = clock()
        answer = request()
        seconds = clock() - started
        if answer.status_code != status:
            raise RuntimeError(f"answered {answer.status_code}: {answer.content[:500]!r}")
        if number >= 3:  # the first ones import and connect
            values.append(seconds)
    return values
