"""What is done to the clusters while they work, from a seed; each leaves a note of when it hit which processes."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.chaos.clusters import ChaosServer, Cluster, start_time

KINDS = ("kill_worker", "kill_any", "kill_cluster", "pause_worker", "drain_cluster", "double_ticket")


@dataclass(frozen=True)
class Hit:
    """`pids` worked no more from `at` on (`time.time()`); a drained cluster's put their steps back."""

    kind: str
    at: float
    pids: frozenset[int]


@dataclass
class Disruptions:
    """One after another; `lease_seconds` tells how long a pause must last to be one that matters."""

    server: ChaosServer
    seed: str
    lease_seconds: float
    hits: list[Hit] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed}/disruptions")
        self._kinds: list[str] = []
        self._waking: list[threading.Timer] = []

    def one_more(self) -> str:
        """Every kind once, in an order of its own, before any kind again."""
        if not self._kinds:
            self._kinds = list(KINDS)
            self._random.shuffle(self._kinds)
        kind = self._kinds.pop()
        act: Callable[[], None] = getattr(self, f"_{kind}")
        act()
        return kind

    def settle(self) -> None:
        """Wait for those who sleep."""
        for timer in self._waking:
            timer.join(self.lease_seconds + 30)

    def _cluster(self) -> Cluster:
        return self._random.choice(self.server.clusters)

    def _note(self, kind: str, pids: list[int]) -> None:
        self.hits.append(Hit(kind, time.time(), frozenset(pids)))

    def _kill_worker(self) -> None:
        if found := self.server.supervisors():
            pid = self._random.choice(found)
            self._note("kill_worker", [pid])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _kill_any(self) -> None:
        """Any process of a cluster but its main one: the sentinel, a helper, an idle worker."""
        cluster = self._cluster()
        if found := cluster.processes()[1:]:
            pid = self._random.choice(found)
            # where it is the sentinel, all below it go with it
            self._note("kill_any", found if pid == found[0] else [pid])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _kill_cluster(self) -> None:
        cluster = self._cluster()
        self._note("kill_cluster", cluster.processes())
        cluster.kill()
        cluster.start()

    def _pause_worker(self) -> None:
        found = self.server.supervisors()
        if not found:
            return
        pid = self._random.choice(found)
        born = start_time(pid)
        self._note("pause_worker", [pid])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

        def wake() -> None:
            if start_time(pid) == born:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

        timer = threading.Timer(self.lease_seconds + 3, wake)
        timer.start()
        self._waking.append(timer)

    def _drain_cluster(self) -> None:
        cluster = self._cluster()
        started = time.monotonic()
        code = cluster.drain()
        self.hits.append(Hit("drain_cluster", time.time(), frozenset()))
        if code != 0:
            seconds = time.monotonic() - started
            self.complaints.append(f"{cluster.name}: SIGTERM ended with {code} after {seconds:.0f} s")
        cluster.start()

    def _double_ticket(self) -> None:
        self.server.double_a_ticket()
        self.hits.append(Hit("double_ticket", time.time(), frozenset()))
