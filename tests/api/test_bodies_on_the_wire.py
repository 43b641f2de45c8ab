"""A body that ends early or is no HTTP makes nothing and is a 400, read by the web server's own parser."""

import json
import socket
from dataclasses import dataclass
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

from config.wsgi import application
from tests.api.conftest import BODY, problem
from tests.factories import make_order
from workorders.models import AgentPrompt, AgentWorkOrder

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("open_connections")]
GOOD = json.dumps(BODY).encode()
HERE = ("127.0.0.1", 8000)
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
ORDERS = "/api/agent-work-orders"
TOKEN = "a" * 32


@dataclass(frozen=True)
class Answer:
    status_code: int
    headers: dict[str, str]
    content: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name]

    def json(self) -> Any:
        return json.loads(self.content)


def send(method: str, path: str, body: bytes, *headers: str) -> Answer:
    """The answer to a request of which no more comes than these bytes."""
    head = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: testserver", *headers, "", ""))
    client, server = socket.socketpair()
    with client, server:
        client.sendall(head.encode() + body)
        client.shutdown(socket.SHUT_WR)
        config = Config()
        _response, environ = wsgi.create(
            next(RequestParser(config, server, HERE)), server, HERE, HERE, config
        )
        return answer_to(environ)


def answer_to(environ: dict[str, Any]) -> Answer:
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Any:
        started.append((status, headers))

    content: Any = application(environ, start_response)
    text = b"".join(content)
    content.close()
    status, headers = started[-1]
    return Answer(int(status[:3]), dict(headers), text)


def chunk(data: bytes, *, size: int | None = None, end: bytes = b"\r\n") -> bytes:
    return f"{len(data) if size is None else size:x}\r\n".encode() + data + end


LAST = b"0\r\n\r\n"
MALFORMED = {
    "no number": b"zz\r\n",
    "negative": b"-2\r\n",
    "cut off": chunk(b"{}", size=5),
    "without the last chunk": chunk(GOOD),
    "nothing at all": b"",
    "another terminator": chunk(GOOD, end=b"XX") + LAST,
    "trailer without colon": chunk(GOOD) + b"0\r\nrubbish\r\n\r\n",
    "control character in an extension": b"2;\x01\r\n{}\r\n" + LAST,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_chunks_are_a_problem_at_every_address(body: bytes) -> None:
    order = make_order()
    for method, path in (
        ("POST", ORDERS),
        ("GET", ORDERS),
        ("GET", f"{ORDERS}/{order}"),
        ("POST", f"{ORDERS}/{order}/cancel"),
        ("POST", f"{ORDERS}/{order}/prompt"),
        ("POST", "/api/github/verify-repository"),
    ):
        answer = send(method, path, body, f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
        assert problem(answer, 400)["detail"].startswith("The body ended early")
    order.refresh_from_db()
    assert (order.status, AgentWorkOrder.objects.count()) == ("pending", 1)


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("path", ["/account/login/", "/work-orders/new/", "/theme/"])
def test_malformed_chunks_are_no_mistake_of_a_page(path: str, body: bytes) -> None:
    for token in ((), (f"Cookie: csrftoken={TOKEN}", f"X-CSRFToken: {TOKEN}")):
        answer = send("POST", path, body, f"Content-Type: {FORM}", "Transfer-Encoding: chunked", *token)
        assert answer.status_code < 500


def test_chunks_that_are_well_formed_are_read() -> None:
    body = chunk(GOOD[:10]) + chunk(GOOD[10:]) + LAST
    assert (
        send("POST", ORDERS, body, f"Content-Type: {JSON}", "Transfer-Encoding: chunked").status_code == 201
    )


def test_a_body_that_is_cut_off_makes_nothing() -> None:
    order = make_order()
    prompt = json.dumps({"prompt_text": "x"}).encode()
    for method, path, body in (
        ("POST", ORDERS, GOOD),
        ("POST", ORDERS, b"{}"),
        ("POST", f"{ORDERS}/{order}/prompt", prompt),
        ("POST", f"{ORDERS}/{order}/cancel", b""),
        ("GET", ORDERS, b""),
    ):
        length = f"Content-Length: {len(body) + 50}"
        answer = send(method, path, body, f"Content-Type: {JSON}", length)
        assert problem(answer, 400)["detail"].startswith("The body ended early")
    order.refresh_from_db()
    assert (order.status, AgentWorkOrder.objects.count(), AgentPrompt.objects.count()) == ("pending", 1, 0)


def test_a_body_that_came_whole_is_read() -> None:
    answer = send("POST", ORDERS, GOOD, f"Content-Type: {JSON}", f"Content-Length: {len(GOOD)}")
    assert answer.status_code == 201


@pytest.mark.parametrize("missing", [0, 50])
def test_a_form_that_is_cut_off_makes_nothing(missing: int) -> None:
    fields = {**BODY, "repository_url": "octo/spoon", "initial_prompt": "Do not delete the files"}
    text = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in fields.items())
    headers = (f"Content-Length: {len(text) + missing}", f"Content-Type: {FORM}")
    token = (f"Cookie: csrftoken={TOKEN}", f"X-CSRFToken: {TOKEN}")
    answer = send("POST", "/work-orders/new/", text.encode(), *headers, *token)
    assert answer.status_code == (422 if missing else 302)
    assert AgentWorkOrder.objects.count() == (0 if missing else 1)
