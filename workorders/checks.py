"""System checks of the settings: cheap, with a hint each; run by every management command.

Nothing here starts a process or asks the database; that is what `manage.py doctor` is for.
"""

import os
import stat
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connection

_LEAST_LEASE_SECONDS = 10
_SQLITE_HINT = (
    "Install the pysqlite3 wheel (`uv sync` does on Linux x86-64) or a Python with a newer SQLite; else back up "
    "often (`manage.py backup`), and for more than trying out use Postgres (DATABASE_URL)."
)


@register("workorders")
def check_settings(**_options: Any) -> list[CheckMessage]:
    return [*_access(), *_isolation(), *_data_folder(), *_clocks(), *_queue(), *_sqlite()]


def _access() -> Iterator[CheckMessage]:
    if settings.WORKORDERS_AUTH == "none" and not settings.LOOPBACK_ONLY:
        yield Error(
            f"Nobody has to sign in, but the server answers to {', '.join(settings.ALLOWED_HOSTS)}.",
            hint="Set WORKORDERS_AUTH=required, or remove those names from WORKORDERS_ALLOWED_HOSTS.",
            id="workorders.E001",
        )


def _isolation() -> Iterator[CheckMessage]:
    if settings.WORKORDERS_AGENT_ISOLATION == "none" and not settings.DEBUG:
        yield Warning(
            "Agents run without isolation: they can read and change what the server's account can.",
            hint="Install bubblewrap and set WORKORDERS_AGENT_ISOLATION=bubblewrap.",
            id="workorders.W001",
        )
    unseen = [str(path) for path in settings.WORKORDERS_AGENT_READ_PATHS if not os.access(path, os.R_OK)]
    if unseen:
        yield Warning(
            f"WORKORDERS_AGENT_READ_PATHS names what is not there or cannot be read: {', '.join(unseen)}.",
            hint="Agents that need it will fail: make it, or take it out of the list.",
            id="workorders.W005",
        )


def _data_folder() -> Iterator[CheckMessage]:
    folder = settings.WORKORDERS_DATA_DIR
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError:  # made on first use, with the right permissions
        return
    if mode & 0o077:
        yield Warning(
            f"Other accounts of this machine may look into the data folder {folder} ({mode:04o}).",
            hint=f"Run `chmod 700 {folder}`.",
            id="workorders.W002",
        )


def _clocks() -> Iterator[CheckMessage]:
    if settings.WORKORDERS_LEASE_SECONDS < _LEAST_LEASE_SECONDS and not settings.DEBUG:
        yield Warning(
            f"WORKORDERS_LEASE_SECONDS={settings.WORKORDERS_LEASE_SECONDS} ends steps whenever the database is "
            "slow for a moment.",
            hint=f"Use at least {_LEAST_LEASE_SECONDS}; 30 is the default.",
            id="workorders.W003",
        )
    if settings.WORKORDERS_AGENT_SILENCE_SECONDS > settings.WORKORDERS_AGENT_TIMEOUT_SECONDS:
        yield Warning(
            "WORKORDERS_AGENT_SILENCE_SECONDS is longer than WORKORDERS_AGENT_TIMEOUT_SECONDS and never applies.",
            hint="Make it shorter than the time a step may take.",
            id="workorders.W004",
        )


def _queue() -> Iterator[CheckMessage]:
    queue: dict[str, Any] = settings.Q_CLUSTER
    if queue["retry"] <= queue["timeout"]:
        yield Error(
            "Q_CLUSTER: retry must be longer than timeout, or running tasks are delivered again.",
            hint="See docs/adr/0003; the shipped settings are right.",
            id="workorders.E002",
        )


def _sqlite() -> Iterator[CheckMessage]:
    """The version is the library's, so that nothing is asked."""
    if connection.vendor != "sqlite" or _sqlite_is_safe():
        return
    words = ".".join(str(part) for part in connection.get_database_version())
    yield Warning(
        f"SQLite {words} can corrupt the database when its write-ahead log is reset (mended in 3.51.3).",
        hint=_SQLITE_HINT,
        id="workorders.W010",
    )


def _sqlite_is_safe() -> bool:
    return connection.get_database_version() >= settings.WORKORDERS_SQLITE_SAFE_SINCE
