"""The activity feed: an order's log by cursor and by kind of speaker."""

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from workorders.domain.states import ACTIVE
from workorders.models import AgentWorkOrder, WorkOrderLog
from workorders.reading.pages.feed_entries import AGENT_EVENTS, TOOL_EVENTS, FeedEntry, feed_entry
from workorders.reading.pages.rows import Glance, glance

FEED_ENTRIES = 100
FEED_POLL_ENTRIES = 200
FEED_WINDOW = 10_000  # a kind that is rare is looked for in this many entries at once
_LAST_WORDS = timedelta(seconds=15)  # what a worker buffered when the order ended still arrives
_PROBLEM = Q(level__in=["warning", "error", "critical"]) | Q(
    event="agent_tool_finished", fields__is_error=True
)
FEED_KINDS: dict[str, Q] = {
    "all": Q(),
    "agent": Q(event__in=AGENT_EVENTS),
    "tools": Q(event__in=TOOL_EVENTS),
    "server": ~Q(event__in=AGENT_EVENTS | TOOL_EVENTS),
    "problems": _PROBLEM,
}


@dataclass(frozen=True)
class Feed:
    """Oldest first. `cursor`: what to ask for next with `after`; `earlier`: with `before`, 0 for nothing.

    `is_tail`: it reaches to the present; `is_live`: more may come.
    """

    agent_work_order_id: str
    kind: str
    entries: tuple[FeedEntry, ...]
    cursor: int
    earlier: int
    is_tail: bool
    is_live: bool


def feed(
    agent_work_order_id: str, *, kind: str = "all", after: int | None = None, before: int | None = None
) -> Feed:
    """The newest entries, or those after or before a sequence number. Raises `WorkOrderNotFound`."""
    order = glance(agent_work_order_id)
    pk, last = order.pk, order.log_sequence
    entries: list[WorkOrderLog] = []
    more = False
    kind = kind if kind in FEED_KINDS else "all"
    looked_at_from = 1
    if after is None:
        upper = min(last, before - 1) if before else last
        looked_at_from = 1 if kind == "all" else max(1, upper - FEED_WINDOW + 1)
        older = _matching(pk, kind, upper).filter(sequence__gte=looked_at_from)
        newest = list(older.order_by("-sequence")[: FEED_ENTRIES + 1])
        more = len(newest) > FEED_ENTRIES
        entries = newest[FEED_ENTRIES - 1 :: -1] if more else newest[::-1]
    elif after < last:
        newer = _matching(pk, kind, last).filter(sequence__gt=after)
        entries = list(newer.order_by("sequence")[:FEED_POLL_ENTRIES])
    is_full = after is not None and len(entries) == FEED_POLL_ENTRIES
    return Feed(
        agent_work_order_id=agent_work_order_id,
        kind=kind,
        entries=tuple(feed_entry(row) for row in entries),
        cursor=entries[-1].sequence if is_full else last,
        earlier=entries[0].sequence if more else looked_at_from if looked_at_from > 1 else 0,
        is_tail=before is None,
        is_live=is_full or _is_live(order),
    )


def _matching(order_pk: int, kind: str, last: int) -> QuerySet[WorkOrderLog]:
    return WorkOrderLog.objects.filter(FEED_KINDS[kind], agent_work_order=order_pk, sequence__lte=last)


def _is_live(order: Glance) -> bool:
    """Whether more entries may come: the order is active, or has only just ended."""
    if order.status in ACTIVE:
        return True
    since = timezone.now() - _LAST_WORDS
    return AgentWorkOrder.objects.filter(pk=order.pk, execution_completed_at__gt=since).exists()
