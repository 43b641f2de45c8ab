"""The free-space floor: below it no agent is started, and orders wait visibly until there is space again.

Deliveries still run: they need next to nothing and give space back.
"""

import socket

from sandboxes.files.disk import free_bytes, in_units
from workorders.domain.states import Wait, WaitingReason
from workorders.workflow_engine.parts.engine import EngineSettings

LOOK_AGAIN_SECONDS = 20.0


def shortage(settings: EngineSettings) -> Wait | None:
    """What a step that would start now has to wait for; None where there is space."""
    free, floor = free_bytes(settings.data_dir), settings.disk_floor_bytes
    if free >= floor:
        return None
    return _wait(
        f"{in_units(free)} are free on {socket.gethostname()}, and no agent is started below {in_units(floor)}."
    )


def became_full(settings: EngineSettings) -> Wait:
    """For a step that found no space while it ran."""
    free = in_units(free_bytes(settings.data_dir))
    return _wait(f"The disk of {socket.gethostname()} became full while the step ran ({free} are free now).")


def _wait(words: str) -> Wait:
    advice = "It goes on by itself when there is space; `manage.py prune` removes what is old."
    return Wait(WaitingReason.DISK_FULL, f"{words} {advice}", LOOK_AGAIN_SECONDS)
