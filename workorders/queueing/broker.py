"""Where django-q2 keeps its messages: its own table, looked at when the doorbell rings and not all the time.

Named by `Q_CLUSTER["broker_class"]`. Beside `queue` the only module that talks to django-q2; it knows no order.
"""

import time
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django_q.brokers.orm import ORM

from workorders.queueing.doorbell import Doorbell, Listener, is_heard, ring_all

COURTESY_SECONDS = 0.05
LOOK_SECONDS = 1.0  # for what another host queued, and for a ring that was lost


def ring() -> None:
    """Let this host's brokers look at once."""
    ring_all(_folder(), Listener.BROKER)


class TicketBroker(ORM):  # type: ignore[misc]  # django-q2 has no types
    """django-q2's, with a wait for the doorbell between two looks; needs its `poll` to be 0."""

    _bell: Doorbell | None = None

    def enqueue(self, task: str) -> int:
        """Part of the caller's transaction; brokers hear of it when that has committed."""
        key: int = super().enqueue(task)
        transaction.on_commit(ring)
        return key

    def dequeue(self) -> list[tuple[int, str]] | None:
        """None after a wait: nothing was there. Asked by one process only, which has the doorbell to itself.

        What was queued may be work that a supervisor of this host is claiming: another one is called only after that.
        """
        if self._bell is None:  # before the look, so that no ring after it is lost
            self._bell = Doorbell(_folder(), Listener.BROKER)
        found: list[tuple[int, str]] | None = super().dequeue()
        if found is None and self._bell.wait(LOOK_SECONDS) and is_heard(_folder(), Listener.SUPERVISOR):
            time.sleep(COURTESY_SECONDS)
        return found

    def close(self) -> None:
        """Take the doorbell away; the next look hangs up another."""
        if self._bell is not None:
            self._bell.close()
            self._bell = None


def _folder() -> Path:
    folder: Path = settings.WORKORDERS_DATA_DIR / "run"
    return folder
