"""What a cluster's main process does beside watching its children: beats, tickets, tasks, and sweeping this host.

In a thread, because a database or a disk that hangs must not keep the main process from hearing a signal. Sweeping has
one of its own: bringing a dead worker's work into git may take minutes, and the beats cannot wait.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from sandboxes.errors import ExpectedError
from sandboxes.processes.run import ProcessControl, controlled_by
from sandboxes.providers import ProviderSettings
from workorders import wiring
from workorders.management.cluster.gateway import STARTING, GatewayKeeper
from workorders.models.clock import database_now
from workorders.queueing import queue
from workorders.workflow_engine.claims import workers
from workorders.workflow_engine.outward import withdrawals
from workorders.workflow_engine.upkeep import colours, recovery

logger = structlog.get_logger("workorders")
BEAT_SECONDS = 2.0
SWEEP_SECONDS = 60.0
STUCK_SECONDS = 90.0
COLOUR_SECONDS = 10.0  # between two tasks: orders that end one after another share a child
_DEATH_LOOK_SECONDS = 0.25
_START_SECONDS = 0.3  # between beats while the gateway starts: orders wait for it, and /readyz says so
_PAUSE_SECONDS = 10.0
_THIS_HOST_ONLY = ProviderSettings()  # what runs elsewhere is the recovery schedule's, once for all hosts
_WHATEVER_MAY_BE_AWAY = (DatabaseError, InterfaceError, OSError, ExpectedError)


class Housekeeper:
    """Keeps this cluster's row in the registry fresh, the queue from running dry of tickets, and the host clean."""

    def __init__(self, gateway: GatewayKeeper) -> None:
        self._gateway = gateway
        self._name = f"{socket.gethostname()}:{os.getpid()}:cluster"
        self._busy = threading.Lock()
        self._sweeping = threading.Lock()
        self._sweep_control = ProcessControl()
        self._ended = threading.Event()
        self._next_sweep = 0.0
        self._next_colours = 0.0
        self._waiting: tuple[int, float] | None = None
        self._started_at: datetime | None = None
        self._gateway_starts = True
        self._run_folder = settings.WORKORDERS_DATA_DIR / "run"
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def announce(self) -> None:
        """Before any worker shows itself: the gateway is starting, so that nobody takes this cluster for ready."""
        self._carefully(lambda: self._beat(STARTING))

    def start(self) -> None:
        self._thread.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Between two passes: a process may be forked now, for no lock and no connection is in use."""
        # in this order: no sweep begins while no pass does
        held = [lock for lock in (self._busy, self._sweeping) if lock.acquire(timeout=_PAUSE_SECONDS)]
        try:
            yield
        finally:
            for lock in held:
                lock.release()

    @property
    def queue_stands_still(self) -> bool:
        """Whether the same message has waited for so long that this cluster can't be taking any."""
        waiting = self._waiting
        return waiting is not None and time.monotonic() - waiting[1] > STUCK_SECONDS

    def forget_queue(self) -> None:
        self._waiting = None

    def stop(self) -> None:
        """Take the row away; a database that is away keeps it until it grows old."""
        self._ended.set()
        self._sweep_control.stop()
        with self.paused():
            self._carefully(lambda: workers.forget_worker(self._name))

    def _run(self) -> None:
        while not self._ended.is_set():
            with self._busy:
                if not self._ended.is_set():
                    self._carefully(self._pass)
            self._wait()

    def _wait(self) -> None:
        """Until the next beat, or until somebody has died, which is seen without the database."""
        deadline = time.monotonic() + (_START_SECONDS if self._gateway_starts else BEAT_SECONDS)
        known = set(workers.dead_workers(self._run_folder))
        while time.monotonic() < deadline and not self._ended.wait(_DEATH_LOOK_SECONDS):
            if set(workers.dead_workers(self._run_folder)) - known:
                return

    def _beat(self, gateway_state: str) -> None:
        self._started_at = self._started_at or database_now()
        self._gateway_starts = gateway_state == STARTING
        workers.record_beat(
            self._name,
            share=queue.describe()["workers"],
            running=0,
            started_at=self._started_at,
            gateway=(self._gateway.url, gateway_state),
        )

    def _pass(self) -> None:
        self._beat(self._gateway.state())
        recovery.end_leases_of_the_dead(settings.WORKORDERS_DATA_DIR)
        recovery.issue_missing_ticket()  # a worker may have died with the ticket, or with a step
        withdrawals.issue_missing_task()
        if time.monotonic() >= self._next_colours and colours.issue_missing_task():
            self._next_colours = time.monotonic() + COLOUR_SECONDS
        oldest = queue.oldest_waiting_ticket()
        if oldest is None:
            self._waiting = None
        elif self._waiting is None or self._waiting[0] != oldest:
            self._waiting = (oldest, time.monotonic())
        if time.monotonic() >= self._next_sweep and not self._sweeping.locked():
            self._next_sweep = time.monotonic() + SWEEP_SECONDS
            threading.Thread(target=self._sweep, name="sweeping", daemon=True).start()

    def _sweep(self) -> None:
        with self._sweeping, controlled_by(self._sweep_control):
            self._carefully(self._sweep_host)

    def _sweep_host(self) -> None:
        swept = recovery.sweep_here(
            settings.WORKORDERS_DATA_DIR,
            wiring.isolation_settings(),
            _THIS_HOST_ONLY,
            may_remove=lambda identifier: wiring.may_remove_sandbox(identifier, self._ended.is_set),
        )
        if swept:
            logger.info("host_swept", leftovers=list(swept))

    @staticmethod
    def _carefully(act: Callable[[], None]) -> None:
        """Whatever is away now is looked at again in the next pass. No connection is kept, see `paused`."""
        try:
            act()
        except _WHATEVER_MAY_BE_AWAY as error:
            logger.warning("housekeeping_failed", error=str(error)[:300])
        finally:
            connections.close_all()
