"""The recovery pass: tickets for work that has none, and removal of what no live order owns.

Nothing is failed here: an order whose worker died simply becomes claimable when its lease ends, which is soon where the
death is seen.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from sandboxes.base import SweepScope
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.providers import ProviderSettings
from sandboxes.registry import sweep_orphans
from workorders.domain.errors import WorkOrderError
from workorders.domain.states import ACTIVE, PhaseRunStatus
from workorders.models import AgentWorkOrder, IdempotencyRecord, WorkerProcess
from workorders.models.clock import database_now
from workorders.models.effect import open_pull_requests
from workorders.models.phase_run import WORKER_LOST
from workorders.queueing import queue
from workorders.workflow_engine.claims import lease, workers
from workorders.workflow_engine.planning.retries import RULES
from workorders.workflow_engine.record.journal import close_open_runs, close_replaced_runs

logger = structlog.get_logger("workorders")
_IDEMPOTENCY_DAYS = 7
_WORKER_ROW_DAYS = 1
_FUNERAL_SECONDS = 2.0  # its guard ends its agents meanwhile


@dataclass(frozen=True)
class RecoveryReport:
    """What a pass did, or with `dry_run` would do; `leftovers` in words, one for each thing removed or ended."""

    tickets_issued: int
    orders_cancelled: tuple[str, ...]
    leftovers: tuple[str, ...]


def recover(
    data_dir: Path,
    isolation: IsolationSettings,
    providers: ProviderSettings,
    *,
    may_remove: Callable[[str], bool],
    dry_run: bool = False,
) -> RecoveryReport:
    """One whole pass; safe at any time and on any number of hosts. `may_remove` as in `SweepScope`."""
    report = RecoveryReport(
        tickets_issued=issue_missing_ticket(dry_run=dry_run),
        orders_cancelled=_finish_abandoned_cancels(dry_run),
        leftovers=sweep_here(data_dir, isolation, providers, dry_run=dry_run, may_remove=may_remove),
    )
    if not dry_run:
        _forget_old_rows()
    if report.tickets_issued or report.orders_cancelled or report.leftovers:
        logger.info(
            "recovery_pass_completed",
            tickets_issued=report.tickets_issued,
            orders_cancelled=list(report.orders_cancelled),
            leftovers=list(report.leftovers),
            dry_run=dry_run,
        )
    return report


def sweep_here(
    data_dir: Path,
    isolation: IsolationSettings,
    providers: ProviderSettings,
    *,
    may_remove: Callable[[str], bool],
    dry_run: bool = False,
) -> tuple[str, ...]:
    """What no live order owns, removed from this host and from what it can reach."""
    return sweep_orphans(
        SweepScope(
            data_dir=data_dir,
            isolation=isolation,
            providers=providers,
            active_identifiers=active_identifiers,
            identifiers_at_work_here=identifiers_at_work_here,
            dry_run=dry_run,
            may_remove=may_remove,
        )
    )


def active_identifiers() -> frozenset[str]:
    """Sandboxes of the orders that are not finished."""
    return _identifiers(AgentWorkOrder.objects.filter(status__in=ACTIVE))


def identifiers_at_work_here() -> frozenset[str]:
    """Sandboxes of the orders that a process of this host holds a lease of."""
    held = AgentWorkOrder.objects.filter(
        claim_owner__startswith=f"{socket.gethostname()}:", lease_expires_at__gt=database_now()
    )
    return _identifiers(held)


def _identifiers(orders: Iterable[AgentWorkOrder]) -> frozenset[str]:
    return frozenset(order.expected_sandbox_identifier for order in orders)


def end_leases_of_the_dead(data_dir: Path) -> None:
    """The steps of this host's workers that died need not wait for the whole lease."""
    folder = data_dir / "run"
    for death in workers.dead_workers(folder):
        if death.replaced:
            close_replaced_runs(death.name, excused=death.excused)
        steps = lease.shorten(
            owner=death.name, seconds=_FUNERAL_SECONDS, suspect_seconds=RULES[WORKER_LOST].delays_seconds[-1]
        )
        logger.warning("worker_died", worker=death.name, steps=steps, replaced=death.replaced)
        workers.forget_worker(death.name)
        workers.forget_death(folder, death.name)
    lease.shorten_cancelled(seconds=_FUNERAL_SECONDS)


def issue_missing_ticket(*, dry_run: bool = False) -> int:
    """A ticket for work that has none; one is enough, for whoever takes it claims all it can and calls for others."""
    if not lease.has_claimable_steps() or queue.waiting_tickets():
        return 0
    if not dry_run:
        queue.issue_ticket()
    return 1


def _finish_abandoned_cancels(dry_run: bool) -> tuple[str, ...]:
    """Orders somebody cancelled whose worker is gone, so that nobody else would say so."""
    expired = Q(lease_expires_at__lte=database_now()) | Q(lease_expires_at__isnull=True)
    waiting = AgentWorkOrder.objects.filter(expired, status__in=ACTIVE, cancel_requested_at__isnull=False)
    found = []
    for pk in list(waiting.values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                order = waiting.select_for_update().filter(pk=pk).first()
                if (
                    order is not None and not open_pull_requests(order).exists()
                ):  # a worker takes that back first
                    if not dry_run:
                        close_open_runs(order, PhaseRunStatus.CANCELLED)
                        AgentWorkOrder.objects.filter(pk=pk).update(claim_epoch=F("claim_epoch") + 1)
                        order.finish_cancelled(by="recovery")
                    found.append(order.agent_work_order_id)
        except WorkOrderError as error:  # it changed at the same moment; the others must not wait for it
            logger.warning("order_cancel_unfinished", order_pk=pk, error=str(error)[:300])
    return tuple(found)


def _forget_old_rows() -> None:
    now = timezone.now()
    IdempotencyRecord.objects.filter(created_at__lt=now - timedelta(days=_IDEMPOTENCY_DAYS)).delete()
    WorkerProcess.objects.filter(last_beat_at__lt=database_now() - timedelta(days=_WORKER_ROW_DAYS)).delete()
