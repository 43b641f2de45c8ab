"""The gateway over HTTP: who may ask, what goes up, what comes down, and what is counted."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.db import OperationalError

from tests.e2e.harness import wait_for
from tests.fakes.messages_api import MessagesApi, Refusal, Reply, always, text
from tests.model_gateway.running import GRANT, REAL_KEY, TOKEN, MemoryLedger, Running, running_gateway
from workorders.model_gateway.ledger import Denial
from workorders.model_gateway.server import GatewayLimits
from workorders.model_gateway.usage import Usage

BODY = {"model": "claude-sonnet-5", "messages": [], "max_tokens": 10, "tools": [{}], "stream": True}
HEADERS = {"x-api-key": TOKEN, "anthropic-version": "2023-06-01"}
USAGE = Usage(input=100, output=20, cache_read=7, cache_write=5)
COST = Decimal("0.000414")


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(always(Reply([text("Hello.")]))) as running:
        yield running


def post(gateway: Running, path: str = "/v1/messages?beta=true", **more: object) -> httpx.Response:
    values: dict[str, object] = {"json": BODY, "headers": HEADERS, "timeout": 20, **more}
    return httpx.post(f"{gateway.url}{path}", **values)  # type: ignore[arg-type]  # httpx checks them


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("headers", [{"x-api-key": TOKEN}, {"authorization": f"Bearer {TOKEN}"}])
def test_the_step_token_goes_in_and_the_real_key_goes_up(
    api: MessagesApi, stream: bool, headers: dict[str, str]
) -> None:
    with running_gateway(api.url) as gateway:
        answer = post(gateway, json={**BODY, "stream": stream}, headers={**headers, "cookie": "a=b"})
    assert answer.status_code == 200
    assert answer.headers["request-id"] == "req_scripted"
    assert "Hello." in answer.text
    assert answer.text.endswith("\n\n") is stream
    [asked] = api.requests
    assert asked.path == "/v1/messages?beta=true"
    assert asked.headers["x-api-key"] == REAL_KEY
    assert TOKEN not in json.dumps(dict(asked.headers))
    assert not {"authorization", "cookie"} & set(asked.headers)
    [spending] = gateway.ledger.spendings
    assert (spending.model, spending.usage, spending.cost_usd) == ("claude-sonnet-5", USAGE, COST)
    assert (spending.requests, spending.estimated) == (1, False)


@pytest.mark.parametrize(
    ("upstream", "name", "value"),
    [
        ({"oauth_token": "real-oauth"}, "authorization", "Bearer real-oauth"),
        ({"bearer_token": "real-bearer"}, "authorization", "Bearer real-bearer"),
    ],
)
def test_other_credentials(api: MessagesApi, upstream: dict[str, Any], name: str, value: str) -> None:
    with running_gateway(api.url, **upstream) as gateway:
        assert post(gateway).status_code == 200
    assert api.requests[0].headers[name] == value
    assert ("oauth-2025-04-20" in api.requests[0].headers.get("anthropic-beta", "")) is (
        "oauth_token" in upstream
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/messages"),
        ("POST", "/v1/messages/batches"),
        ("POST", "/v1/messages/"),
        ("POST", "//v1/messages"),
        ("POST", "/v1/messages/../files"),
        ("POST", "/v1/%6dessages/batches"),
        ("GET", "/v1/models"),
        ("GET", "/v1/organizations/me"),
        ("POST", "/v1/complete"),
        ("POST", "/"),
        ("DELETE", "/v1/messages"),
    ],
)
def test_other_paths_do_not_pass(api: MessagesApi, method: str, path: str) -> None:
    with running_gateway(api.url) as gateway:
        answer = httpx.request(method, f"{gateway.url}{path}", headers=HEADERS)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
    assert api.requests == []


def test_a_redirect_is_not_followed_and_does_not_get_the_key(api: MessagesApi) -> None:
    moved = Refusal(307, "moved", "Elsewhere.", {"location": f"{api.url}/v1/messages"})
    with MessagesApi(always(moved)) as upstream, running_gateway(upstream.url) as gateway:
        answer = post(gateway)
    assert (answer.status_code, answer.headers.get("location")) == (307, None)
    assert api.requests == []


def test_what_the_cli_asks_beside_messages(api: MessagesApi) -> None:
    with running_gateway(api.url) as gateway:
        assert httpx.head(gateway.url).status_code == 200
        assert post(gateway, "/v1/messages/count_tokens").json() == {"input_tokens": 100}
        assert httpx.get(f"{gateway.url}/healthz").json() == {"status": "ok", "state": "ready"}
    assert [request.path for request in api.requests] == ["/v1/messages/count_tokens"]
    assert gateway.ledger.spendings == []


@pytest.mark.parametrize(
    ("headers", "ledger", "status", "kind"),
    [
        ({}, MemoryLedger(), 401, "authentication_error"),
        ({"x-api-key": REAL_KEY}, MemoryLedger(), 401, "authentication_error"),
        ({"x-api-key": TOKEN + "x"}, MemoryLedger(), 401, "authentication_error"),
        ({"authorization": f"Basic {TOKEN}"}, MemoryLedger(), 401, "authentication_error"),
        (HEADERS, MemoryLedger(Denial("the step has ended", known=True)), 403, "permission_error"),
    ],
)
def test_who_may_not_ask(
    api: MessagesApi, headers: dict[str, str], ledger: MemoryLedger, status: int, kind: str
) -> None:
    with running_gateway(api.url, ledger=ledger) as gateway:
        answer = post(gateway, headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert answer.json()["type"] == "error"
    assert api.requests == []


@pytest.mark.parametrize(
    "upstream", [{"api_key": ""}, {"api_key": "key", "refusal": "CLAUDE_CODE_USE_BEDROCK is set"}]
)
def test_without_a_usable_credential_it_says_what_to_do(api: MessagesApi, upstream: dict[str, Any]) -> None:
    with running_gateway(api.url, **upstream) as gateway:
        answer = post(gateway)
        state = httpx.get(f"{gateway.url}/healthz").json()["state"]
    assert answer.status_code == 403
    assert ("BEDROCK" if "refusal" in upstream else "ANTHROPIC_API_KEY") in answer.json()["error"]["message"]
    assert state == ("refused" if "refusal" in upstream else "no_credential")
    assert api.requests == []


def test_a_step_that_used_up_its_budget_is_refused(api: MessagesApi) -> None:
    ledger = MemoryLedger(replace(GRANT, budget_usd=COST * 2))
    with running_gateway(api.url, ledger=ledger) as gateway:
        answers = [post(gateway) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 402]
    error = answers[2].json()["error"]
    assert error["type"] == "billing_error"
    assert error["message"] == "Work Orders: the step's budget of 0.000828 USD is used up (0.0008 USD spent)."
    assert (len(api.requests), ledger.refused) == (2, 1)


def test_a_model_without_a_price_is_counted_and_said_so(api: MessagesApi) -> None:
    with running_gateway(api.url) as gateway:
        assert post(gateway, json={**BODY, "model": "model-of-mine"}).status_code == 200
    [spending] = gateway.ledger.spendings
    assert (spending.model, spending.cost_usd, spending.usage) == ("model-of-mine", None, USAGE)


@pytest.mark.parametrize("decoy", ["", "claude-haiku-4-5"])
def test_with_a_budget_a_model_without_a_price_is_no_way_around_it(api: MessagesApi, decoy: str) -> None:
    """Also where the request names another model than the one that answers."""
    ledger = MemoryLedger(replace(GRANT, budget_usd=Decimal(1)))
    body = json.dumps({**BODY, "model": "model-of-mine"})
    if decoy:
        body = body.replace("{", f'{{"x": {{"model": "{decoy}"}}, ', 1)
    with running_gateway(api.url, ledger=ledger) as gateway:
        if decoy:
            with pytest.raises(httpx.RemoteProtocolError):
                post(gateway, json=None, content=body)
        else:
            answer = post(gateway, json=None, content=body)
            assert answer.status_code == 402
            assert "WORKORDERS_MODEL_PRICES" in answer.json()["error"]["message"]
    assert ledger.refused == 1
    assert len(api.requests) == bool(decoy)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_upstreams_errors_pass_unchanged(status: int) -> None:
    headers = {"retry-after": "17", "anthropic-ratelimit-unified-reset": "1800000000", "set-cookie": "a=b"}
    refusal = Refusal(status, "some_error", "Words of the model.", headers)
    with MessagesApi(always(refusal)) as api, running_gateway(api.url) as gateway:
        answer = post(gateway)
    assert answer.status_code == status
    assert answer.json() == {
        "type": "error",
        "error": {"type": "some_error", "message": "Words of the model."},
    }
    assert answer.headers["retry-after"] == "17"
    assert "set-cookie" not in answer.headers
    [(seen, resets_in_seconds)] = gateway.ledger.errors
    assert seen == status
    assert resets_in_seconds is not None
    assert gateway.ledger.spendings == []


def test_an_error_inside_a_stream_is_noted_after_what_was_served_and_passes_unchanged() -> None:
    broke = Refusal(402, "billing_error", "Your credit balance is too low")
    with (
        MessagesApi(always(Reply([text("Hello.")], breaks_with=broke))) as api,
        running_gateway(api.url) as gateway,
    ):
        answer = post(gateway)
    assert answer.status_code == 200
    assert json.dumps(broke.error) in answer.text
    assert gateway.ledger.errors == [(402, None)]
    assert [spending.usage.input for spending in gateway.ledger.spendings] == [100]


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"anthropic-ratelimit-unified-status": "rejected"}, 7200),
        (429, {"anthropic-ratelimit-unified-status": "allowed"}, 17),  # another limit than the subscription's
        (529, {}, 17),  # overloaded, whatever the subscription's limit is
    ],
)
def test_only_the_limit_that_refused_an_answer_says_when_to_come_back(
    status: int, headers: dict[str, str], seconds: int
) -> None:
    reset = str(int(time.time()) + 7200)
    told = {"retry-after": "17", "anthropic-ratelimit-unified-reset": reset, **headers}
    with MessagesApi(always(Refusal(status, "x", "x", told))) as api, running_gateway(api.url) as gateway:
        post(gateway)
    [(_status, resets_in_seconds)] = gateway.ledger.errors
    assert resets_in_seconds == pytest.approx(seconds, abs=5)


def test_a_limit_ends_by_the_models_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = SimpleNamespace(time=lambda: time.time() + 3600, monotonic=time.monotonic)
    monkeypatch.setattr("workorders.model_gateway.server.time", ahead)
    told = {"anthropic-ratelimit-unified-reset": str(int(time.time()) + 7200)}
    with MessagesApi(always(Refusal(429, "x", "x", told))) as api, running_gateway(api.url) as gateway:
        post(gateway)
    [(_status, resets_in_seconds)] = gateway.ledger.errors
    assert resets_in_seconds == pytest.approx(7200, abs=5)


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "1e400", "soon", "9" * 40])
def test_an_odd_time_to_come_back_does_no_harm(wait: str) -> None:
    refusal = Refusal(429, "x", "x", {"retry-after": wait})
    with MessagesApi(always(refusal)) as api, running_gateway(api.url) as gateway:
        assert post(gateway).status_code == 429
    [(_status, resets_in_seconds)] = gateway.ledger.errors
    assert resets_in_seconds is None or 0 <= resets_in_seconds <= timedelta(days=31).total_seconds()


def test_a_model_that_is_away_is_a_502() -> None:
    with running_gateway("http://127.0.0.1:9") as gateway:
        answer = post(gateway)
    assert answer.status_code == 502
    assert answer.json()["error"]["message"].startswith("Work Orders: the model's API cannot be reached")


def test_sizes_are_bounded(api: MessagesApi) -> None:
    limits = GatewayLimits(request_bytes=1000, answer_bytes=200)
    with running_gateway(api.url, limits=limits) as gateway:
        large = post(gateway, json={**BODY, "system": "x" * 1000})
        with pytest.raises(httpx.RemoteProtocolError):
            post(gateway)
    assert large.status_code == 413
    assert len(api.requests) == 1


def test_books_that_are_away_are_waited_for_and_count_meanwhile(api: MessagesApi) -> None:
    ledger = MemoryLedger(replace(GRANT, budget_usd=COST), failures=[OperationalError("locked")])
    with running_gateway(api.url, ledger=ledger) as gateway:
        assert post(gateway).status_code == 200
        assert len(ledger.spendings) == 1, "the answer's end waits for the books"
        assert post(gateway).status_code == 402


@contextmanager
def dripping(pieces: list[bytes], seen: dict[str, float]) -> Iterator[str]:
    """A server that sends an answer's pieces a bit apart, then waits for the caller to hang up."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
            )
            with suppress(OSError):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(0.05)
                connection.settimeout(10)
                while connection.recv(65536):
                    pass
            seen["closed"] = time.monotonic()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    thread.join(10)


def sse(event: dict[str, object]) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


PIECES = [
    sse({"type": "message_start", "message": {"model": "claude-sonnet-5", "usage": {"input_tokens": 100}}}),
    *[sse({"type": "content_block_delta", "delta": {"text": "y" * 40}}) for _ in range(3)],
]


@pytest.mark.parametrize("ending", ["hang up", "step ends"])
def test_who_ends_early_ends_the_request_upstream_and_pays_for_what_was_said(ending: str) -> None:
    seen: dict[str, float] = {}
    limits = GatewayLimits(check_seconds=0.1)
    with dripping(PIECES, seen) as url, running_gateway(url, limits=limits) as gateway:
        with httpx.stream(
            "POST", f"{gateway.url}/v1/messages", json=BODY, headers=HEADERS, timeout=10
        ) as answer:
            got = b""
            with suppress(httpx.RemoteProtocolError):
                for chunk in answer.iter_bytes():
                    got += chunk
                    if got == b"".join(PIECES):
                        if ending == "hang up":
                            break
                        gateway.ledger.valid = False
        assert got == b"".join(PIECES), "each piece arrives although the answer is not complete"
        wait_for(lambda: seen.get("closed"), 5, "the request upstream to be cancelled")
        [spending] = wait_for(lambda: gateway.ledger.spendings, 5, "the books")
    assert spending.estimated
    assert (spending.usage.input, spending.usage.output) == (100, 30)


def test_requests_of_one_step_wait_in_turn() -> None:
    go_on, running, counts = threading.Event(), set[int](), set[int]()

    def slow(_request: object, call: int) -> Reply:
        running.add(call)
        counts.add(len(running))
        assert go_on.wait(10)
        running.discard(call)
        return Reply([text("Slow.")])

    with MessagesApi(slow) as api, running_gateway(api.url, limits=GatewayLimits(side_by_side=2)) as gateway:
        threads = [threading.Thread(target=post, args=(gateway,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: gateway.ledger.asked == 4 and len(running) >= 2, 10, "two to run and two to wait")
        go_on.set()
        for thread in threads:
            thread.join(10)
    assert max(counts) == 2
    assert len(gateway.ledger.spendings) == 4
