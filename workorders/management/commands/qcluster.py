"""`qcluster`: workers alone. Overrides django-q2's command, whose main process can hang when it is stopped."""

import signal
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

import structlog
from django.core.management.base import BaseCommand

from workorders import queue

logger = structlog.get_logger("workorders")
_RESTART_SECONDS = 2.0


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
        cluster = queue.WorkCluster()
        cluster.start()
        logger.info("cluster_started", **queue.describe())
        while not self.signals:
            time.sleep(0.1)
            if not cluster.is_alive:
                logger.error("cluster_restarted", reason="its guard process ended")
                time.sleep(_RESTART_SECONDS)
                cluster = queue.WorkCluster()
                cluster.start()
        logger.info("cluster_stopping")
        cluster.stop(within_seconds=queue.stop_budget_seconds(), hurry=lambda: self.signals > 1)
        logger.info("cluster_stopped")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1
