"""`qcluster`: workers alone. Overrides django-q2's command, whose main process can hang when it is stopped."""

import signal
import time
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import CommandError

from workorders.management import arguments
from workorders.management.cluster.gateway import GatewayKeeper
from workorders.management.cluster.housekeeping import Housekeeper
from workorders.management.cluster.stopped import STOPPED_SECONDS, StoppedProcesses
from workorders.management.cluster.watchdog import Silent, Watchdog
from workorders.management.database import DatabaseCommand
from workorders.queueing import queue
from workorders.workflow_engine.claims import workers

logger = structlog.get_logger("workorders")
_RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.1


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


class UselessProcesses:
    """Those of a cluster that hold a place, a step or the database's lock and do nothing with it."""

    def __init__(self, watchdog: Watchdog, run_folder: Path) -> None:
        self._watchdog = watchdog
        self._run_folder = run_folder
        self._stopped = StoppedProcesses()
        self._ended: set[int] = set()

    def end(self, cluster: queue.WorkCluster) -> None:
        """Kill them, each once, so that others get their place; says so once."""
        silent = self._watchdog.look(cluster.ticks(), late_seconds=cluster.late_seconds)
        stopped = [Silent(pid, STOPPED_SECONDS, False) for pid in self._stopped.among(cluster.processes())]
        for found in (*stopped, *silent):
            if found.pid in self._ended:
                continue
            workers.note_replacement(self._run_folder, found.pid, excused=found.under_pressure)
            if cluster.end_process(found.pid):
                self._ended.add(found.pid)
                reason = "stopped by a signal" if found in stopped else "it no longer turned"
                logger.error(
                    "worker_replaced",
                    reason=reason,
                    pid=found.pid,
                    silent_seconds=round(found.seconds, 1),
                    under_pressure=found.under_pressure,
                )


class Command(DatabaseCommand):
    help = "Run workers on this machine; stop with Ctrl-C or SIGTERM (a second signal stops at once)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--workers", type=arguments.workers, help="steps at the same time (default: WORKORDERS_WORKERS)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        self.signals = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        queue.set_workers(options["workers"])
        queue.ensure_schedules()
        gateway = _open_gateway()
        housekeeper = Housekeeper(gateway)
        housekeeper.announce()
        cluster = queue.WorkCluster()
        cluster.start()
        housekeeper.start()
        logger.info("cluster_started", gateway=gateway.url, **queue.describe())
        useless = UselessProcesses(
            Watchdog(settings.WORKORDERS_LEASE_SECONDS), settings.WORKORDERS_DATA_DIR / "run"
        )
        while not self.signals:
            time.sleep(_LOOK_SECONDS)
            gateway.keep()
            useless.end(cluster)
            standstill = "no task is taken from the queue" if housekeeper.queue_stands_still else ""
            if trouble := cluster.trouble or standstill:
                cluster = self._replaced(cluster, housekeeper, trouble)
        logger.info("cluster_stopping")
        cluster.stop(within_seconds=queue.stop_budget_seconds(), hurry=lambda: self.signals > 1)
        gateway.stop()
        housekeeper.stop()
        logger.info("cluster_stopped")

    def _replaced(
        self, cluster: queue.WorkCluster, housekeeper: Housekeeper, reason: str
    ) -> queue.WorkCluster:
        """A new cluster for one that has died or stands still; running steps are put back where that still works."""
        logger.error("cluster_restarted", reason=reason)
        cluster.stop(within_seconds=queue.stop_budget_seconds(), hurry=lambda: self.signals > 0)
        time.sleep(_RESTART_SECONDS)
        fresh = queue.WorkCluster()
        with housekeeper.paused():
            housekeeper.forget_queue()
            if not self.signals:
                fresh.start()
        return fresh

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1
