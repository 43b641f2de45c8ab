"""Two lanes of web processes: quick ones, which have the port, and slow ones behind them for pages that cost much.

A page of thousands of lines keeps a process from everything else for a while. So processes with less of a claim on the
processors make such pages (`SLOW_NICE`), and those that people and load balancers reach only pass them on, which costs
next to nothing. What is slow is known from the address, and else from what it cost the last time. Must not know rows.
"""

import json
import os
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPResponse
from socket import AF_UNIX, socket
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

QUICK_PROCESSES, QUICK_THREADS = 2, 4
SLOW_PROCESSES, SLOW_THREADS, SLOW_NICE = min(4, max(1, len(os.sched_getaffinity(0)) // 2)), 2, 10
PASSED_ON_AT_ONCE = 32  # by a quick process; each holds a thread that only waits
CONNECTION_THREADS = PASSED_ON_AT_ONCE + 2 * QUICK_THREADS
SLOW_SECONDS = 0.04  # of the processor
_REMEMBERED, _REMEMBERED_SECONDS = 2000, 600.0
_WAIT_SECONDS = 60.0
_PIECE = 64 * 1024
_TURN_SECONDS = (
    0.0005  # how long one thread of a quick process keeps another waiting; Python's own is ten times that
)
_FIRST = "X-Work-Orders-First-Seen"  # what the quick process knows of a request that its headers do not say
_FIRST_KEYS = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
_FIRST_VARIABLE = "HTTP_X_WORK_ORDERS_FIRST_SEEN"
_SECONDS = "X-Work-Orders-Seconds"  # of the processor, in a slow process's answer
_ORDER = r"/work-orders/[^/]{1,40}"
_SLOW_PATHS = re.compile(rf"{_ORDER}/changes/.*")
_SLOW_QUERIES = (
    (re.compile(r"/|/api/agent-work-orders/?"), frozenset({"q"})),
    (re.compile(rf"{_ORDER}/(?:feed/)?"), frozenset({"before", "kind"})),
)
_HEALTH = frozenset({"/healthz", "/readyz"})
_OF_THE_CONNECTION = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "date", "server", _SECONDS.lower()}
)
_BUSY = b"Too many large pages are being made at once. Ask again in a few seconds.\n"


class SlowAddresses:
    """Which requests are slow: by their address, or since they were a while ago."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def is_slow(self, environ: "WSGIEnvironment") -> bool:
        path = environ.get("PATH_INFO", "")
        if _SLOW_PATHS.fullmatch(path):
            return True
        asked = (
            parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=100) if "=" in _query(environ) else {}
        )
        if any(names & asked.keys() for form, names in _SLOW_QUERIES if form.fullmatch(path)):
            return True
        with self._lock:
            return time.monotonic() < self._found.get(_address(environ), 0.0)

    def note(self, environ: "WSGIEnvironment", seconds: float) -> None:
        """What it cost now, in either lane. Whatever comes first in a process is slow, so that once does not count."""
        address = _address(environ)
        with self._lock:
            if seconds < SLOW_SECONDS:
                self._found.pop(address, None)
                return
            was_slow = address in self._found
            self._found[address] = time.monotonic() + _REMEMBERED_SECONDS if was_slow else 0.0
            while len(self._found) > _REMEMBERED:
                self._found.popitem(last=False)


def _query(environ: "WSGIEnvironment") -> str:
    return str(environ.get("QUERY_STRING", ""))


def _address(environ: "WSGIEnvironment") -> str:
    return f"{environ.get('PATH_INFO', '')}?{_query(environ)}"[:500]


class QuickLane:
    """The application of a quick process: passes on what is slow, does the rest in a few threads of its own.

    Few, because each keeps a connection to the database.
    """

    def __init__(self, application: "WSGIApplication", slow_lane: str) -> None:
        self._application = application
        self._slow_lane = slow_lane
        self._addresses = SlowAddresses()
        self._places = BoundedSemaphore(PASSED_ON_AT_ONCE)
        self._threads = ThreadPoolExecutor(QUICK_THREADS, thread_name_prefix="quick")

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ.pop(_FIRST_VARIABLE, None)
        if environ.get("PATH_INFO") in _HEALTH:
            return self._application(environ, start_response)
        if _only_reads(environ) and self._addresses.is_slow(environ):
            if not self._places.acquire(blocking=False):
                return _too_many(start_response)
            try:
                answer = self._passed_on(environ)
            except TimeoutError:
                self._places.release()
                return _too_many(start_response)
            if answer is not None:
                self._addresses.note(environ, float(answer.headers.get(_SECONDS, "0")))
                start_response(f"{answer.status} {answer.reason}", _headers(answer))
                return _Body(answer, self._places.release)
            self._places.release()
        return self._threads.submit(self._timed, environ, start_response).result()

    def _timed(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        started = time.thread_time()
        answer = self._application(environ, start_response)
        if _only_reads(environ):
            self._addresses.note(environ, time.thread_time() - started)
        return answer

    def _passed_on(self, environ: "WSGIEnvironment") -> HTTPResponse | None:
        """None where no slow process takes it; then it is done here. Raises `TimeoutError`."""
        connection = _LocalConnection(self._slow_lane)
        try:
            connection.putrequest(
                environ["REQUEST_METHOD"],
                environ["RAW_URI"],
                skip_host=True,
                skip_accept_encoding=True,
            )
            for name, value in _sent(environ):
                connection.putheader(name, value)
            connection.endheaders()
            return connection.getresponse()
        except TimeoutError:
            connection.close()
            raise
        except (OSError, HTTPException, ValueError):
            connection.close()
            return None


class _LocalConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_WAIT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(_WAIT_SECONDS)
        self.sock.connect(self._path)


class _Body:
    """A slow process's answer piece by piece; gives its place back when the web server closes it."""

    def __init__(self, answer: HTTPResponse, closed: Callable[[], None]) -> None:
        self._answer, self._closed = answer, closed

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._answer.read(_PIECE):
            yield piece

    def close(self) -> None:
        self._answer.close()
        self._closed()


def _too_many(start_response: "StartResponse") -> Iterable[bytes]:
    start_response("503 Service Unavailable", [("Content-Type", "text/plain"), ("Retry-After", "3")])
    return [_BUSY]


def _only_reads(environ: "WSGIEnvironment") -> bool:
    has_body = environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in environ
    return environ.get("REQUEST_METHOD") in {"GET", "HEAD"} and not has_body


def _sent(environ: "WSGIEnvironment") -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_") and name != "HTTP_CONNECTION":
            yield name.removeprefix("HTTP_").replace("_", "-").title(), value
    yield "Connection", "close"
    yield _FIRST, json.dumps({key: environ[key] for key in _FIRST_KEYS if key in environ})


def _headers(answer: HTTPResponse) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_THE_CONNECTION]


def slow_lane(application: "WSGIApplication") -> "WSGIApplication":
    """The application of a slow process: only quick processes reach it, and say who asks."""

    def inner(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        first: dict[str, Any] = json.loads(environ.pop(_FIRST_VARIABLE, "{}"))
        environ.update({key: value for key, value in first.items() if key in _FIRST_KEYS})
        started = time.thread_time()

        def begin(status: str, headers: list[tuple[str, str]], *failed: Any) -> Callable[[bytes], object]:
            """Django says this when the page is made."""
            spent = (_SECONDS, f"{time.thread_time() - started:.3f}")
            return start_response(status, [*headers, spent], *failed)

        return application(environ, begin)

    return inner


_roles: dict[str, str] = {}


def become(slow_lane_at: str, *, is_slow: bool) -> None:
    """Says which lane this process is of, before the application is loaded. `slow_lane_at`: its socket's address."""
    _roles["slow" if is_slow else "quick"] = slow_lane_at
    if not is_slow:
        sys.setswitchinterval(_TURN_SECONDS)


def in_its_lane(application: "WSGIApplication") -> "WSGIApplication":
    """The application as this process has it; as it is, where no lanes were made."""
    if "slow" in _roles:
        return slow_lane(application)
    return QuickLane(application, _roles["quick"]) if "quick" in _roles else application
