"""The database thread and the log buffer: nothing lost, nothing twice, in order; also when the database is away."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from tests.e2e.harness import wait_for
from tests.factories import make_order
from tests.workflow_engine.rows import at_once
from workorders.models import AgentWorkOrder, WorkOrderLog
from workorders.models.logs import LogEvent, order_context
from workorders.workflow_engine.record import recorder
from workorders.workflow_engine.record.recorder import DatabaseThread, InlineDatabase, LogBuffer, StepLogger

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseThread]:
    monkeypatch.setattr(recorder, "_PAUSE_SECONDS", 0.01)
    found = DatabaseThread(patience_seconds=0.2)
    yield found
    found.close()


class Flaky:
    """A database whose writes raise the given errors first, one for each call."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)

    def call[T](self, function: Callable[[], T], **options: Any) -> T:
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return function()


@pytest.fixture
def buffer() -> Iterator[Callable[[Any], LogBuffer]]:
    made: list[LogBuffer] = []

    def make(database: Any) -> LogBuffer:
        made.append(LogBuffer(database))
        return made[-1]

    yield make
    for item in made:
        item.close()


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flush but the test's own."""
    monkeypatch.setattr(recorder, "_FLUSH_SECONDS", 3600.0)


def event(name: str, **fields: Any) -> LogEvent:
    return LogEvent(timezone.now(), "info", name, fields)


def logged(order: AgentWorkOrder) -> list[tuple[int, str]]:
    """Numbers and names after the entry of the order's creation."""
    rows = WorkOrderLog.objects.filter(agent_work_order=order, sequence__gt=1).order_by("sequence")
    return list(rows.values_list("sequence", "event"))


# --- DatabaseThread ---


def test_values_and_exceptions_reach_the_caller(database: DatabaseThread) -> None:
    assert database.call(lambda: 41 + 1) == 42
    with pytest.raises(ZeroDivisionError):
        database.call(lambda: 1 / 0)
    assert database.call(AgentWorkOrder.objects.count) == 0
    assert InlineDatabase().call(AgentWorkOrder.objects.count) == 0


def test_all_calls_share_one_thread_and_one_connection(database: DatabaseThread) -> None:
    def own() -> tuple[int, int]:
        connection.ensure_connection()
        return threading.get_ident(), id(connection.connection)

    found = at_once(4, lambda _number: database.call(own))
    assert len(set(found)) == 1
    assert found[0][0] != threading.get_ident()


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_a_database_that_is_away_for_a_moment_is_waited_for(
    database: DatabaseThread, error: Exception
) -> None:
    order = make_order()
    tries: list[int] = []

    def read() -> int:
        tries.append(1)
        if len(tries) <= 2:
            raise error
        return AgentWorkOrder.objects.get().pk

    assert database.call(read) == order.pk
    assert len(tries) == 3


def test_it_is_not_waited_for_for_ever_and_later_calls_work(database: DatabaseThread) -> None:
    def fail() -> None:
        raise OperationalError("gone")

    with pytest.raises(OperationalError, match="gone"):
        database.call(fail)
    assert database.call(lambda: 1) == 1


@pytest.mark.postgres
def test_a_connection_the_server_ended_is_replaced(database: DatabaseThread) -> None:
    make_order()

    def own_process() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            number: int = cursor.fetchone()[0]
            return number

    before = database.call(own_process)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [before])
    assert database.call(AgentWorkOrder.objects.count) == 1
    assert database.call(own_process) != before


def test_what_keeps_leases_alive_goes_before_what_waits(database: DatabaseThread) -> None:
    done: list[str] = []
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        assert go_on.wait(5)

    def call(name: str, *, first: bool) -> threading.Thread:
        thread = threading.Thread(target=lambda: database.call(lambda: done.append(name), first=first))
        thread.start()
        return thread

    holder = threading.Thread(target=lambda: database.call(hold))
    holder.start()
    assert busy.wait(5)
    threads = [call("log", first=False), call("log", first=False)]
    wait_for(lambda: len(database._work) == 2, 5, "both to wait")
    threads.append(call("renewal", first=True))
    wait_for(lambda: len(database._work) == 3, 5, "all to wait")
    go_on.set()
    for thread in (holder, *threads):
        thread.join(5)
    assert done == ["renewal", "log", "log"]


def test_who_waits_ticks_while_the_database_turns_and_not_while_it_hangs(
    database: DatabaseThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_LOOK_SECONDS", 0.02)
    ticks: list[float] = []

    def wait_behind(work: Callable[[], Any], times: int) -> int:
        ticks.clear()
        others = [threading.Thread(target=lambda: database.call(work)) for _ in range(times)]
        for thread in others:
            thread.start()
        wait_for(lambda: database._turns, 5, "the first of them")
        database.call(lambda: None, waiting=lambda: ticks.append(time.monotonic()))
        for thread in others:
            thread.join(5)
        return len(ticks)

    assert wait_behind(lambda: time.sleep(0.1), 6) >= 2, "others' calls are done one after another"
    assert wait_behind(lambda: time.sleep(0.5), 1) <= 1, "one call that does not end is no sign of life"


def test_after_its_end_nobody_waits(database: DatabaseThread) -> None:
    database.close()
    with pytest.raises(InterfaceError, match="ended"):
        database.call(lambda: 1)
    database.close()


# --- LogBuffer ---


def test_events_of_four_threads_keep_their_order_and_are_numbered_without_gaps(
    database: DatabaseThread, buffer: Callable[[Any], LogBuffer]
) -> None:
    orders = [make_order() for _ in range(3)]
    log = buffer(database)

    def write(thread: int) -> None:
        for number in range(200):
            log.add(orders[number % 3].pk, event("event", thread=thread, number=number))
            if number % 50 == 49:
                log.flush()

    at_once(4, write)
    log.flush()
    rows = WorkOrderLog.objects.exclude(sequence=1)
    assert rows.count() == 4 * 200
    for order in orders:
        mine = list(rows.filter(agent_work_order=order).order_by("sequence"))
        assert [row.sequence for row in mine] == list(range(2, len(mine) + 2))
        for thread in range(4):
            numbers = [row.fields["number"] for row in mine if row.fields["thread"] == thread]
            assert numbers == sorted(numbers)
        order.refresh_from_db()
        assert order.log_sequence == len(mine) + 1


def test_events_reach_the_table_without_being_asked(
    database: DatabaseThread, buffer: Callable[[Any], LogBuffer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_FLUSH_SECONDS", 0.01)
    order, written = make_order(), threading.Event()

    class Telling(Flaky):
        def call[T](self, function: Callable[[], T], **options: Any) -> T:
            try:
                return database.call(function)
            finally:
                written.set()

    buffer(Telling()).add(order.pk, event("first"))
    assert written.wait(5)
    assert logged(order) == [(2, "first")]


def test_a_failed_flush_loses_nothing_and_repeats_nothing(
    buffer: Callable[[Any], LogBuffer], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    monkeypatch.setattr(recorder, "_MAX_BATCH", 2)
    first, second = make_order(), make_order()
    log = buffer(Flaky(None, OperationalError("gone")))
    for name in ("a", "b", "c", "d", "e"):
        log.add(first.pk, event(name))
    log.add(second.pk, event("x"))
    with pytest.raises(OperationalError):
        log.flush()
    assert logged(first) == [(2, "a"), (3, "b")]
    log.add(first.pk, event("f"))
    log.flush()
    assert logged(first) == list(enumerate("abcdef", start=2))
    assert logged(second) == [(2, "x")]


def test_a_failed_flush_is_tried_again_without_a_new_event(
    buffer: Callable[[Any], LogBuffer], monkeypatch: pytest.MonkeyPatch, database: DatabaseThread
) -> None:
    monkeypatch.setattr(recorder, "_FLUSH_SECONDS", 0.01)
    order, written = make_order(), threading.Event()

    class Second(Flaky):
        def call[T](self, function: Callable[[], T], **options: Any) -> T:
            super().call(lambda: None)
            try:
                return database.call(function)
            finally:
                written.set()

    buffer(Second(OperationalError("gone"))).add(order.pk, event("first"))
    assert written.wait(5)
    assert logged(order) == [(2, "first")]


def test_events_that_can_never_be_written_hold_up_no_others(
    buffer: Callable[[Any], LogBuffer], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    order = make_order()
    log = buffer(InlineDatabase())
    log.add(order.pk + 1000, event("of nobody"))
    log.add(order.pk, event("first"))
    with structlog.testing.capture_logs() as seen:
        log.flush()
        log.flush()
    assert logged(order) == [(2, "first")]
    assert [entry["event"] for entry in seen] == ["log_events_dropped"]


def test_closing_writes_what_is_left(database: DatabaseThread, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(monkeypatch)
    order = make_order()
    log = LogBuffer(database)
    for name in ("a", "b"):
        log.add(order.pk, event(name))
    log.close()
    assert logged(order) == [(2, "a"), (3, "b")]


def test_closing_also_writes_what_came_during_the_last_flush(
    database: DatabaseThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_FLUSH_SECONDS", 0.01)
    order, inside, go_on = make_order(), threading.Event(), threading.Event()

    class Slow(Flaky):
        def call[T](self, function: Callable[[], T], **options: Any) -> T:
            inside.set()
            assert go_on.wait(5)
            return database.call(function)

    log = LogBuffer(Slow())
    log.add(order.pk, event("early"))
    assert inside.wait(5)
    log.add(order.pk, event("late"))
    closing = threading.Thread(target=log.close)
    closing.start()
    go_on.set()
    closing.join(10)
    assert logged(order) == [(2, "early"), (3, "late")]


# --- StepLogger ---


def test_a_steps_log_reaches_the_process_and_the_table(
    buffer: Callable[[Any], LogBuffer], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    order = make_order()
    entries = buffer(InlineDatabase())
    log = StepLogger(order.pk, order_context(order), entries)
    with structlog.testing.capture_logs() as seen:
        log.info("sandbox_created", start_sha="abc")
        log.warning("git_progress_unreadable", error="\x00 odd")
        log.error("workflow_phase_failed", attempt=2)
    entries.flush()
    assert [(entry["event"], entry["log_level"]) for entry in seen] == [
        ("sandbox_created", "info"),
        ("git_progress_unreadable", "warning"),
        ("workflow_phase_failed", "error"),
    ]
    assert all(entry["agent_work_order_id"] == order.agent_work_order_id for entry in seen)
    rows = WorkOrderLog.objects.filter(agent_work_order=order, sequence__gt=1)
    assert list(rows.values_list("level", "event", "fields")) == [
        ("info", "sandbox_created", {"start_sha": "abc"}),
        ("warning", "git_progress_unreadable", {"error": "\ufffd odd"}),
        ("error", "workflow_phase_failed", {"attempt": 2}),
    ]


def test_taken_entries_are_written_by_the_taker_or_come_back(
    monkeypatch: pytest.MonkeyPatch, buffer: Callable[[Any], LogBuffer]
) -> None:
    quiet(monkeypatch)
    order, other = make_order(), make_order()
    log = buffer(InlineDatabase())
    log.add(order.pk, event("first"))
    log.add(other.pk, event("another's"))

    def fail() -> None:
        with log.taken(order.pk) as events:
            assert [item.event for item in events] == ["first"]
            raise OperationalError

    with pytest.raises(OperationalError):
        fail()
    log.add(order.pk, event("second"))
    with log.taken(order.pk) as events:
        assert [item.event for item in events] == ["first", "second"]
    log.flush()
    assert WorkOrderLog.objects.exclude(sequence=1).get().event == "another's"
