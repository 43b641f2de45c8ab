"""Keeps this process's memory and environment from other processes of the same account.

An undumpable process's `/proc/<pid>/environ`, `mem` and `fd` belong to root, and it leaves no core file. The kernel
resets this at every exec, so that children (git, bubblewrap, agents) are as they would be anyway; forks inherit it.
"""

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4


def make_undumpable() -> None:
    """For the life of this process; debuggers and profilers then need root."""
    _prctl(_PR_SET_DUMPABLE, 0)


def is_dumpable() -> bool:
    return _prctl(_PR_GET_DUMPABLE, 0) != 0


@contextmanager
def dumpable() -> Iterator[None]:
    """For a moment: an ordinary account may write to its own files in /proc only while it is."""
    before = is_dumpable()
    _prctl(_PR_SET_DUMPABLE, 1)
    try:
        yield
    finally:
        if not before:
            make_undumpable()


def close_folder(folder: Path) -> None:
    """Nobody but this account may look into its own folder; another account's is left as it is."""
    with suppress(OSError):
        found = folder.stat()
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)


def _prctl(option: int, value: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0))
