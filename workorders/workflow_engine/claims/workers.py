"""The registry of workers: a row for each cluster and each supervising process, renewed while it lives.

Beside its row a supervising process holds a lock file of its name, which the kernel takes back when it dies. So a death
is seen at once on its host, without asking a clock or a process id.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from workorders.models import WorkerProcess
from workorders.models.clock import database_now

_PREFIX, _SUFFIX = "worker-", ".lock"
_REPLACED = "replaced-"


def _release() -> str:
    try:
        return version("work-orders")
    except PackageNotFoundError:  # run from a checkout, as the README does
        return "source"


def record_beat(
    name: str, *, share: int, running: int, started_at: datetime, gateway: tuple[str, str] = ("", "")
) -> None:
    """This worker lives, may run `share` steps at once and runs `running` of them; its gateway's address and state."""
    seen = {
        "host": socket.gethostname(),
        "version": _release(),
        "share": share,
        "running": running,
        "gateway_url": gateway[0],
        "gateway_state": gateway[1],
        "last_beat_at": database_now(),
    }
    WorkerProcess.objects.update_or_create(
        name=name, defaults=seen, create_defaults={**seen, "started_at": started_at}
    )


def forget_worker(name: str) -> None:
    """It stopped as it should; a row without beats would look like a death."""
    WorkerProcess.objects.filter(name=name).delete()


@dataclass(frozen=True)
class Death:
    """A worker of this host that died while it worked. `replaced`: its own cluster ended it; `excused`: because the
    machine was too busy, so that nothing of it is the fault of the orders it had.
    """

    name: str
    replaced: bool = False
    excused: bool = False


def note_replacement(folder: Path, pid: int, *, excused: bool) -> None:
    """Before a cluster ends one of its supervisors: who finds it dead will know why."""
    (folder / f"{_REPLACED}{pid}").write_text("excused" if excused else "")


@contextmanager
def signed_on(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of this name; who dies or fails inside leaves its file, with nobody holding it."""
    path = _lock_of(folder, name)
    unseen = path.with_name(f".{path.name}")  # who finds it without its lock takes it for a dead worker's
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        unseen.rename(path)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def dead_workers(folder: Path) -> list[Death]:
    """This host's workers that died while they worked, until `forget_death`.

    Other hosts' are left out: a shared folder may not tell of their locks.
    """
    found = folder.glob(f"{_PREFIX}{socket.gethostname()}:*{_SUFFIX}")
    names = [path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for path in found if _is_free(path)]
    return [_death(folder, name) for name in names]


def _death(folder: Path, name: str) -> Death:
    try:
        return Death(name, replaced=True, excused=_note_of(folder, name).read_text() == "excused")
    except OSError:
        return Death(name)


def forget_death(folder: Path, name: str) -> None:
    _lock_of(folder, name).unlink(missing_ok=True)
    _note_of(folder, name).unlink(missing_ok=True)


def _note_of(folder: Path, name: str) -> Path:
    return folder / f"{_REPLACED}{name.split(':')[1]}"


def _lock_of(folder: Path, name: str) -> Path:
    return folder / f"{_PREFIX}{name}{_SUFFIX}"


def _is_free(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
