"""Whose files are whose: a program that works as another account leaves files their owner cannot change.

Knows neither settings nor work orders; asks the file system and the list of accounts only.
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOST_LOOKED_AT = 5000


def account_name(uid: int) -> str:
    """The account's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def this_account() -> str:
    return account_name(os.geteuid())


def other_owner(folder: Path) -> str:
    """Whom the folder belongs to where that is not this process's account, else ''; also where it is not there."""
    try:
        uid = folder.stat().st_uid
    except OSError:
        return ""
    return "" if uid == os.geteuid() else account_name(uid)


def strangers_in(folder: Path, *, depth: int = 3) -> list[Path]:
    """What is in the folder, down to `depth`, and does not belong to the folder's own account; sorted.

    Does not look into what is a stranger's already, nor at more than some thousand entries.
    """
    try:
        owner = folder.stat().st_uid
    except OSError:
        return []
    budget = [_MOST_LOOKED_AT]
    return sorted(_strangers(folder, owner, depth, budget))


def _strangers(folder: Path, owner: int, depth: int, budget: list[int]) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            budget[0] -= 1
            if budget[0] < 0:
                return
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != owner:
                    yield Path(entry.path)
                elif depth > 1 and entry.is_dir(follow_symlinks=False):
                    yield from _strangers(Path(entry.path), owner, depth - 1, budget)
