"""What the rest knows of django-q2: tickets, short tasks, schedules and the cluster around them.

Only this module and `broker`, which is where the messages are kept, talk to django-q2.

A ticket says "come and claim" and carries nothing, so a lost, doubled or prefetched one is harmless. What
django-q2 does when processes die is in docs/adr/0003; `WorkCluster` keeps that away from the orders.
"""

import ctypes
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone
from django_q.cluster import Sentinel
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule, Task
from django_q.monitor import monitor
from django_q.pusher import pusher
from django_q.signals import post_spawn
from django_q.tasks import async_task
from django_q.worker import worker

from sandboxes.processes.hardening import dumpable
from workorders.queueing import broker, doorbell
from workorders.queueing.liveness import Tick, Ticks
from workorders.queueing.ticket_pipe import Flag, TicketPipe, Timer

logger = structlog.get_logger("workorders.queue")  # the name in the logs of installations

WORK_TASK = "workorders.tasks.work"
RECOVERY_TASK = "workorders.tasks.recover"
_MESSAGES_READ = 500  # whoever overlooks one queues a second
_PR_SET_PDEATHSIG = 1
_NICENESS = 10
_TURN_SECONDS = 0.6  # the sentinel waits half a second, and looks twenty times a second meanwhile
STALLED_SECONDS = 60.0  # its loop turns twice a second; a database that hangs may hold it up for a while
_TICKET_BYTES = 32 * 1024  # some twenty tickets: a busy cluster must not hold what an idle one could do
_RESULT_BYTES = 512 * 1024
_context: ForkContext = multiprocessing.get_context("fork")
_draining = Flag()
supervisor_ticks = Ticks()  # this process's and its children's


def issue_ticket(*, wake: bool = True) -> None:
    """Ask any worker to come and claim; part of the caller's transaction, so it appears with its rows.

    `wake` False: for a supervisor, which looks for itself first and wakes the others then.
    """
    async_task(WORK_TASK, timeout=-1, save=False, task_name="ticket")
    if wake:
        wake_supervisors()


def wake_supervisors() -> None:
    """Let this host's supervisors look at once, when the caller's transaction has committed."""
    transaction.on_commit(lambda: doorbell.ring_all(settings.WORKORDERS_DATA_DIR / "run"))


def run_short_task(function: str, *arguments: int | str) -> None:
    """Queue a short task by dotted name; identifiers only, at most five minutes."""
    async_task(function, *arguments, save=False)


def is_outstanding(function: str, *, lost_after: timedelta) -> bool:
    """Whether a message for the short task waits, or was taken so lately that a worker should still be at it."""
    now = timezone.now()
    taken = now + timedelta(seconds=Conf.RETRY)  # until when a message taken now is locked
    newest = OrmQ.objects.order_by("-pk")[:_MESSAGES_READ]
    return any(row.func() == function for row in newest if row.lock <= now or row.lock > taken - lost_after)


def ask_for_recovery() -> None:
    """A recovery pass now, beside the schedule's; part of the caller's transaction."""
    run_short_task(RECOVERY_TASK)


def waiting_tickets() -> int:
    """Messages nobody has taken yet; one that a dead worker took does not count."""
    count: int = OrmQ.objects.filter(lock__lte=timezone.now()).count()
    return count


def forget_old(before: datetime, *, dry_run: bool = False) -> int:
    """Results of short tasks and tickets that nobody took, from before a time; how many."""
    old = (Task.objects.filter(stopped__lt=before), OrmQ.objects.filter(lock__lt=before))
    count: int = sum(rows.count() for rows in old)
    if not dry_run:
        for rows in old:
            rows.delete()
    return count


def oldest_waiting_ticket() -> int | None:
    """The key of the message that nobody has taken for the longest time."""
    found: int | None = (
        OrmQ.objects.filter(lock__lte=timezone.now()).order_by("pk").values_list("pk", flat=True).first()
    )
    return found


def ensure_schedules() -> None:
    """The recovery pass, once a minute; safe to call from every cluster that starts."""
    Schedule.objects.update_or_create(
        name="recovery",
        defaults={"func": RECOVERY_TASK, "schedule_type": Schedule.MINUTES, "minutes": 1, "repeats": -1},
    )


def set_workers(count: int | None) -> None:
    """Steps at the same time for the cluster this process is about to start; None keeps the setting."""
    if count is not None:
        settings.WORKORDERS_WORKERS = max(1, count)


def supervising_processes() -> int:
    """How many processes share the steps; each has one at least, for one without would hand its ticket on for ever."""
    return min(settings.WORKORDERS_WORKER_PROCESSES, settings.WORKORDERS_WORKERS)


def share_of(slot: int) -> int:
    """How many steps the supervisor in this slot runs at once, so that all together run WORKORDERS_WORKERS."""
    whole, rest = divmod(settings.WORKORDERS_WORKERS, supervising_processes())
    return whole + (1 if slot < rest else 0)


def describe() -> dict[str, int]:
    return {"workers": settings.WORKORDERS_WORKERS, "worker_processes": supervising_processes()}


def is_draining() -> bool:
    """True once this process's cluster was asked to stop: claim nothing more, put steps back."""
    return _draining.is_set()


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _die_with_sentinel() -> None:
    sentinel = multiprocessing.parent_process()
    assert sentinel is not None
    assert sentinel.pid is not None
    _die_with_parent(sentinel.pid)


def _start_worker(**_signal: Any) -> None:
    """In each fresh worker process: end with the sentinel, and leave signals to the main process."""
    _die_with_sentinel()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


post_spawn.connect(_start_worker, dispatch_uid="workorders.queueing.queue")


def _push(tickets: TicketPipe, ending: Flag, messages: broker.TicketBroker) -> None:
    with closing(messages):
        pusher(tickets, ending, messages)


def _run_with_sentinel(function: Callable[..., None], *arguments: Any) -> None:
    """An orphaned pusher would go on taking tickets that nobody gets."""
    _die_with_sentinel()
    function(*arguments)


def _yield_to_the_web() -> None:
    """Workers and agents get what the web server leaves: by niceness, and where the kernel groups sessions
    (`sched_autogroup_enabled`), which makes niceness count inside a session only, by the session's own.
    """
    os.nice(_NICENESS)
    with suppress(OSError), dumpable():
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


class _WorkSentinel(Sentinel):  # type: ignore[misc]  # django-q2 has no types
    """django-q2's sentinel with queues that survive a killed worker, and no child that survives it."""

    def start(self) -> None:
        self.pool_size = supervising_processes() + 1  # one stays free for short tasks and schedules
        self.task_queue = TicketPipe(_TICKET_BYTES)
        self.result_queue = TicketPipe(_RESULT_BYTES)
        self.event_out = Flag()
        super().start()

    def spawn_worker(self) -> None:
        self.spawn_process(worker, self.task_queue, self.result_queue, Timer(), self.timeout)

    def spawn_pusher(self) -> Any:
        target = partial(_run_with_sentinel, _push)
        return self.spawn_process(target, self.task_queue, self.event_out, self.broker)

    def spawn_monitor(self) -> Any:
        return self.spawn_process(partial(_run_with_sentinel, monitor), self.result_queue, self.broker)

    def stop(self) -> None:
        self.event_out.set()
        broker.ring()  # the pusher looks at the flag after each look at the database
        super().stop()


def _run_sentinel(parent: int, stop: Flag, start: Flag, cluster_id: uuid.UUID) -> None:
    """django-q2's own loop, in a session of its own: a signal to the terminal's group must not reach it."""
    os.setsid()
    _yield_to_the_web()
    _die_with_parent(parent)
    _WorkSentinel(stop, start, cluster_id, None, None)


class WorkCluster:
    """django-q2's sentinel and workers under a main process that cannot hang.

    django-q2's `Cluster` waits without limit on stop and hangs when a signal reaches the whole group; here
    stopping is: raise the drain flag, give running steps the grace period, ask the sentinel to stop, and end
    what is left of its session.
    """

    def __init__(self) -> None:
        self._stop = Flag()
        self._sentinel: ForkProcess | None = None

    def start(self) -> None:
        _draining.clear()
        connections.close_all()  # a forked child must not share a connection
        arguments = (os.getpid(), self._stop, Flag(), uuid.uuid4())
        self._sentinel = _context.Process(target=_run_sentinel, args=arguments, name="workorders-sentinel")
        self._sentinel.start()

    @property
    def trouble(self) -> str:
        """Why it must be replaced; empty while all is well."""
        if self._sentinel is None or not self._sentinel.is_alive():
            return "its guard process ended"
        silent = time.monotonic() - self._stop.beat
        return f"its guard process has stood still for {silent:.0f} s" if silent > STALLED_SECONDS else ""

    @property
    def late_seconds(self) -> float:
        """How late the sentinel, which has its workers' niceness, had its last turn."""
        return max(0.0, time.monotonic() - self._stop.beat - _TURN_SECONDS)

    def ticks(self) -> list[Tick]:
        """The signs of life of this cluster's supervisors."""
        mine = set(self.processes())
        return [tick for tick in supervisor_ticks.read() if tick.pid in mine]

    def processes(self) -> list[int]:
        """The sentinel and its children, all of them this cluster's own."""
        sentinel = self._sentinel
        if sentinel is None or sentinel.pid is None:
            return []
        children = ""
        with suppress(OSError):  # it has just ended, or this kernel does not tell
            children = Path(f"/proc/{sentinel.pid}/task/{sentinel.pid}/children").read_text()
        return [sentinel.pid, *map(int, children.split())]

    def end_process(self, pid: int) -> bool:
        """Kill a process that no longer answers, so that another gets its place; only one of this cluster's own."""
        if pid not in self.processes():
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def drain(self) -> None:
        """Running steps finish within the grace period or are put back; nothing new is claimed."""
        _draining.set()

    def stop(self, *, within_seconds: float, hurry: Callable[[], bool]) -> None:
        """Stop everything; `hurry()` turning true ends the wait at once."""
        self.drain()
        self._stop.set()
        sentinel = self._sentinel
        if sentinel is None:
            return
        deadline = time.monotonic() + within_seconds
        while sentinel.is_alive() and time.monotonic() < deadline and not hurry():
            sentinel.join(0.1)
        if sentinel.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(sentinel.pid, signal.SIGKILL)
        sentinel.join(5)


def stop_budget_seconds() -> float:
    """How long a drained cluster may take: the steps' grace period and django-q2's own goodbyes."""
    return float(settings.WORKORDERS_DRAIN_SECONDS) + 10.0
