"""One order's rows, looked up by its public id."""

from typing import NamedTuple

from django.db import connection
from django.db.models import QuerySet

from workorders.domain.errors import WorkOrderNotFound
from workorders.models import AgentWorkOrder, WorkOrderCommit, WorkOrderFile
from workorders.models.clock import as_stored
from workorders.models.shown_state import HELD_SQL, clock
from workorders.reading import progress


class Glance(NamedTuple):
    pk: int
    status: str
    version: int
    log_sequence: int
    is_held: bool
    any_worker: bool


def glance(agent_work_order_id: str) -> Glance:
    """What every open page asks for every three seconds: plain SQL, a third of the ORM's time."""
    any_worker, since = progress.live_worker_in_sql()
    columns = f"id, status, version, log_sequence, {HELD_SQL}, {any_worker}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} FROM {AgentWorkOrder._meta.db_table} WHERE agent_work_order_id = %s",  # noqa: S608  # nosec B608  # names from the code only
            [as_stored(clock()), since, progress.known_id(agent_work_order_id)],
        )
        found = cursor.fetchone()
    if found is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id!r}.")
    pk, status, version, log_sequence, *flags = found
    return Glance(pk, status, version, log_sequence, *map(bool, flags))


def order_row(agent_work_order_id: str) -> AgentWorkOrder:
    rows = AgentWorkOrder.objects.select_related("repository")
    row = rows.filter(agent_work_order_id=progress.known_id(agent_work_order_id)).first()
    if row is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id!r}.")
    return row


def files_of(row: AgentWorkOrder) -> QuerySet[WorkOrderFile]:
    return WorkOrderFile.objects.filter(agent_work_order=row.pk)


def commits_of(row: AgentWorkOrder) -> QuerySet[WorkOrderCommit]:
    return WorkOrderCommit.objects.filter(agent_work_order=row.pk).order_by("-position")
