"""What django-q2 calls by name. Tasks take identifiers at most, re-read everything, and may run twice."""

import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from workorders import queue, wiring
from workorders.workflow_engine import lease, recovery, workers
from workorders.workflow_engine.recorder import DatabaseThread
from workorders.workflow_engine.supervisor import Supervisor

_STARTED = timezone.now()


def work() -> None:
    """A ticket: supervise steps in this process, unless the cluster has its full number of supervisors."""
    if queue.is_draining():
        return
    slot = _take_slot(
        settings.WORKORDERS_DATA_DIR / "run", os.getppid(), settings.WORKORDERS_WORKER_PROCESSES
    )
    if slot is None:
        return
    try:
        _supervise(wiring.share_of(slot.number))
    finally:
        os.close(slot.descriptor)
    if not queue.is_draining() and lease.has_claimable_steps():
        queue.issue_ticket()  # a step appeared between the last look and letting go of the slot


@dataclass(frozen=True)
class Slot:
    """One of a cluster's places for supervisors: a lock that ends with its process."""

    number: int
    descriptor: int


def _supervise(share: int) -> None:
    if share == 0:  # fewer steps than processes
        return
    owner = f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}"
    database = DatabaseThread()
    try:
        parts = wiring.engine_parts(share=share)
        Supervisor(
            parts,
            database,
            owner=owner,
            draining=queue.is_draining,
            beat=lambda running: workers.record_beat(
                owner, share=parts.settings.share, running=running, started_at=_STARTED
            ),
        ).run()
    finally:
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
    recovery.recover(settings.WORKORDERS_DATA_DIR)
