"""Writes down what a step did: fenced rows, batched log entries, one database connection for a process.

Steps run side by side in threads and wait for hours; none of them holds a connection. All their reads and
writes go through one `DatabaseThread`, each as a short transaction that carries the claim's token.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import structlog
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from django.utils import timezone

from workorders.domain.errors import LeaseLost
from workorders.models.logs import LogEvent, append_log_events

logger = structlog.get_logger("workorders")
_FLUSH_SECONDS = 0.5
_PAUSE_SECONDS = 0.5
_LOOK_SECONDS = 0.25
_MAX_BATCH = 500


class Database(Protocol):
    """Runs a short function that uses the ORM and returns its result or raises its exception.

    `first`: before all that waits already, for what keeps leases alive. `waiting` is called several times a second
    while the answer is not there and the database's thread is not stuck.
    """

    def call[T](
        self, function: Callable[[], T], *, first: bool = False, waiting: Callable[[], None] | None = None
    ) -> T: ...


class InlineDatabase:
    """Runs it in the caller's thread: for commands and tests that have a connection of their own."""

    def call[T](
        self,
        function: Callable[[], T],
        *,
        first: bool = False,  # noqa: ARG002  # nobody else waits
        waiting: Callable[[], None] | None = None,  # noqa: ARG002  # likewise
    ) -> T:
        return function()


class DatabaseThread:
    """One thread with one connection; waits out a database that is away for up to `patience_seconds`."""

    def __init__(self, name: str = "database", patience_seconds: float = 60.0) -> None:
        self._work: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._patience = patience_seconds
        self._closed = False
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self._turns = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call[T](
        self, function: Callable[[], T], *, first: bool = False, waiting: Callable[[], None] | None = None
    ) -> T:
        future: Future[T] = Future()
        with self._asked:
            if self._closed:  # a step that outlives its supervisor must end, not wait for ever
                raise InterfaceError("This process's database thread has ended.")
            (self._work.appendleft if first else self._work.append)((function, future))
            self._asked.notify()
        if waiting is not None:
            self._wait_for(future, waiting)
        return future.result()

    def _wait_for(self, future: Future[Any], waiting: Callable[[], None]) -> None:
        """Until it is done; `waiting()` whenever the thread has turned meanwhile."""
        seen = self._turns
        while not wait_for_futures([future], timeout=_LOOK_SECONDS).done:
            if self._turns != seen:
                seen = self._turns
                waiting()

    def close(self) -> None:
        """What was asked before is still done; whoever asks later gets an `InterfaceError`."""
        with self._asked:
            if self._closed:
                return
            self._closed = True
            self._asked.notify()
        self._thread.join(5)

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._asked:
            self._asked.wait_for(lambda: self._work or self._closed)
            return self._work.popleft() if self._work else None

    def _run(self) -> None:
        while (item := self._next()) is not None:
            function, future = item
            self._turns += 1
            try:
                future.set_result(self._patiently(function))
            except BaseException as error:  # handed to the caller, whatever it is
                future.set_exception(error)
        connections.close_all()

    def _patiently(self, function: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return function()
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("database_unavailable", error=str(error)[:200])
                self._turns += 1
                close_old_connections()
                connections.close_all()
                time.sleep(_PAUSE_SECONDS)


class LogBuffer:
    """Collects log entries of all steps of a process and writes them in batches, in order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries: dict[int, list[LogEvent]] = defaultdict(list)
        self._epochs: dict[int, int | None] = {}
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-buffer", daemon=True)
        self._thread.start()

    def add(self, order_pk: int, event: LogEvent, *, claim_epoch: int | None = None) -> None:
        """With `claim_epoch` it is written only while no later claim of the order was made."""
        with self._lock:
            self._epochs[order_pk] = claim_epoch
            self._entries[order_pk].append(event)
        self._wake.set()

    def flush(self) -> None:
        """Write what is there; returns when it is committed. Raises database errors."""
        with self._write_lock:
            with self._lock:
                taken, self._entries = self._entries, defaultdict(list)
            try:
                for order_pk, events in taken.items():
                    self._write(order_pk, events)
            finally:
                self._put_back(taken)

    @contextmanager
    def taken(self, order_pk: int) -> Iterator[list[LogEvent]]:
        """One order's entries, for the caller to write with something else; they come back if that fails."""
        with self._write_lock, self._lock:  # what is being written goes before
            events = self._entries.pop(order_pk, [])
        try:
            yield events
        except BaseException:
            self._put_back({order_pk: events})
            raise

    def _write(self, order_pk: int, events: list[LogEvent]) -> None:
        """Write one order's events and take them off the list, batch by batch."""
        while batch := events[:_MAX_BATCH]:
            try:
                append = partial(append_log_events, order_pk, batch, claim_epoch=self._epochs.get(order_pk))
                self._database.call(append)
            except LeaseLost:  # the order's log is another worker's by now; ours has it in the process's log
                logger.warning("log_events_fenced", order_pk=order_pk, count=len(batch))
            except (OperationalError, InterfaceError):
                raise
            except Exception:  # these can never be written; other steps' events must not wait behind them
                logger.exception("log_events_dropped", order_pk=order_pk, count=len(batch))
            del events[: len(batch)]

    def _put_back(self, entries: dict[int, list[LogEvent]]) -> None:
        """What could not be written waits for the next try, before what came meanwhile."""
        left = {order_pk: events for order_pk, events in entries.items() if events}
        with self._lock:
            for order_pk, events in left.items():
                self._entries[order_pk][:0] = events
        if left:
            self._wake.set()

    def close(self) -> None:
        """Write what is left, once."""
        self._closed.set()
        self._wake.set()
        self._thread.join(5)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait()
            self._wake.clear()
            closing = self._closed.wait(_FLUSH_SECONDS)
            try:
                self.flush()
            except (
                Exception
            ):  # the entries are in the order's file; losing the thread would lose all later ones
                logger.exception("log_buffer_flush_failed")


class StepLogger:
    """An order's log inside a step: to the process's log and file at once, to the table in batches."""

    def __init__(
        self, order_pk: int, context: dict[str, Any], buffer: LogBuffer, claim_epoch: int | None = None
    ) -> None:
        self._order_pk = order_pk
        self._claim_epoch = claim_epoch
        self._buffer = buffer
        self._logger = logger.bind(**context)

    def info(self, event: str, **fields: Any) -> None:
        self._log("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log("error", event, fields)

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        getattr(self._logger, level)(event, **fields)
        self._buffer.add(
            self._order_pk, LogEvent(timezone.now(), level, event, fields), claim_epoch=self._claim_epoch
        )
