"""What people are told an order does. Whether a worker is at it says its lease, not its status: that stays `running`
between two steps."""

from datetime import UTC, datetime
from typing import Protocol

from django.db import connection
from django.db.models import Case, Q, Value, When

from workorders.domain.states import ACTIVE, AgentWorkOrderOutcome, AgentWorkOrderStatus, ShownState
from workorders.models.clock import steady_now

HELD_SQL = "claim_owner <> '' AND lease_expires_at > %s"
"""`is_held` in plain SQL; the parameter is the time."""


class Stateful(Protocol):
    """What of an order's row tells its state."""

    status: str
    outcome: str | None
    waiting_reason: str
    claim_owner: str
    lease_expires_at: datetime | None
    claimable_at: datetime | None


def clock() -> datetime:
    """The time that leases are shown by, without a question to the database."""
    return datetime.now(UTC) if connection.vendor == "postgresql" else steady_now()


def is_held(order: Stateful, now: datetime | None = None) -> bool:
    """Whether a worker is at it, as far as its lease tells."""
    until = order.lease_expires_at
    return bool(order.claim_owner) and until is not None and until > (now or clock())


def shown_state(order: Stateful, now: datetime | None = None) -> ShownState:
    if order.status not in ACTIVE:
        if order.outcome == AgentWorkOrderOutcome.TESTS_FAILED:
            return ShownState.TESTS_FAILED
        return ShownState(order.status)
    if order.waiting_reason:
        return ShownState.WAITING
    now = now or clock()
    if is_held(order, now):
        return ShownState.RUNNING
    is_put_off = order.claimable_at is not None and order.claimable_at > now
    return ShownState.WAITING if is_put_off else ShownState.QUEUED


def in_state(state: ShownState, now: datetime | None = None) -> Q:
    """The orders of that state; together they are all orders, and none is in two."""
    now = now or clock()
    active = Q(status__in=sorted(ACTIVE))
    free = Q(claim_owner="") | Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now)
    held = Q(lease_expires_at__gt=now) & ~Q(claim_owner="")
    is_due = Q(claimable_at__isnull=True) | Q(claimable_at__lte=now)
    match state:
        case ShownState.RUNNING:
            return active & Q(waiting_reason="") & held
        case ShownState.QUEUED:
            return active & Q(waiting_reason="") & free & is_due
        case ShownState.WAITING:
            return active & (~Q(waiting_reason="") | (free & Q(claimable_at__gt=now)))
        case ShownState.TESTS_FAILED:
            return Q(status=AgentWorkOrderStatus.COMPLETED, outcome=AgentWorkOrderOutcome.TESTS_FAILED)
        case ShownState.COMPLETED:
            failed = Q(outcome=AgentWorkOrderOutcome.TESTS_FAILED)
            return Q(status=AgentWorkOrderStatus.COMPLETED) & ~failed
        case _:
            return Q(status=state.value)


def state_column(now: datetime | None = None) -> Case:
    """The state as a column of a query."""
    now = now or clock()
    return Case(*(When(in_state(state, now), then=Value(state.value)) for state in ShownState))
