"""Claims: who may work on an order's next step, until when, by the database's clock.

Every claim raises the order's `claim_epoch`. Each later write of the step names epoch and owner in its WHERE
clause (`Claim.fence`), so a process that lost its claim changes nothing.

A process that dies takes all its steps along, and nobody knows which of them killed it. So an order whose phase has
lost `SUSPECT_AFTER` workers is a suspect, and no process runs two: the one that kills again dies without another.
"""

import socket
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from workorders.domain.errors import LeaseLost
from workorders.domain.states import ACTIVE
from workorders.models import AgentWorkOrder, PhaseRun, WorkerProcess, statements
from workorders.models.clock import database_now
from workorders.models.phase_run import LOST_ITS_WORKER
from workorders.models.statements import Grown

SUSPECT_AFTER = 2
_BEGUN = Q(execution_started_at__isnull=False)
_HOST_PATIENCE = timedelta(minutes=10)
_TOO_FAR = timedelta(hours=2)  # the longest lease is one hour


@dataclass(frozen=True)
class Claim:
    """The right to run one step of one order. `pk` is the row's key, `epoch` the fencing token."""

    pk: int
    agent_work_order_id: str
    epoch: int
    owner: str
    is_suspect: bool = field(default=False, compare=False)
    is_new: bool = field(default=False, compare=False)  # its order was not begun before

    @property
    def fence(self) -> Q:
        return Q(pk=self.pk, claim_epoch=self.epoch, claim_owner=self.owner)

    @property
    def _columns(self) -> dict[str, Any]:
        """The fence, for a statement that is composed once."""
        return {"pk": self.pk, "claim_epoch": self.epoch, "claim_owner": self.owner}

    def write(self, **changes: Any) -> None:
        """Update the order if the claim still holds. Raises `LeaseLost`."""
        values = {"updated_at": timezone.now(), "version": Grown(1), **changes}
        if not statements.update(AgentWorkOrder, values, self._columns):
            raise LeaseLost(f"{self.agent_work_order_id} epoch {self.epoch}")

    def look(self) -> None:
        """Raises `LeaseLost` where the claim does not hold at this moment. Locks nothing."""
        if not AgentWorkOrder.objects.filter(self.fence).exists():
            raise LeaseLost(f"{self.agent_work_order_id} epoch {self.epoch}")

    def hold(self) -> None:
        """Lock the order's row, unread, if the claim still holds. Inside a transaction. Raises `LeaseLost`."""
        if not statements.values(AgentWorkOrder, self._columns, "pk", lock=True):
            raise LeaseLost(f"{self.agent_work_order_id} epoch {self.epoch}")

    def lock(self, *columns: str) -> AgentWorkOrder:
        """The order's row, locked, if the claim still holds. Inside a transaction. Raises `LeaseLost`.

        All of it with its repository, or only the `columns` named, which takes a third of the time.
        """
        related = "" if columns else "repository"
        read = ("pk", *columns) if columns else ()
        found = statements.objects(AgentWorkOrder, self._columns, *read, related=related, lock=True)
        if not found:
            raise LeaseLost(f"{self.agent_work_order_id} epoch {self.epoch}")
        return found[0]


def this_host() -> str:
    return socket.gethostname()


def host_of(owner: str) -> str:
    """Of a worker, by its name."""
    return owner.partition(":")[0]


def _claimable(now: datetime, host: str) -> QuerySet[AgentWorkOrder]:
    """Commits that only one host has are worth waiting for it; without it, the step runs again elsewhere.

    A lease in a future that none can reach is of another boot of a host whose clock was wrong (SQLite).
    """
    ended = Q(lease_expires_at__lte=now) | Q(lease_expires_at__gt=now + _TOO_FAR)
    free = Q(lease_expires_at__isnull=True) | ended
    by = now if connection.vendor == "postgresql" else max(now, timezone.now())
    here = Q(preferred_host__in=["", host]) | Q(claimable_at__lte=by - _HOST_PATIENCE)
    return AgentWorkOrder.objects.filter(free, here, status__in=ACTIVE, claimable_at__lte=by)


def _suspect() -> Q:
    """Cheap columns first: who was not claimed twice has lost no two workers, and a cancel only tidies up."""
    lost = PhaseRun.objects.filter(
        LOST_ITS_WORKER,
        agent_work_order=OuterRef("pk"),
        sequence__gt=OuterRef("attempts_from"),
        phase=OuterRef("current_phase"),
    )
    deaths = lost.order_by().values("agent_work_order").annotate(deaths=Count("pk"))
    return Q(claim_epoch__gte=SUSPECT_AFTER, cancel_requested_at__isnull=True) & Q(
        Exists(deaths.filter(deaths__gte=SUSPECT_AFTER))
    )


def _suspects_among(orders: list[AgentWorkOrder]) -> frozenset[int]:
    """Their keys. Nothing is asked for orders that were not claimed often enough to be one."""
    asked = [order.pk for order in orders if order.claim_epoch >= SUSPECT_AFTER]
    if not asked:
        return frozenset()
    return frozenset(AgentWorkOrder.objects.filter(_suspect(), pk__in=asked).values_list("pk", flat=True))


def has_claimable_steps(host: str = "", *, more_than: int = 0) -> bool:
    """For this host, unless told for which."""
    return _claimable(database_now(), host or this_host()).values("pk")[more_than:].exists()


def claim_steps(
    *,
    owner: str,
    lease_seconds: float,
    limit: int,
    suspect: bool = True,
    new: bool = True,
    look_first: bool = True,
) -> list[Claim]:
    """Claim up to `limit` steps: of orders that were begun before those of new ones, longest waiting first.

    So everybody finishes what was begun. Two processes never get the same step.

    At most one is a suspect's, and none where `suspect` says that the process runs one already. `new` False: only those
    that were begun. `look_first`: with a plain read, for looking in vain must not take the write lock; False for who
    knows that there is something.
    """
    host = host_of(owner)
    wanted = (Q() if suspect else ~_suspect()) & (Q() if new else _BEGUN)
    if limit <= 0 or (look_first and not _claimable(database_now(), host).filter(wanted).exists()):
        return []
    with transaction.atomic():
        now = database_now()
        rows = _claimable(now, host).filter(Q() if new else _BEGUN)
        rows = rows.only("pk", "agent_work_order_id", "claim_epoch", "execution_started_at")
        rows = rows.order_by("claimable_at", "pk")
        if connection.features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True, of=("self",))
        found = _begun_first(rows, limit)
        suspects = _suspects_among(found)
        if len(suspects) > suspect:
            admitted = [order for order in found if order.pk in suspects][:suspect]
            found = [*admitted, *_begun_first(rows.exclude(_suspect()), limit - suspect)]
        claims = []
        for order in found:
            AgentWorkOrder.objects.filter(pk=order.pk).update(
                claim_epoch=order.claim_epoch + 1,
                claim_owner=owner,
                lease_expires_at=now + timedelta(seconds=lease_seconds),
            )
            epoch = order.claim_epoch + 1
            claims.append(
                Claim(
                    order.pk,
                    order.agent_work_order_id,
                    epoch,
                    owner,
                    is_suspect=order.pk in suspects,
                    is_new=order.execution_started_at is None,
                )
            )
    return claims


def _begun_first(rows: QuerySet[AgentWorkOrder], limit: int) -> list[AgentWorkOrder]:
    """Two reads, each by an index of its own: one that sorts all that waits would be slower the more waits."""
    begun = list(rows.filter(_BEGUN)[:limit])
    return [*begun, *rows.filter(execution_started_at__isnull=True)[: limit - len(begun)]]


def renew(*, owner: str, claims: list[Claim], lease_seconds: float) -> set[Claim]:
    """Lengthen all of a process's leases in one statement; the claims that still hold."""
    if not claims:
        return set()
    with transaction.atomic():
        held = _held(owner, claims)
        AgentWorkOrder.objects.filter(held).update(
            lease_expires_at=database_now() + timedelta(seconds=lease_seconds)
        )
        return _among(claims, AgentWorkOrder.objects.filter(held))


def shorten(*, owner: str, seconds: float, suspect_seconds: float) -> int:
    """Let an owner's leases end in `seconds` at the latest, for it can renew none; how many were longer.

    A suspect waits for its last attempt a little more, since what killed its workers may pass by itself.
    """
    now, held = database_now(), AgentWorkOrder.objects.filter(claim_owner=owner)
    shortened = 0
    for rows, wait in ((held.exclude(_suspect()), seconds), (held.filter(_suspect()), suspect_seconds)):
        end = now + timedelta(seconds=wait)
        shortened += rows.filter(lease_expires_at__gt=end).update(lease_expires_at=end)
    return shortened


def shorten_cancelled(*, seconds: float) -> int:
    """The same for orders that somebody wants cancelled and whose owner is no worker any more: no rest for them."""
    end = database_now() + timedelta(seconds=seconds)
    workers = WorkerProcess.objects.values("name")
    resting = AgentWorkOrder.objects.filter(
        status__in=ACTIVE, cancel_requested_at__isnull=False, lease_expires_at__gt=end
    ).exclude(claim_owner__in=workers)
    return resting.update(lease_expires_at=end) if resting.exists() else 0  # in vain: without the write lock


def cancel_requested(*, owner: str, claims: list[Claim]) -> set[Claim]:
    """Those of a process's claims whose orders somebody wants cancelled."""
    if not claims:
        return set()
    rows = AgentWorkOrder.objects.filter(_held(owner, claims), cancel_requested_at__isnull=False)
    return _among(claims, rows)


def _among(claims: list[Claim], rows: QuerySet[AgentWorkOrder]) -> set[Claim]:
    found = set(rows.values_list("pk", "claim_epoch"))
    return {claim for claim in claims if (claim.pk, claim.epoch) in found}


def _held(owner: str, claims: list[Claim]) -> Q:
    tokens = Q()
    for claim in claims:
        tokens |= Q(pk=claim.pk, claim_epoch=claim.epoch)
    return Q(claim_owner=owner) & tokens
