"""The dead-man guard: a process beside each worker that ends the worker's children when the worker no longer can.

Run as a script, it reads lines on standard input: `starting TAG GROUP`, `started TAG PID`, `ended TAG`,
`trust GROUP MOMENT` (seconds of CLOCK_BOOTTIME, which also counts while a machine sleeps) and `forget GROUP`. It
ends every child it was told of once the worker is gone (end of input), and a group's children once that group's
moment has passed: the worker is stopped, or cannot renew the lease, and another may be at the same step soon. As a
module it holds what both sides share: the tag by which descendants are found. Imports the standard library only.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TAG_VARIABLE = "WORKORDERS_PROCESS_TAG"
_EXEC_SECONDS = 0.5
_NEVER = float("inf")


def boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_tagged(tag: str, *, within_seconds: float = 5.0) -> int:
    """Kill every process whose environment holds a tag that starts so, until none is left; how many were killed."""
    started = time.monotonic()
    killed = 0
    while True:
        strays, starting = _scan(tag)
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        waited = time.monotonic() - started
        settled = not starting or waited > _EXEC_SECONDS
        if (not strays and settled) or waited > within_seconds:
            return killed
        time.sleep(0.01)


def tagged_processes(tag: str) -> list[int]:
    """Ids of live processes of this user whose tag starts so; descendants inherit it."""
    return _scan(tag)[0]


def tags_of_processes(prefix: str) -> dict[int, str]:
    """The tags of all live processes whose tag starts so, by process id."""
    found = {}
    needle = f"{TAG_VARIABLE}={prefix}".encode()
    for entry in _processes():
        with suppress(OSError):
            for item in Path(entry.path, "environ").read_bytes().split(b"\0"):
                if item.startswith(needle):
                    found[int(entry.name)] = item.partition(b"=")[2].decode("ascii", "replace")
    return found


def processes_holding(path: Path) -> list[int]:
    """Ids of other live processes that have this file open."""
    target = str(path)
    return [
        int(entry.name)
        for entry in _processes()
        if int(entry.name) != os.getpid() and target in _open_files(Path(entry.path, "fd"))
    ]


def _open_files(folder: Path) -> list[str]:
    found = []
    with suppress(OSError):
        for descriptor in os.listdir(folder):  # noqa: PTH208  # names alone, for every process of the machine
            with suppress(OSError):
                found.append(os.readlink(f"{folder}/{descriptor}"))  # noqa: PTH115  # likewise, for each of them
    return found


def _processes() -> "list[os.DirEntry[str]]":
    return [entry for entry in os.scandir("/proc") if entry.name.isdigit()]


def _scan(tag: str) -> tuple[list[int], bool]:
    """The tagged processes, and whether one is just being started: its environment cannot be read yet."""
    needle = f"{TAG_VARIABLE}={tag}".encode()
    found, starting = [], False
    for entry in _processes():
        try:
            environ = Path(entry.path, "environ").read_bytes()
            if needle in environ:
                found.append(int(entry.name))
            elif not environ:
                Path(entry.path, "exe").readlink()  # fails for zombies and the kernel's own
                starting = True
        except OSError:  # gone meanwhile, or another user's
            continue
    return found, starting


class Watch:
    """What the guard knows: the children that live, and until when each group of them may go on."""

    def __init__(self) -> None:
        self.children: dict[str, tuple[int, str]] = {}
        self.trust: dict[str, float] = {}

    def read(self, line: str) -> None:
        word, *rest = line.split(" ")
        if word == "starting":
            self.children[rest[0]] = (0, rest[1])
        elif word == "started" and rest[0] in self.children:
            self.children[rest[0]] = (int(rest[1]), self.children[rest[0]][1])
        elif word == "ended":
            self.children.pop(rest[0], None)
        elif word == "trust":
            self.trust[rest[0]] = float(rest[1])
        elif word == "forget":
            self.trust.pop(rest[0], None)

    def next_moment(self) -> float:
        """When the first of the living children is no longer to be trusted."""
        return min((self.trust.get(group, _NEVER) for _pid, group in self.children.values()), default=_NEVER)

    def end_expired(self) -> None:
        now = boot_seconds()
        self._end([tag for tag, (_, group) in self.children.items() if self.trust.get(group, _NEVER) <= now])

    def end_all(self) -> None:
        self._end(list(self.children))

    def _end(self, tags: list[str]) -> None:
        """Groups first, which takes bubblewrap's name spaces along; then whoever left his group."""
        for tag in tags:
            pid = self.children[tag][0]
            if pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
        for tag in tags:
            end_tagged(tag)
            self.children.pop(tag)


def keep_watch(read: Callable[[float], bytes | None], watch: Watch) -> None:
    """Until the input ends. `read(seconds)` gives bytes, None when nothing came in time, b"" at the end."""
    pending = b""
    while True:
        chunk = read(max(0.0, min(watch.next_moment() - boot_seconds(), 1.0)))
        if chunk == b"":
            watch.end_all()
            return
        *lines, pending = (pending + (chunk or b"")).split(b"\n")
        for line in lines:
            watch.read(line.decode("ascii", "replace"))
        watch.end_expired()


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    poller = select.poll()
    poller.register(0, select.POLLIN | select.POLLHUP)

    def read(seconds: float) -> bytes | None:
        return os.read(0, 65536) if poller.poll(seconds * 1000) else None

    keep_watch(read, Watch())


if __name__ == "__main__":
    main()
