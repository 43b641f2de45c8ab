"""Health for load balancers and supervisors: `/healthz` that the process answers, `/readyz` that it can work."""

from dataclasses import asdict
from functools import lru_cache
from shutil import disk_usage

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache

from workorders.reading import progress, schema

logger = structlog.get_logger(__name__)
_NOT_YET = frozenset({"down", "starting"})
"""Where every gateway is in one of these, no agent could talk to the model."""


class _MigrationsMissing(Exception):
    """Raised rather than returned, so that only the positive answer is kept."""


@lru_cache(maxsize=1)
def _migrations_applied() -> bool:
    if schema.missing_migrations():
        raise _MigrationsMissing
    return True


def _is_disk_short() -> bool:
    """Whether this machine's data folder is below the floor; a folder nobody can look at is the database's matter."""
    try:
        return disk_usage(settings.WORKORDERS_DATA_DIR).free < settings.WORKORDERS_DISK_FLOOR_BYTES
    except OSError:
        return False


@never_cache
def healthz(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@never_cache
def readyz(_request: HttpRequest) -> JsonResponse:
    """200 where an order could be accepted and worked on now, else 503 and which check fails; who works.

    `warnings` names what makes orders wait, visibly and with all pages at hand, and so is no reason to take them away.
    """
    alive: list[progress.WorkerRow] = []
    checks = {"database": False, "migrations": False, "workers": False, "model_gateway": False}
    gateways: list[str] = []
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        checks["database"] = True
        checks["migrations"] = _migrations_applied()
        alive = progress.workers_alive()
        checks["workers"] = bool(alive)
        gateways = [worker.gateway_state for worker in alive if worker.gateway_state]
        checks["model_gateway"] = not gateways or any(state not in _NOT_YET for state in gateways)
    except _MigrationsMissing:
        pass
    except (DatabaseError, InterfaceError) as error:
        logger.warning("readiness_database_unavailable", error=str(error)[:200])
    is_ready = all(checks.values())
    return JsonResponse(
        {
            "status": "ready" if is_ready else "not ready",
            "checks": checks,
            "warnings": ["disk_floor"] if _is_disk_short() else [],
            "model_gateways": gateways,
            "isolation": settings.WORKORDERS_AGENT_ISOLATION,
            "workers": [asdict(worker) for worker in alive],
        },
        status=200 if is_ready else 503,
    )
