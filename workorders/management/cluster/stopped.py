"""Worker processes that somebody has stopped (SIGSTOP, a debugger's leftover): alive, and of no use to anybody.

On SQLite a stopped process may hold the lock that every write of the machine waits for, so it is found without the
database. Elsewhere its steps would only wait for the end of their leases.
"""

import time
from collections.abc import Iterable
from pathlib import Path

STOPPED_SECONDS = 3.0
_STOPPED = "T"


class StoppedProcesses:
    """Remembers since when processes stand still; to be asked again and again."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def among(self, pids: Iterable[int]) -> list[int]:
        """Those that were found stopped at every look of the last `STOPPED_SECONDS`."""
        now = time.monotonic()
        self._since = {pid: self._since.get(pid, now) for pid in pids if _state(pid) == _STOPPED}
        return [pid for pid, since in self._since.items() if now - since >= STOPPED_SECONDS]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
