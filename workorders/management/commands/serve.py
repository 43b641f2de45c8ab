"""`serve`: web and workers together, for one machine."""

import signal
import sys
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections

from sandboxes.processes.run import Service
from workorders.management import arguments
from workorders.management.database import DatabaseCommand
from workorders.queueing import queue
from workorders.serving.web import (
    LOOPBACK,
    collect_static,
    listen,
    slow_lane_socket,
    web_address,
    web_server_argv,
)

logger = structlog.get_logger("workorders")


class Command(DatabaseCommand):
    help = "Run the web server and the workers; stop with Ctrl-C or SIGTERM (a second signal stops at once)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=arguments.port, default=8000)
        parser.add_argument(
            "--workers", type=arguments.workers, help="steps at the same time (default: WORKORDERS_WORKERS)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        if settings.WORKORDERS_AUTH == "none" and host not in LOOPBACK:
            raise CommandError(
                f"WORKORDERS_AUTH=none is accepted on loopback only, not on {host}. "
                "Set WORKORDERS_AUTH=required and make an account with `manage.py createsuperuser`."
            )
        workers = ["--workers", str(options["workers"])] if options["workers"] else []
        with listen(host, port) as listener, slow_lane_socket() as slow_lane:  # first: the port may be taken
            connections.close_all()  # it was asked for the check of migrations only
            collect_static()
            self.signals = 0
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            sockets = [listener.fileno(), slow_lane.fileno()]
            services = {
                "workers": Service([sys.executable, sys.argv[0], "qcluster", *workers]),
                "web": Service(web_server_argv(*sockets), pass_fds=sockets),
            }
            listener.close()  # the web server has it, and the port is free once that ends
            logger.info(
                "server_started",
                address=f"{web_address(host, port)}/",
                database=settings.WORKORDERS_DATABASE_WORDS,
                data_folder=str(settings.WORKORDERS_DATA_DIR),
                pid_by_service=_pids(services),
            )
            try:
                failed = self._watch(services)
            finally:
                self._stop(services)
        if failed:
            raise CommandError(f"The {failed} process ended by itself; its last lines are above.")

    def _watch(self, services: dict[str, Service]) -> str | None:
        """Until a signal comes (None) or one of the services ends (its name)."""
        while not self.signals:
            for name, service in services.items():
                if service.poll() is not None:
                    return name
            time.sleep(0.1)
        return None

    def _stop(self, services: dict[str, Service]) -> None:
        logger.info("server_stopping")
        for service in services.values():
            service.terminate()
        deadline = time.monotonic() + queue.stop_budget_seconds() + 2
        while any(service.poll() is None for service in services.values()):
            if self.signals > 1 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        for service in services.values():
            service.stop(within_seconds=2 if self.signals > 1 else 0)
        logger.info("server_stopped")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1


def _pids(services: dict[str, Service]) -> dict[str, int]:
    return {name: service.pid for name, service in services.items()}
