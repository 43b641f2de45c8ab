"""Pages that cost much are made by processes of their own: what stays quick while those are busy, stopped or dead."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import LiveServer, wait_for
from tests.support import require_program
from workorders.serving import lanes
from workorders.serving.lanes import QuickLane, SlowAddresses, slow_lane

ORDER = "/work-orders/wo-abcdefgh"


def request(path: str, query: str = "", **more: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "RAW_URI": f"{path}?{query}",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.url_scheme": "https",
        **more,
    }


class Told:
    """What an application said."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: dict[str, str] = {}

    def __call__(self, status: str, headers: list[tuple[str, str]], *_failed: Any) -> Callable[[bytes], None]:
        self.status, self.headers = status, dict(headers)
        return lambda _data: None


def answers(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ["REMOTE_ADDR"]).encode()]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"{ORDER}/changes/", ""),
        (f"{ORDER}/changes/17/", ""),
        (f"{ORDER}/feed/", "kind=problems&before=7"),
        (f"{ORDER}/", "kind=problems"),
        ("/", "status=completed&q=x"),
        ("/api/agent-work-orders", "q=x"),
    ],
)
def test_what_is_slow_by_its_address(path: str, query: str) -> None:
    assert SlowAddresses().is_slow(request(path, query))


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/", ""),
        ("/", "status=completed&page=3"),
        (f"{ORDER}/", ""),
        (f"{ORDER}/state/", "v=1-2"),
        (f"{ORDER}/feed/", "after=3"),
        ("/api/agent-work-orders/wo-abcdefgh", ""),
        ("/api/agent-work-orders/wo-abcdefgh/logs", "limit=1000"),
        ("/api/agent-work-orders", "limit=200"),
        ("/healthz", "q=x"),
    ],
)
def test_what_is_quick_until_it_was_slow_twice(path: str, query: str) -> None:
    addresses = SlowAddresses()
    asked = request(path, query)
    assert not addresses.is_slow(asked)
    addresses.note(asked, 1.0)
    assert not addresses.is_slow(asked), "the first of a process is always slow"
    addresses.note(asked, 1.0)
    assert addresses.is_slow(asked)
    addresses.note(asked, 0.001)
    assert not addresses.is_slow(asked), "it is quick again"


def test_what_is_remembered_is_bounded() -> None:
    addresses = SlowAddresses()
    for number in range(3 * lanes._REMEMBERED):
        addresses.note(request(f"/{number}"), 1.0)
    assert len(addresses._found) == lanes._REMEMBERED


def test_without_a_slow_process_a_quick_one_does_it() -> None:
    told = Told()
    lane = QuickLane(answers, "/nonexistent/socket")
    for _ in range(lanes.PASSED_ON_AT_ONCE + 5):  # each gives its place back
        assert list(lane(request(f"{ORDER}/changes/"), told)) == [b"192.0.2.7"]
    assert told.status == "200 OK"


def test_too_many_at_once_are_told_so() -> None:
    told = Told()
    lane = QuickLane(answers, "/nonexistent/socket")
    for _ in range(lanes.PASSED_ON_AT_ONCE):
        lane._places.acquire()
    assert b"Ask again" in b"".join(lane(request(f"{ORDER}/changes/"), told))
    assert (told.status[:3], told.headers["Retry-After"]) == ("503", "3")
    assert list(lane(request("/"), told)) == [b"192.0.2.7"]


@pytest.mark.parametrize(
    "more", [{"REQUEST_METHOD": "POST"}, {"CONTENT_LENGTH": "3"}, {"HTTP_TRANSFER_ENCODING": "chunked"}]
)
def test_nothing_that_may_change_something_is_passed_on(more: dict[str, str]) -> None:
    assert not lanes._only_reads(request("/", **more))


def test_a_slow_process_knows_who_asks_and_believes_no_stranger() -> None:
    passed_on = dict(lanes._sent(request("/", HTTP_HOST="example.com", HTTP_CONNECTION="keep-alive")))
    assert (passed_on["Host"], passed_on["Connection"]) == ("example.com", "close")
    environ = request("/") | {"REMOTE_ADDR": "", "HTTP_X_WORK_ORDERS_FIRST_SEEN": passed_on[lanes._FIRST]}
    told = Told()
    assert list(slow_lane(answers)(environ, told)) == [b"192.0.2.7"]
    assert environ["wsgi.url_scheme"] == "https"
    assert lanes._SECONDS in told.headers
    forged = request("/", HTTP_X_WORK_ORDERS_FIRST_SEEN='{"REMOTE_ADDR": "127.0.0.1"}')
    assert list(QuickLane(answers, "")(forged, told)) == [b"192.0.2.7"]
    assert "HTTP_X_WORK_ORDERS_FIRST_SEEN" not in forged


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    require_program("bwrap")
    with LiveServer(tmp_path / "server", {"WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true"}) as running:
        yield running


def slow_processes(server: LiveServer) -> list[int]:
    """By their niceness, below the web server's master."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
            line = (path.parent / "cmdline").read_bytes()
            cwd = (path.parent / "cwd").readlink() if os.geteuid() == 0 else server.folder
        except OSError:
            continue
        is_web = b"gunicorn" in line and name and f"{cwd}" == f"{server.folder}"
        if is_web and int(rest.split()[16]) == lanes.SLOW_NICE:
            found.append(int(path.parent.name))
    return found


@pytest.mark.e2e
def test_slow_processes_that_hang_or_die_keep_nobody_from_the_rest(server: LiveServer) -> None:
    from tests.benchmarks.repositories import make_remote

    remote = make_remote(server.folder / "remote.git")
    order = server.create(repository_url=str(remote))["agent_work_order_id"]
    server.completed(order)
    page = f"/work-orders/{order}/"
    assert server.http.get(f"{page}changes/").status_code == 200
    assert server.http.get(f"{page}changes/", headers={"Host": "elsewhere.example"}).status_code == 400
    assert server.http.head(f"{page}changes/").status_code == 200
    slow = wait_for(lambda: slow_processes(server), 10, "the slow processes")
    assert len(slow) == lanes.SLOW_PROCESSES
    for pid in slow:
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    for path in ("/healthz", "/readyz", page, "/"):
        assert server.http.get(path).status_code == 200
    assert time.monotonic() - started < 10
    for pid in slow:
        os.kill(pid, signal.SIGKILL)
    assert server.http.get(f"{page}changes/").status_code == 200
    wait_for(lambda: len(set(slow_processes(server)) - set(slow)) == lanes.SLOW_PROCESSES, 20, "new ones")
    assert server.http.get(f"{page}changes/").status_code == 200
    assert "Traceback" not in server.log.read_text()


@pytest.mark.e2e
def test_the_socket_goes_with_the_server_and_a_dead_one_with_the_next(server: LiveServer) -> None:
    found = list(server.data_dir.glob("web-*/pages"))
    is_long = len(os.fsencode(server.data_dir)) > 80
    assert len(found) == (0 if is_long else 1)
    server.signal(signal.SIGKILL)
    server.wait_killed()
    server.start()
    assert len(list(server.data_dir.glob("web-*/pages"))) == len(found)
    server.stop()
    assert list(server.data_dir.glob("web-*")) == []
