"""What the queue calls: each task may come twice, also at the same instant."""

import fcntl
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connections
from django_q.models import OrmQ

from tests.factories import make_order
from tests.fakes.git_http import create_bare_repository
from tests.workflow_engine.conftest import SCRIPTED
from tests.workflow_engine.rows import at_once
from workorders import tasks, wiring
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import WorkerProcess
from workorders.queueing import queue
from workorders.workflow_engine.claims import workers
from workorders.workflow_engine.worker import supervisor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_folder(settings: LazySettings, tmp_path: Path) -> Iterator[None]:
    settings.WORKORDERS_DATA_DIR = tmp_path / "data"
    settings.WORKORDERS_WORKER_PROCESSES = 1
    yield
    connections.close_all()


class StubSupervisor:
    """Counts who runs at once; `at_work` is called while one runs."""

    running = 0
    most = 0
    runs = 0
    lock = threading.Lock()
    at_work: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, *_parts: Any, beat: Callable[[int], None], **_names: Any) -> None:
        self._beat = beat

    def run(self) -> None:
        cls = type(self)
        with cls.lock:
            cls.runs += 1
            cls.running += 1
            cls.most = max(cls.most, cls.running)
        try:
            self._beat(0)
            cls.at_work()
        finally:
            with cls.lock:
                cls.running -= 1


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[StubSupervisor]:
    class Stub(StubSupervisor):
        pass

    monkeypatch.setattr(tasks, "Supervisor", Stub)
    return Stub


def held_slots(settings: LazySettings) -> int:
    """How many of the slots' locks somebody holds."""
    held = 0
    for path in (settings.WORKORDERS_DATA_DIR / "run").glob("supervisor-*.lock"):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held += 1
    return held


@pytest.mark.parametrize(("processes", "steps", "most"), [(1, 4, 1), (2, 4, 2), (2, 1, 1)])
def test_a_ticket_delivered_often_at_the_same_instant_starts_no_more_supervisors_than_configured(
    processes: int, steps: int, most: int, stub: type[StubSupervisor], settings: LazySettings
) -> None:
    settings.WORKORDERS_WORKER_PROCESSES, settings.WORKORDERS_WORKERS = processes, steps
    make_order()
    OrmQ.objects.all().delete()
    returned, everybody_may_go, arrivals = threading.Semaphore(0), threading.Event(), count(1)

    def stay_until_the_others_are_gone() -> None:
        if next(arrivals) == most:
            for _ in range(4 - most):
                assert returned.acquire(timeout=10), "a second delivery did not return at once"
            assert queue.waiting_tickets() == 0  # they left the work to those who are there
            everybody_may_go.set()
        assert everybody_may_go.wait(10)

    stub.at_work = staticmethod(stay_until_the_others_are_gone)

    def work(_number: int) -> None:
        tasks.work()
        returned.release()

    at_once(4, work)
    assert (stub.most, stub.runs) == (most, most)
    tasks.work()
    assert stub.runs == most + 1  # the slots are free again (and `arrivals` lets it go at once)


def test_a_worker_is_on_record_while_it_works_and_forgotten_after(stub: type[StubSupervisor]) -> None:
    seen: list[WorkerProcess] = []
    stub.at_work = staticmethod(lambda: seen.extend(WorkerProcess.objects.all()))
    tasks.work()
    assert [(worker.running, worker.share > 0) for worker in seen] == [(0, True)]
    assert WorkerProcess.objects.count() == 0


@pytest.mark.parametrize(("steps", "tickets"), [(1, 0), (2, 0), (3, 1), (9, 1)])
def test_more_steps_than_a_supervisor_can_run_call_for_another_one(
    steps: int, tickets: int, stub: type[StubSupervisor], settings: LazySettings
) -> None:
    settings.WORKORDERS_WORKER_PROCESSES, settings.WORKORDERS_WORKERS = 2, 4
    for _ in range(steps):
        make_order()
    OrmQ.objects.all().delete()
    seen: list[int] = []
    stub.at_work = staticmethod(lambda: seen.append(queue.waiting_tickets()))
    tasks.work()
    assert seen == [tickets]


@pytest.mark.parametrize("place", ["supervisor", "forget_worker", "parts"])
def test_a_failing_supervisor_lets_go_of_its_slot(
    place: str, stub: type[StubSupervisor], monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    def fail(*_arguments: object, **_names: object) -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as patched:
        if place == "supervisor":
            patched.setattr(stub, "at_work", staticmethod(fail))
        elif place == "parts":
            patched.setattr(wiring, "engine_parts", fail)
        else:
            patched.setattr(workers, "forget_worker", fail)
        with pytest.raises(OperationalError):
            tasks.work()
    assert held_slots(settings) == 0
    before = stub.runs
    tasks.work()
    assert stub.runs == before + 1


def test_a_draining_process_starts_nothing(
    stub: type[StubSupervisor], monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    make_order()
    OrmQ.objects.all().delete()
    monkeypatch.setattr(queue, "is_draining", lambda: True)
    tasks.work()
    assert (stub.runs, held_slots(settings), OrmQ.objects.count()) == (0, 0, 0)


def test_a_step_that_appeared_at_the_last_moment_gets_a_ticket(stub: type[StubSupervisor]) -> None:
    def appear() -> None:
        make_order()
        OrmQ.objects.all().delete()  # as if another process had found no free slot with it

    stub.at_work = staticmethod(appear)
    tasks.work()
    assert queue.waiting_tickets() == 1


def test_the_same_ticket_twice_completes_an_order_once(
    tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WORKORDERS_AGENT_COMMAND = (sys.executable, str(SCRIPTED))
    settings.WORKORDERS_AGENT_ISOLATION = "none"
    monkeypatch.setattr(supervisor, "_LINGER_SECONDS", 0.3)
    create_bare_repository(tmp_path / "remote.git")
    order = make_order(repository=str(tmp_path / "remote.git"), workflow_type=AgentWorkflowType.PLAN)
    at_once(2, lambda _number: tasks.work())
    order.refresh_from_db()
    assert (order.status, order.claim_epoch, order.attempts) == ("completed", 2, 1)
    tasks.work()
    order.refresh_from_db()
    assert (order.status, order.claim_epoch) == ("completed", 2)


def test_the_recovery_task_twice_does_its_work_once(settings: LazySettings) -> None:
    make_order()
    OrmQ.objects.all().delete()
    gone = settings.WORKORDERS_DATA_DIR / "sandboxes" / "git-branch-wo-unknown2"
    gone.mkdir(parents=True)
    at_once(2, lambda _number: tasks.recover())
    tasks.recover()
    assert not gone.exists()
    assert queue.waiting_tickets() in {1, 2}  # two passes at once may both see none; one too many is harmless
