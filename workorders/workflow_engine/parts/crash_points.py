"""Named places where a worker can be made to die, so that tests show that nothing is lost there.

Does nothing unless `WORKORDERS_CRASH_AT` names the place; then the process kills itself with SIGKILL, which leaves no
`finally` and no handler a chance, as a power cut would.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

POINTS = (
    "claimed",  # the step is ours, nothing has begun
    "sandbox_opened",  # the place to work is made, the rows do not know it
    "agent_running",  # the agent has said its first word
    "agent_done",  # it has ended, nothing of it is recorded
    "committed",  # its commits are in a bundle, the mirror has none of them
    "fetched",  # the mirror has them, the rows do not know
    "pushed",  # the remote has them, the rows do not know
    "recorded",  # the step's end is recorded
    "pull_request_posted",  # GitHub has opened it, its answer is not stored
    "pull_request_stored",
    "commented",  # the issue has the comment, the rows do not know
    "cleaning",  # the sandbox is about to go
)


@dataclass(frozen=True)
class CrashEntry:
    """Die at `point` of orders whose branch name holds `branch_part`.

    With a `marker` only while that file is not there, which then holds the id of the process that died.
    """

    point: str
    branch_part: str = ""
    marker: Path | None = None


@dataclass(frozen=True)
class CrashPoints:
    """Called at each place with its name and the order's branch."""

    entries: tuple[CrashEntry, ...] = ()

    def __call__(self, point: str, git_branch_name: str) -> None:
        for entry in self.entries:
            if entry.point == point and entry.branch_part in git_branch_name and _first_time(entry.marker):
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)  # the signal may take a moment; nothing may happen after it


def _first_time(marker: Path | None) -> bool:
    if marker is None:
        return True
    try:
        with marker.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def parse_crash_points(text: str) -> CrashPoints:
    """Comma-separated `point[/part of the branch name][@marker file]`. Raises `ValueError`."""
    entries = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        place, _, marker = item.partition("@")
        point, _, branch_part = place.partition("/")
        if point not in POINTS:
            raise ValueError(f"WORKORDERS_CRASH_AT: {point!r} is none of {', '.join(POINTS)}")
        entries.append(CrashEntry(point, branch_part, Path(marker) if marker else None))
    return CrashPoints(tuple(entries))
