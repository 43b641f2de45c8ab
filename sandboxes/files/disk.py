"""Disk space below a folder, and deletion that a crash cannot leave half done: rename to the trash, then remove.

Knows folders and sizes, not what they are for.
"""

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from sandboxes.processes import run as process
from sandboxes.processes.run import ProcessLimits

_REMOVE_SECONDS = 120.0
_MEASURE_SECONDS = 60.0
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")


def free_bytes(folder: Path) -> int:
    """What an ordinary account may still write there; of the nearest folder that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def tree_bytes(path: Path) -> int:
    """Disk space of a file or folder; links are not followed, and what vanishes meanwhile counts nothing.

    However deep it is nested: an agent may have made folders deeper than Python recurses, or than a path can name.
    """
    total, left = 0, [str(path)]
    while left:
        place = left.pop()
        try:
            seen = os.lstat(place)
            total += seen.st_blocks * 512
            if stat.S_ISDIR(seen.st_mode):
                with os.scandir(place) as entries:
                    left += [entry.path for entry in entries]
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _bytes_by_du(path)
    return total


def _bytes_by_du(path: Path) -> int:
    """A program that walks by file descriptors; 0 where it says nothing in time."""
    result = process.run(
        ("du", "-sk", "--", str(path)),
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        limits=ProcessLimits(total_seconds=_MEASURE_SECONDS),
    )
    kilobytes = result.stdout.split(b"\t")[0]
    return int(kilobytes) * 1024 if kilobytes.isdigit() else 0


def newest_change(path: Path) -> float:
    """When something right in a folder was last made or removed, or a file written; 0 where it is gone."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def discard(path: Path, trash: Path) -> None:
    """Out of sight at once, then removed; what a crash leaves in the trash goes with the next pass."""
    trash.mkdir(mode=0o700, parents=True, exist_ok=True)
    away = trash / f"{path.name}-{uuid4().hex}"
    with suppress(FileNotFoundError):  # another pass was faster
        try:
            path.rename(away)
        except PermissionError:  # a folder that its owner must not write to cannot move to another one
            open_up(str(path))
            path.rename(away)
        remove_tree(away)


def open_up(name: str, descriptor: int | None = None) -> None:
    """Let the owner of a file or folder use it again; links and what is neither stay as they are."""
    place = os.open(name, _PLACE, dir_fd=descriptor)
    try:
        found = os.fstat(place)
        wanted = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600 if stat.S_ISREG(found.st_mode) else 0
        if found.st_mode & wanted != wanted:
            os.chmod(f"/proc/self/fd/{place}", stat.S_IMODE(found.st_mode) | wanted)  # noqa: PTH101  # that very one
    finally:
        os.close(place)


def set_aside(path: Path, folder: Path) -> Path:
    """Under a name of its own in `folder`, where nothing removes it. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.rename(folder / f"{path.name}.{uuid4().hex[:8]}")


def remove_tree(path: Path) -> None:
    """Also folders that an agent locked or nested deeper than Python can follow; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        with suppress(RecursionError):
            shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            process.run(
                ("sh", "-c", 'chmod -R u+rwx -- "$1"; exec rm -rf -- "$1"', "sh", str(path)),
                env={"PATH": "/usr/bin:/bin"},
                limits=ProcessLimits(total_seconds=_REMOVE_SECONDS),
            )
    else:
        path.unlink(missing_ok=True)


def says_disk_full(error: BaseException) -> bool:
    """Whether a failure, or what it was made from, is a full disk; programs say it in words only."""
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "elsewhere", False):
            return False
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if any(words in str(seen).lower() for words in _FULL_WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def in_units(size: int) -> str:
    """`1.5 GB`: as people read sizes."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
