"""The one clock that leases, waits and beats are measured by: the database's, which all hosts share.

SQLite has none of its own, and serves one host: there it is the time when that host started, as its first process saw
it, plus what has passed since. So nobody's setting of the host's clock ends a lease early or makes one last.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
type Parameter = str | float | datetime | None


def database_now() -> datetime:
    if connection.vendor != "postgresql":
        return steady_now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def moment_in_query(*, ago: timedelta) -> Combinable | datetime:
    """That long before `database_now`, for a comparison in a query: there it costs no query of its own."""
    return Now() - ago if connection.vendor == "postgresql" else steady_now() - ago


def moment_in_sql(*, ago: timedelta) -> tuple[str, Parameter]:
    """As `moment_in_query`, for plain SQL: an expression and its parameter."""
    if connection.vendor == "postgresql":
        return "STATEMENT_TIMESTAMP() - make_interval(secs => %s)", ago.total_seconds()
    return "%s", as_stored(steady_now() - ago)


def as_stored(moment: datetime) -> Parameter:
    """For a comparison in plain SQL."""
    stored: Parameter = connection.ops.adapt_datetimefield_value(moment)
    return stored


def steady_now() -> datetime:
    """This host's time, unmoved by changes of its clock since it started."""
    started = _started_at(settings.WORKORDERS_DATA_DIR, _BOOT_ID)
    return started + timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))


@lru_cache(maxsize=4)
def _started_at(data_dir: Path, boot_id: Path) -> datetime:
    """When the host started, as the first process that asked believed; the same answer for all processes since."""
    folder = data_dir / "run"
    path = folder / f"clock-{boot_id.read_text().strip()}"
    if not path.exists():
        believed = datetime.now(UTC) - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}")
        fresh.write_text(believed.isoformat())
        try:
            os.link(fresh, path)  # whoever is first decides
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return datetime.fromisoformat(path.read_text())
