"""The registry of workers: a row for each cluster and each supervising process, renewed while it lives."""

import socket
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version

from workorders.models import WorkerProcess
from workorders.models.clock import database_now


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


def silent_workers(seconds: float) -> list[int]:
    """Process ids of this host's workers that have not been heard of for so long; their names hold them."""
    silent = WorkerProcess.objects.filter(
        host=socket.gethostname(), last_beat_at__lt=database_now() - timedelta(seconds=seconds)
    ).exclude(name__endswith=":cluster")
    return [int(name.split(":")[1]) for name in silent.values_list("name", flat=True)]
