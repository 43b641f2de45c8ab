"""The table `work_order_logs`: the same events as the log files, numbered without gaps for each order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from django.core.exceptions import ObjectDoesNotExist
from django.db import models, transaction
from django.utils import timezone

from workorders.domain.errors import LeaseLost
from workorders.models import statements
from workorders.models.fields import RedactedJSONField

if TYPE_CHECKING:
    from workorders.models.agent_work_order import AgentWorkOrder

logger = structlog.get_logger("workorders")
MAX_TEXT = 20_000


class WorkOrderLog(models.Model):
    """`sequence` counts from 1 for each order, in the order of commit, so that a reader can tail by it."""

    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="log_entries"
    )
    sequence = models.PositiveBigIntegerField()
    timestamp = models.DateTimeField()
    level = models.CharField(max_length=10)
    event = models.CharField(max_length=100)
    fields = RedactedJSONField(default=dict)

    class Meta:
        db_table = "work_order_logs"
        ordering = ["sequence"]
        constraints = [
            models.UniqueConstraint(fields=["agent_work_order", "sequence"], name="log_sequence_unique")
        ]

    def __str__(self) -> str:
        return f"{self.sequence} {self.event}"


@dataclass(frozen=True)
class LogEvent:
    """One event as it will be stored; `fields` are JSON values."""

    timestamp: datetime
    level: str
    event: str
    fields: Mapping[str, Any]


def storable(value: Any) -> Any:
    """A JSON value both databases accept: no NUL, no lone surrogates, bounded text."""
    if isinstance(value, str):
        clean = value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
        return clean if len(clean) <= MAX_TEXT else clean[:MAX_TEXT] + "… [cut]"
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return storable(str(value))


def order_context(order: "AgentWorkOrder") -> dict[str, Any]:
    """What every log line of an order carries."""
    return {
        "agent_work_order_id": order.agent_work_order_id,
        "repository_url": order.repository_url,
        "workflow_type": order.workflow_type,
        "sandbox_type": order.sandbox_type,
    }


def append_log_events(
    order_pk: int, events: Sequence[LogEvent], *, claim_epoch: int | None = None, last: int | None = None
) -> None:
    """Append events to one order's log. The order's row is locked, which makes numbers follow commits.

    With `claim_epoch` only while no later claim was made. Raises `LeaseLost`. `last` is the order's `log_sequence`,
    for a caller that has locked the row itself.
    """
    if not events:
        return
    orders = WorkOrderLog._meta.get_field("agent_work_order").related_model
    with transaction.atomic(savepoint=False):
        if last is None:
            last = _locked_sequence(orders, order_pk, claim_epoch)
        rows = [
            {
                "agent_work_order": order_pk,
                "sequence": last + number,
                "timestamp": event.timestamp,
                "level": event.level,
                "event": storable(event.event)[:100],
                "fields": storable(event.fields),
            }
            for number, event in enumerate(events, start=1)
        ]
        statements.insert_all(WorkOrderLog, rows)
        statements.update(orders, {"log_sequence": last + len(events)}, {"pk": order_pk})


def _locked_sequence(orders: type[models.Model], order_pk: int, claim_epoch: int | None) -> int:
    fence = {} if claim_epoch is None else {"claim_epoch": claim_epoch}
    found = statements.values(orders, {"pk": order_pk, **fence}, "log_sequence", lock=True)
    if not found and claim_epoch is None:
        raise ObjectDoesNotExist(f"order {order_pk}")
    if not found:
        raise LeaseLost(f"order {order_pk} epoch {claim_epoch}")
    last: int = found[0][0]
    return last


def record_order_event(order: "AgentWorkOrder", event: str, *, level: str = "info", **fields: Any) -> None:
    """One event to the order's table in this transaction, and to the process's log once it commits."""
    append_log_events(order.pk, [LogEvent(timezone.now(), level, event, fields)])
    context = order_context(order)
    emit = getattr(logger, level)
    transaction.on_commit(lambda: emit(event, **{**context, **fields}))
