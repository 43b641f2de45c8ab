"""The recovery pass: tickets for work that has none, and removal of what no live order owns.

Nothing is failed here: an order whose worker died simply becomes claimable when its lease ends.
"""

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from workorders import queue
from workorders.models import AgentWorkOrder, IdempotencyRecord, WorkerProcess
from workorders.models.clock import database_now
from workorders.states import ACTIVE, PhaseRunStatus
from workorders.workflow_engine.journal import close_open_runs
from workorders.workflow_engine.lease import has_claimable_steps

logger = structlog.get_logger("workorders")
_IDEMPOTENCY_DAYS = 7
_WORKER_ROW_DAYS = 1
_TRANSFER_SECONDS = 3600.0


@dataclass(frozen=True)
class RecoveryReport:
    """What a pass did, or with `dry_run` would do."""

    tickets_issued: int
    orders_cancelled: tuple[str, ...]
    folders_removed: tuple[str, ...]


def recover(data_dir: Path, *, dry_run: bool = False) -> RecoveryReport:
    """One pass; safe at any time and on any number of hosts."""
    report = RecoveryReport(
        tickets_issued=issue_missing_ticket(dry_run=dry_run),
        orders_cancelled=_finish_abandoned_cancels(dry_run),
        folders_removed=(*_remove_ownerless(data_dir, dry_run), *_remove_transfers(data_dir, dry_run)),
    )
    if not dry_run:
        _forget_old_rows()
    if report.tickets_issued or report.orders_cancelled or report.folders_removed:
        logger.info(
            "recovery_pass_completed",
            tickets_issued=report.tickets_issued,
            orders_cancelled=list(report.orders_cancelled),
            folders_removed=list(report.folders_removed),
            dry_run=dry_run,
        )
    return report


def issue_missing_ticket(*, dry_run: bool = False) -> int:
    """A ticket for work that has none; one is enough, for whoever takes it claims all it can."""
    if not has_claimable_steps() or queue.waiting_tickets():
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
        with transaction.atomic():
            order = waiting.select_for_update().filter(pk=pk).first()
            if order is not None:
                found.append(order.agent_work_order_id)
                if not dry_run:
                    close_open_runs(order, PhaseRunStatus.CANCELLED)
                    AgentWorkOrder.objects.filter(pk=pk).update(claim_epoch=F("claim_epoch") + 1)
                    order.finish_cancelled(by="recovery")
    return tuple(found)


def _remove_ownerless(data_dir: Path, dry_run: bool) -> tuple[str, ...]:
    """Workspaces of finished or unknown orders, and trash; an agent's HOME stays for follow-ups."""
    removed = []
    for folder in _children(data_dir / "sandboxes"):
        order_id = folder.name[-11:]
        if not AgentWorkOrder.objects.filter(agent_work_order_id=order_id, status__in=ACTIVE).exists():
            removed.append(folder.name)
            if not dry_run:
                trash = data_dir / "trash" / f"{folder.name}-{timezone.now():%Y%m%d%H%M%S%f}"
                trash.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # another pass was faster
                    folder.rename(trash)
    if not dry_run:
        for folder in _children(data_dir / "trash"):
            shutil.rmtree(folder, ignore_errors=True)
    return tuple(removed)


def _remove_transfers(data_dir: Path, dry_run: bool) -> tuple[str, ...]:
    """Bundles and quarantines on their way when their worker died; a living worker's are younger."""
    removed = []
    for path in (*_children(data_dir / "outbox"), *_children(data_dir / "quarantine")):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _TRANSFER_SECONDS:
                removed.append(path.name)
                if not dry_run:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    return tuple(removed)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _forget_old_rows() -> None:
    now = timezone.now()
    IdempotencyRecord.objects.filter(created_at__lt=now - timedelta(days=_IDEMPOTENCY_DAYS)).delete()
    WorkerProcess.objects.filter(last_beat_at__lt=now - timedelta(days=_WORKER_ROW_DAYS)).delete()
