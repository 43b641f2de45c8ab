"""`qcluster`: workers alone. Overrides django-q2's command, whose main process can hang when it is stopped."""

import os
import signal
import socket
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections
from django.utils import timezone

from workorders import queue
from workorders.management.gateway import GatewayKeeper
from workorders.workflow_engine import recovery, workers

logger = structlog.get_logger("workorders")
_RESTART_SECONDS = 2.0
_BEAT_SECONDS = 2.0


class Beat:
    """Keeps this cluster's row in the registry fresh, and the queue from running dry of tickets.

    A database that is away is waited out.
    """

    def __init__(self, gateway: GatewayKeeper) -> None:
        self._gateway = gateway
        self._name = f"{socket.gethostname()}:{os.getpid()}:cluster"
        self._started_at = timezone.now()
        self._next = 0.0

    def when_due(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _BEAT_SECONDS
        try:
            share = queue.describe()["workers"]
            gateway = (self._gateway.url, self._gateway.state())
            workers.record_beat(
                self._name, share=share, running=0, started_at=self._started_at, gateway=gateway
            )
            recovery.issue_missing_ticket()  # a worker may have died with the ticket, or with a step
        except DatabaseError as error:
            logger.warning("worker_beat_failed", error=str(error)[:300])
            connections.close_all()

    def forget(self) -> None:
        try:
            workers.forget_worker(self._name)
        except DatabaseError as error:
            logger.warning("worker_beat_failed", error=str(error)[:300])


def _open_gateway() -> GatewayKeeper:
    """Before the workers, which inherit its address."""
    gateway = GatewayKeeper()
    try:
        gateway.start()
    except OSError as error:
        raise CommandError(
            f"The model gateway cannot listen: {error}. Correct WORKORDERS_GATEWAY_LISTEN, or leave it out for "
            "any free port."
        ) from error
    return gateway


class Command(BaseCommand):
    help = "Run workers on this machine; stop with Ctrl-C or SIGTERM (a second signal stops at once)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--workers", type=int, help="steps at the same time (default: WORKORDERS_WORKERS)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        self.signals = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        queue.set_workers(options["workers"])
        queue.ensure_schedules()
        gateway = _open_gateway()
        cluster = queue.WorkCluster()
        cluster.start()
        logger.info("cluster_started", gateway=gateway.url, **queue.describe())
        beat = Beat(gateway)
        while not self.signals:
            time.sleep(0.1)
            gateway.keep()
            beat.when_due()
            if not cluster.is_alive:
                logger.error("cluster_restarted", reason="its guard process ended")
                time.sleep(_RESTART_SECONDS)
                cluster = queue.WorkCluster()
                cluster.start()
        logger.info("cluster_stopping")
        cluster.stop(within_seconds=queue.stop_budget_seconds(), hurry=lambda: self.signals > 1)
        gateway.stop()
        beat.forget()
        logger.info("cluster_stopped")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1
