"""What django-q2 calls by name. Tasks take identifiers at most, re-read everything, and may run twice."""

import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from github_app.models import Repository
from sandboxes.errors import ExpectedError
from sandboxes.processes import run as process
from sandboxes.processes.dead_man import DeadManGuard
from workorders import wiring
from workorders.queueing import queue
from workorders.services import work_orders as services
from workorders.workflow_engine.claims import lease, workers
from workorders.workflow_engine.outward import withdrawals
from workorders.workflow_engine.record.recorder import DatabaseThread
from workorders.workflow_engine.upkeep import colours, recovery
from workorders.workflow_engine.upkeep.retention import prune_when_due
from workorders.workflow_engine.worker.supervisor import Supervisor


def work() -> None:
    """A ticket: supervise steps in this process, unless the cluster has its full number of supervisors."""
    if queue.is_draining():
        return
    folder = settings.WORKORDERS_DATA_DIR / "run"
    slot = _take_slot(folder, os.getppid(), queue.supervising_processes())
    if slot is None:
        return
    owner = f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}.{slot.number}"
    share = queue.share_of(slot.number)
    try:
        if lease.has_claimable_steps(more_than=share):
            queue.issue_ticket(wake=False)  # for one more supervisor, until all are at work
        with workers.signed_on(folder, owner):
            _supervise(owner, share, slot.number)
    finally:
        os.close(slot.descriptor)
    if not queue.is_draining() and lease.has_claimable_steps():
        queue.issue_ticket()  # a step appeared between the last look and letting go of the slot


@dataclass(frozen=True)
class Slot:
    """One of a cluster's places for supervisors: a lock that ends with its process."""

    number: int
    descriptor: int


def _supervise(owner: str, share: int, rank: int) -> None:
    started_at = timezone.now()
    guard = DeadManGuard()
    process.guarded_by(guard)
    database = DatabaseThread()
    try:
        parts = wiring.engine_parts(share=share, database=database)
        Supervisor(
            parts,
            database,
            owner=owner,
            draining=queue.is_draining,
            beat=lambda running: workers.record_beat(
                owner, share=parts.settings.share, running=running, started_at=started_at
            ),
            tick=queue.supervisor_ticks.ticker(rank, os.getpid()),
            guard=guard,
            rank=rank,
        ).run()
    finally:
        queue.supervisor_ticks.forget(rank)
        process.guarded_by(None)
        guard.close()
        database.close()
        workers.forget_worker(owner)


def _take_slot(folder: Path, cluster: int, count: int) -> Slot | None:
    """None when the cluster's supervisors are all at work."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(count):
        descriptor = os.open(
            folder / f"supervisor-{cluster}-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return Slot(number, descriptor)
    return None


def recover() -> None:
    """The recovery schedule."""
    recovery.recover(
        settings.WORKORDERS_DATA_DIR,
        wiring.isolation_settings(),
        settings.WORKORDERS_SANDBOX_PROVIDERS,
        may_remove=wiring.may_remove_sandbox,
    )
    parts = wiring.engine_parts()
    withdrawals.withdraw_owed(parts)
    prune_when_due(parts, wiring.retention())


def withdraw_pull_requests() -> None:
    """Pull requests of cancelled orders that are still to be closed."""
    withdrawals.withdraw_owed(wiring.engine_parts())


def verify_repository(repository_pk: int) -> None:
    """A repository somebody wants verified; where that is no longer so, another delivery did it."""
    row = Repository.objects.filter(pk=repository_pk, verification_requested_at__isnull=False).first()
    if row is None:
        return
    if row.replaced_at is None:
        found, error_message, unanswered = wiring.examine_repository(row.repository_url)
        named = services.record_repository_verification(
            row.reference, found=found, error_message=error_message, unanswered=unanswered
        )
        if found is not None and named.issues_fetched_at is None:
            services.request_issues(
                repository_pk=named.pk
            )  # so that the form for new orders has them to pick
        row = Repository.objects.filter(pk=repository_pk, replaced_at__isnull=False).first()
    if row is not None and row.github_id is not None:  # another one has its name by now
        found, error_message, _unanswered = wiring.examine_repository(
            row.repository_url, lost_id=row.github_id
        )
        services.record_lost_repository(repository_pk=row.pk, found=found, error_message=error_message)


def colour_changes(_order_pk: int | None = None) -> None:
    """Stored diffs get their syntax colours. Messages of earlier releases name an order."""
    colours.colour_changes()


def refresh_issues(repository_pk: int) -> None:
    """The open issues somebody wants to choose from, as they are now."""
    row = Repository.objects.filter(pk=repository_pk, issues_requested_at__isnull=False).first()
    if row is None:
        return
    try:
        issues = wiring.open_issues(row.repository_url)
    except ExpectedError as error:
        services.record_open_issues(repository_pk=row.pk, issues=None, error_message=wiring.in_words(error))
        return
    services.record_open_issues(repository_pk=row.pk, issues=issues)
