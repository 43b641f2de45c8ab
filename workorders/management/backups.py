"""A copy of the database while the server runs: SQLite by its own backup interface, Postgres by `pg_dump`.

A copy is complete when it has its name: it is written beside it, checked, and then renamed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.postgresql.client import DatabaseClient
from django.db.backends.sqlite3._functions import register  # type: ignore[import-untyped]  # private: no stubs
from django.utils import timezone

from sandboxes.files.ownership import other_owner, this_account
from sandboxes.processes import run as process
from sandboxes.processes.run import ProcessLimits

_DUMP_SECONDS = 3600.0


class BackupFailed(Exception):
    """The copy could not be made; nothing was left under its name."""


def default_target() -> Path:
    suffix = "sqlite3" if connection.vendor == "sqlite" else "dump"
    folder, time = Path(settings.WORKORDERS_DATA_DIR) / "backups", f"{timezone.now():%Y%m%dT%H%M%S}"
    names = (f"workorders-{time}{'' if number == 1 else f'_{number}'}Z.{suffix}" for number in count(1))
    return next(folder / name for name in names if not os.path.lexists(folder / name))


def back_up(target: Path) -> int:
    """Write the copy and return its size in bytes. Raises `BackupFailed`."""
    try:
        if target.exists():
            raise BackupFailed(f"{target} is there already; choose another name.")
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _unfinished(target) as fresh:
            _copy_sqlite(fresh) if connection.vendor == "sqlite" else _dump_postgres(fresh)
            size = fresh.stat().st_size
            fresh.rename(target)
    except OSError as error:
        raise BackupFailed(f"{target} could not be written: {_why(error, target.parent)}") from error
    return size


def _why(error: OSError, folder: Path) -> str:
    owner = other_owner(folder)
    if not isinstance(error, PermissionError) or not owner:
        return f"{error.strerror}."
    me = this_account()
    return f"{folder} belongs to {owner}, and this is {me}. Give it to {me}: chown -R {me}: {folder}"


def remove_older(folder: Path, *, keep: int) -> list[Path]:
    """All but the newest copies that have the name this module gives; what was removed. Raises `OSError`."""
    copies = sorted(path for path in folder.glob("workorders-*Z.*") if path.suffix in (".sqlite3", ".dump"))
    old = copies[: max(0, len(copies) - keep)]
    for path in old:
        path.unlink(missing_ok=True)
    return old


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    fresh = target.with_name(f"{target.name}.part-{os.getpid()}")
    fresh.touch(mode=0o600)
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)


def _copy_sqlite(fresh: Path) -> None:
    """Through the server's own SQLite: the system's may be one with the WAL-reset bug (docs/adr/0007)."""
    connection.ensure_connection()
    driver: Any = connection.Database  # type: ignore[attr-defined]  # every backend has one
    try:
        target = driver.connect(str(fresh))
        register(target)  # the check evaluates constraints, which use Django's functions
        try:
            connection.connection.backup(
                target
            )  # in one piece: writers do not wait, and it never starts over
            target.execute("PRAGMA journal_mode=DELETE")  # one file, which any SQLite may read
            verdict = target.execute("PRAGMA integrity_check").fetchone()[0]
        finally:
            target.close()
    except driver.Error as error:
        raise BackupFailed(f"SQLite could not copy the database: {error}.") from error
    if verdict != "ok":
        raise BackupFailed(f"The copy is damaged, and so may be the database: {verdict}.")
    with fresh.open("rb") as file:
        os.fsync(file.fileno())


def _dump_postgres(fresh: Path) -> None:
    """The password goes by the environment, as Django's `dbshell` does it."""
    argv, secrets = DatabaseClient.settings_to_cmd_args_env(connection.settings_dict, [])
    result = process.run(
        ["pg_dump", "--format=custom", "--no-owner", *argv[1:]],
        env={"PATH": settings.WORKORDERS_PATH, "HOME": str(settings.WORKORDERS_HOME), **(secrets or {})},
        stdout_path=fresh,
        limits=ProcessLimits(total_seconds=_DUMP_SECONDS, output_bytes=2**50),
    )
    if not result.ok or result.truncated:
        reason = result.stderr_text[-500:] or f"{result.reason}, exit code {result.exit_code}"
        raise BackupFailed(f"pg_dump failed: {reason}")
