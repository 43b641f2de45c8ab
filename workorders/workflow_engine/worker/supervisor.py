"""One worker process's steps, side by side: claims them, renews their leases, ends them when it must.

A step runs in a thread of its own, which also starts the step's processes, so that they die with it. The
keeper renews all leases in one statement and ends a step's agent before its lease could have expired.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from django.db import DatabaseError, InterfaceError, transaction

from sandboxes.processes.run import controlled_by
from workorders.domain.errors import LeaseLost
from workorders.queueing.doorbell import Doorbell
from workorders.workflow_engine.claims import lease
from workorders.workflow_engine.claims.control import StepControl, StopCause
from workorders.workflow_engine.claims.lease import Claim
from workorders.workflow_engine.parts.engine import EngineParts
from workorders.workflow_engine.place.disk_floor import shortage
from workorders.workflow_engine.planning.retries import fault
from workorders.workflow_engine.planning.step_plan import StepPlan
from workorders.workflow_engine.record.claimed_step import ClaimedStep
from workorders.workflow_engine.record.journal import FollowingClaim, StepJournal
from workorders.workflow_engine.record.recorder import Database, LogBuffer, StepLogger
from workorders.workflow_engine.worker.run_step import Orchestrator

logger = structlog.get_logger("workorders")
_CLAIM_SECONDS = 0.25  # for work that another host queued; the doorbell tells of this host's
_COURTESY_SECONDS = 0.005  # about what a claim takes
_CANCEL_SECONDS = 0.5
# Starts take turns (`HostPlaces`). What waits for its own is better held by nobody: a lease costs renewals.
_MOST_STARTING = 2
_GUARD_SECONDS = 0.5
_LINGER_SECONDS = 10.0
_END_SECONDS = 8.0  # for steps that were told to end
_AWAY = (DatabaseError, InterfaceError)  # Django derives neither from the other


@dataclass
class RunningStep:
    """A claimed step and its thread. `renewed_at` is monotonic: when its lease was last known to be ours."""

    claim: Claim
    renewed_at: float
    thread: threading.Thread | None = None
    control: StepControl = field(init=False)

    def __post_init__(self) -> None:
        self.control = StepControl(f"{self.claim.agent_work_order_id}.{self.claim.epoch}")


class Guard(Protocol):
    """The dead-man guard's side for leases: a group's processes end at `until` (monotonic) by its own doing."""

    def trust(self, group: str, until: float) -> None: ...
    def forget(self, group: str) -> None: ...


class NoGuard:
    """For a process that ends its children by itself, or not at all."""

    def trust(self, group: str, until: float) -> None:
        pass

    def forget(self, group: str) -> None:
        pass


class Supervisor:
    """Runs until nothing is left to do for a while, or until `draining()`."""

    def __init__(
        self,
        parts: EngineParts,
        database: Database,
        *,
        owner: str,
        draining: Callable[[], bool],
        beat: Callable[[int], None],
        tick: Callable[[], None] = lambda: None,
        guard: Guard | None = None,
        rank: int = 0,
    ) -> None:
        """`tick` is called at every turn: the sign of life that the cluster's watchdog looks for.

        `rank` among the supervisors of a cluster: who comes after others lets them go first when it rings.
        """
        self._parts = parts
        self._settings = parts.settings
        self._database = database
        self._owner = owner
        self._draining = draining
        self._beat = beat
        self._tick = tick
        self._guard_process = guard or NoGuard()
        self._courtesy_seconds = rank * _COURTESY_SECONDS
        self._steps: dict[Claim, RunningStep] = {}
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._leaving = False
        self._buffer = LogBuffer(database)
        self._ended = threading.Event()
        self._doorbell = Doorbell(parts.settings.data_dir / "run")

    def run(self) -> None:
        threading.Thread(target=self._guard, name="lease-guard", daemon=True).start()
        idle_since = time.monotonic()
        renew_every = self._settings.lease_seconds / 6
        next_renewal = next_cancel_look = 0.0
        try:
            while not self._draining():
                self._tick()
                now = time.monotonic()
                if now >= next_renewal:
                    next_renewal = now + renew_every
                    self._renew()
                if now >= next_cancel_look:
                    next_cancel_look = now + _CANCEL_SECONDS
                    self._cancel()
                self._claim()
                if self._steps:
                    idle_since = now
                elif now - idle_since > _LINGER_SECONDS:
                    return
                if self._doorbell.wait(_CLAIM_SECONDS):
                    next_cancel_look = 0.0
                    time.sleep(self._courtesy_seconds)
            self._drain()
        finally:
            with self._claiming:
                self._leaving = True
            self._end_all()
            self._ended.set()
            self._buffer.close()
            self._doorbell.close()

    # --- claiming and running ---

    def _claim(self, *, look_first: bool = True) -> list[Claim]:
        """Fill the free places. Called by the loop, and by a step that has just made its order's next one claimable."""
        with self._claiming:
            if self._leaving or self._draining():
                return []
            running = self._running()
            starting = sum(not step.control.has_started for step in running)
            free = min(self._settings.share - len(running), _MOST_STARTING - starting)
            return self._claim_up_to(free, look_first)

    def _claim_up_to(self, free: int, look_first: bool) -> list[Claim]:
        has_suspect = any(step.claim.is_suspect for step in self._running())
        has_room = free > 0 and self._parts.room.is_there()

        def claim_steps() -> tuple[float, list[Claim]]:
            asked_at = time.monotonic()  # here: the call may have waited for the database before
            seconds = self._settings.lease_seconds
            return asked_at, lease.claim_steps(
                owner=self._owner,
                lease_seconds=seconds,
                limit=free,
                suspect=not has_suspect,
                new=has_room,
                look_first=look_first,
            )

        try:
            asked_at, claims = self._ask(claim_steps)
        except _AWAY as error:
            logger.warning("claim_failed", error=str(error)[:300])
            time.sleep(1)
            return []
        if any(claim.is_new for claim in claims):
            self._parts.room.take()
        for claim in claims:
            step = RunningStep(claim, asked_at)
            self._trust(step, asked_at)
            step.thread = threading.Thread(
                target=self._run_steps, args=(step,), name=claim.agent_work_order_id, daemon=True
            )
            with self._lock:
                self._steps[claim] = step
            step.thread.start()
        return claims

    def _run_steps(self, first: RunningStep) -> None:
        """Run a claimed step, and those that follow on it in its order as long as this process keeps the order."""
        step: RunningStep | None = first
        while step is not None:
            journal = StepJournal(step.claim, self._database, self._buffer, keep_seconds=self._keep_seconds)
            try:
                self._run_step(step, journal)
            except BaseException:
                self._leave(step)
                raise
            following = journal.following
            if following is None:
                self._leave(step)
            step = self._go_on(step, following) if following else None

    def _keep_seconds(self) -> float:
        return 0.0 if self._leaving or self._draining() else self._settings.lease_seconds

    def _go_on(self, ended: RunningStep, following: FollowingClaim) -> RunningStep:
        """The order's next step, in the place and the thread of the one that has ended."""
        self._guard_process.forget(ended.control.group)
        step = RunningStep(following.claim, following.asked_at, ended.thread)
        self._trust(step, following.asked_at)
        with self._claiming:
            with self._lock:
                self._steps.pop(ended.claim, None)
                self._steps[step.claim] = step
            if self._leaving:
                step.control.stop_because(StopCause.DRAIN)
        return step

    def _leave(self, ended: RunningStep) -> None:
        """Free the step's place, for another order or for this one's next step, before other processes hear of it."""
        with self._lock:
            self._steps.pop(ended.claim, None)
        self._guard_process.forget(ended.control.group)
        if ended.claim.pk not in {claimed.pk for claimed in self._claim(look_first=False)}:
            self._doorbell.ring_others()

    def _run_step(self, step: RunningStep, journal: StepJournal) -> None:
        claim = step.claim
        try:
            if (wait := shortage(self._settings)) and journal.postpone(wait):
                return
            plan = journal.begin()
            log = StepLogger(claim.pk, plan.context, self._buffer, claim.epoch)
            try:
                with controlled_by(step.control):
                    Orchestrator(ClaimedStep(self._parts, journal, log, step.control, plan)).run()
            except LeaseLost:
                raise
            except Exception as error:  # a fault of ours must end this step only, and be seen on its page
                if step.control.cause is StopCause.LOST:  # the database was away for too long, say
                    raise LeaseLost(claim.agent_work_order_id) from error
                logger.exception("workflow_step_crashed", agent_work_order_id=claim.agent_work_order_id)
                self._fail_by_fault(journal, plan, error)
        except LeaseLost:
            logger.warning("workflow_lease_lost", agent_work_order_id=claim.agent_work_order_id)
        except Exception:  # the lease runs out and recovery takes over
            logger.exception("workflow_step_unrecorded", agent_work_order_id=claim.agent_work_order_id)

    @staticmethod
    def _fail_by_fault(journal: StepJournal, plan: StepPlan, error: Exception) -> None:
        journal.fail_step(plan, fault(error))

    # --- keeping ---

    def _ask[T](self, function: Callable[[], T]) -> T:
        """Before what the steps have to write, which may be much: leases must not wait behind log entries."""
        return self._database.call(function, first=True, waiting=self._tick)

    def _running(self) -> list[RunningStep]:
        with self._lock:
            return list(self._steps.values())

    def _renew(self) -> None:
        steps = self._running()
        claims = [step.claim for step in steps]

        def renew() -> tuple[float, set[Claim]]:
            if not claims:
                return time.monotonic(), set()
            with transaction.atomic():  # waits for other writers; the lease is counted from after that
                asked_at = time.monotonic()
                seconds = self._settings.lease_seconds
                return asked_at, lease.renew(owner=self._owner, claims=claims, lease_seconds=seconds)

        try:
            asked_at, held = self._ask(renew)
            self._mark(steps, asked_at, held)
            self._ask(lambda: self._beat(len(steps)))
        except _AWAY as error:
            logger.warning("lease_renewal_failed", error=str(error)[:300])

    def _trust(self, step: RunningStep, renewed_at: float) -> None:
        """The step stops by itself at two thirds of its lease, and where it does not, is ended at five sixths."""
        step.renewed_at = renewed_at
        step.control.trust_until(renewed_at + self._settings.lease_seconds * 2 / 3)
        self._guard_process.trust(step.control.group, renewed_at + self._settings.lease_seconds * 5 / 6)

    def _mark(self, steps: list[RunningStep], asked_at: float, held: set[Claim]) -> None:
        for step in steps:
            if step.claim in held:
                self._trust(step, asked_at)
            else:  # also a step that has just ended, which no longer minds
                step.control.stop_because(StopCause.LOST)

    def _guard(self) -> None:
        """End each agent before its lease can have expired; asks no database, which may be what is away."""
        while not self._ended.wait(_GUARD_SECONDS):
            for step in self._running():
                if step.control.is_expired:
                    step.control.stop_because(StopCause.LOST)

    def _cancel(self) -> None:
        """Tell the steps whose orders somebody wants cancelled."""
        if not (steps := self._running()):
            return
        try:
            wanted = self._ask(
                lambda: lease.cancel_requested(owner=self._owner, claims=[step.claim for step in steps])
            )
        except _AWAY as error:
            logger.warning("cancel_look_failed", error=str(error)[:300])
            return
        for step in steps:
            if step.claim in wanted and step.control.cause is None:
                step.control.stop_because(StopCause.CANCEL)

    # --- ending ---

    def _drain(self) -> None:
        """Give running steps the grace period, renewing meanwhile; then put the rest back."""
        deadline = time.monotonic() + self._settings.drain_seconds
        while self._steps and time.monotonic() < deadline:
            self._tick()
            self._renew()
            self._cancel()
            time.sleep(_CLAIM_SECONDS)

    def _end_all(self) -> None:
        for step in self._running():
            step.control.stop_because(StopCause.DRAIN)
        deadline = time.monotonic() + _END_SECONDS
        for step in self._running():
            while step.thread is not None and step.thread.is_alive() and time.monotonic() < deadline:
                self._tick()
                step.thread.join(_CLAIM_SECONDS)
        for step in self._running():
            self._excuse(step)

    def _excuse(self, step: RunningStep) -> None:
        """A step that hears no brake must not count as one that killed its worker."""
        logger.warning("workflow_step_unended", agent_work_order_id=step.claim.agent_work_order_id)
        try:
            StepJournal(step.claim, self._database).excuse()
        except (LeaseLost, *_AWAY) as error:
            logger.warning("workflow_step_unexcused", error=str(error)[:300])
