"""A step's brake: the supervisor pulls it from another thread, the step asks why."""

import time
from enum import StrEnum

from sandboxes.processes.run import ExitReason, ProcessControl
from workorders.domain.states import Wait


class StopCause(StrEnum):
    """Why the supervisor ended a step."""

    CANCEL = "cancel"
    DRAIN = "drain"
    LOST = "lost"


class StepStopped(Exception):
    """The supervisor ended this step; `StepControl.cause` says why."""


class StepWaits(Exception):
    """The step cannot go on now; it is put back, visibly, and its attempt does not count."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.message)
        self.wait = wait


class StepPutBack(Exception):
    """The rows changed under the step; it is put back uncounted, to go on at once with what they say now."""


class StepControl(ProcessControl):
    """Ends the step's running process and is asked between two actions. A lost lease has the last word.

    The step may be trusted until a moment that each renewal of its lease puts off; after it nothing of the step
    starts any more, whether somebody has said so or not: this process may have been stopped meanwhile.
    """

    def __init__(self, group: str = "") -> None:
        super().__init__(group)
        self._cause: StopCause | None = None
        self._trusted_until = float("inf")
        self.has_started = False
        """Whether what keeps the processors busy at a step's start is over; set by the step, read by its supervisor."""

    @property
    def cause(self) -> StopCause | None:
        return StopCause.LOST if self.is_expired else self._cause

    @property
    def is_expired(self) -> bool:
        return time.monotonic() > self._trusted_until

    def note_start(self) -> None:
        self.has_started = True

    def trust_until(self, moment: float) -> None:
        """A monotonic moment. What has expired stays so."""
        if self.is_expired:
            self.stop_because(StopCause.LOST)
        self._trusted_until = moment

    def stop_because(self, cause: StopCause) -> None:
        if self._cause is not StopCause.LOST:
            self._cause = cause
        self.stop()

    def overdue_for(self, patience_seconds: float = 0.0) -> ExitReason | None:
        if self.is_expired:
            return ExitReason.STOPPED
        return super().overdue_for(0.0 if self._cause is StopCause.LOST else patience_seconds)

    def check(self) -> None:
        """Raises `StepStopped` once the brake is pulled."""
        if self.cause is not None:
            raise StepStopped
