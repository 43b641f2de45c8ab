"""A step's brake: the supervisor pulls it from another thread, the step asks why."""

from enum import StrEnum

from sandboxes.process import ProcessControl
from workorders.states import Wait


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


class StepControl(ProcessControl):
    """Ends the step's running process and is asked between two actions. A lost lease has the last word."""

    def __init__(self) -> None:
        super().__init__()
        self.cause: StopCause | None = None

    def stop_because(self, cause: StopCause) -> None:
        if self.cause is not StopCause.LOST:
            self.cause = cause
        self.stop()

    def check(self) -> None:
        """Raises `StepStopped` once the brake is pulled."""
        if self.cause is not None:
            raise StepStopped
