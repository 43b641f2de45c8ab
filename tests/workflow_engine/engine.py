"""A supervisor in a thread of the test, on real parts: rows, git, sandboxes and the scripted agent."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from django.db import connections

from tests.e2e.harness import wait_for
from tests.factories import make_order
from tests.fakes.git_http import create_bare_repository
from workorders import wiring
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.workflow_engine.parts.engine import EngineParts
from workorders.workflow_engine.record.recorder import Database, DatabaseThread
from workorders.workflow_engine.worker.supervisor import Supervisor


class Engine:
    """The supervisor under test. `database` may be exchanged by one that fails."""

    def __init__(self, database: Database, parts: EngineParts, owner: str) -> None:
        self._draining = threading.Event()
        self.owner = owner
        self.beats: list[int] = []
        supervisor = Supervisor(
            parts, database, owner=owner, draining=self._draining.is_set, beat=self.beats.append
        )
        self.supervisor = supervisor
        self._thread = threading.Thread(target=supervisor.run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def drain(self, seconds: float = 15) -> None:
        """Ask it to stop and wait until it has."""
        self._draining.set()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the supervisor did not stop"


@contextmanager
def running_engine(
    *,
    owner: str = "host:1:1",
    database: Callable[[DatabaseThread], Database] = lambda thread: thread,
    share: int = 4,
) -> Iterator[Engine]:
    """A supervisor at work; at the end it is drained and every thread of it is gone."""
    thread = DatabaseThread(patience_seconds=0.5)
    parts = wiring.engine_parts(database=thread)
    parts = replace(parts, settings=replace(parts.settings, share=share))
    engine = Engine(database(thread), parts, owner)
    engine.start()
    try:
        yield engine
    finally:
        engine.drain()
        thread.close()
        connections.close_all()


def local_order(folder: Path, request: str = "", **values: object) -> AgentWorkOrder:
    """An order on a bare repository of this folder; of the shortest workflow unless told otherwise.

    The request makes the agent count its starts in `starts(folder)`.
    """
    repository = folder / "remote.git"
    if not repository.exists():
        create_bare_repository(repository)
    prompt = f'agent: run echo "$WORKORDERS_PHASE $$" >> {folder / "starts"}\n{request}'
    fields = {"workflow_type": AgentWorkflowType.PLAN, **values}
    return make_order(repository=str(repository), initial_prompt=prompt, **fields)


def starts(folder: Path) -> list[str]:
    """The phases the agent was started for, in order."""
    file = folder / "starts"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def wait_until(
    order: AgentWorkOrder, look: Callable[[AgentWorkOrder], bool], seconds: float = 20
) -> AgentWorkOrder:
    def found() -> AgentWorkOrder | None:
        order.refresh_from_db()
        return order if look(order) else None

    said = f"{order}: {order.status}, {order.error_message}"
    return wait_for(found, seconds, said)


def finished(order: AgentWorkOrder, seconds: float = 30) -> AgentWorkOrder:
    return wait_until(order, lambda row: row.status in {"completed", "failed", "cancelled"}, seconds)


def until_gone(pids: Callable[[], list[int]], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while found := pids():
        assert time.monotonic() < deadline, f"still alive: {found}"
        time.sleep(0.05)
