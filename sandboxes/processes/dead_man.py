"""The worker's side of the dead-man guard (`guard`): starts it, tells it of children, renews its trust."""

import sys
import time
from pathlib import Path
from threading import Lock

from sandboxes.processes import guard
from sandboxes.processes.run import Helper

_NO_GROUP = "-"


class DeadManGuard:
    """Children started while it is installed (`run.guarded_by`) do not outlive their worker's right to run them.

    A guard that has died is replaced and told everything again. Safe from any thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._children: dict[str, tuple[int, str]] = {}
        self._trust: dict[str, float] = {}
        self._helper = self._start()

    @staticmethod
    def _start() -> Helper:
        return Helper([sys.executable, "-I", "-S", str(Path(guard.__file__))])

    @property
    def pid(self) -> int:
        return self._helper.pid

    def starting(self, tag: str, group: str) -> None:
        with self._lock:
            self._children[tag] = (0, group or _NO_GROUP)
            self._tell(f"starting {tag} {group or _NO_GROUP}")

    def started(self, tag: str, pid: int) -> None:
        with self._lock:
            self._children[tag] = (pid, self._children[tag][1])
            self._tell(f"started {tag} {pid}")

    def ended(self, tag: str) -> None:
        with self._lock:
            self._children.pop(tag, None)
            self._tell(f"ended {tag}")

    def trust(self, group: str, until: float) -> None:
        """The group's children may run until this monotonic moment, unless it is put off again."""
        with self._lock:
            self._trust[group] = guard.boot_seconds() + until - time.monotonic()
            self._tell(f"trust {group} {self._trust[group]:.3f}")

    def forget(self, group: str) -> None:
        with self._lock:
            self._trust.pop(group, None)
            self._tell(f"forget {group}")

    def close(self) -> None:
        """The guard ends what still runs, and itself."""
        with self._lock:
            self._helper.close()

    def _tell(self, line: str) -> None:
        if self._helper.send(f"{line}\n".encode()):
            return
        self._helper.close()
        self._helper = self._start()
        told = [f"trust {group} {moment:.3f}" for group, moment in self._trust.items()]
        for tag, (pid, group) in self._children.items():
            told += [f"starting {tag} {group}", f"started {tag} {pid}"]
        self._helper.send("".join(f"{line}\n" for line in told).encode())
