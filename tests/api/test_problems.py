"""No input gives a 5xx, and every refusal under /api is a problem document."""

import json
from io import BytesIO
from typing import Annotated, Any

import pytest
from django.db import OperationalError
from django.test import Client
from pydantic import TypeAdapter, ValidationError

from tests.api.conftest import BODY, Api, problem
from tests.factories import make_order
from workorders.incoming import Storable
from workorders.models import AgentWorkOrder
from workorders.reading import progress

pytestmark = pytest.mark.django_db

JSON = "application/json"
GOOD = json.dumps(BODY).encode()
SURROGATE = b'"\\ud800"'


def with_raw(name: str, raw: bytes) -> bytes:
    """The good body with one value written as given."""
    rest = json.dumps({key: value for key, value in BODY.items() if key != name}).encode()
    return rest[:-1] + b', "' + name.encode() + b'": ' + raw + b"}"


# name, body, content type, accepted statuses
BODIES: list[tuple[str, bytes, str, set[int]]] = [
    ("nested arrays", b"[" * 100_000, JSON, {400}),
    ("nested and closed", b"[" * 100_000 + b"]" * 100_000, JSON, {400}),
    ("nested objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, JSON, {400}),
    ("nested value", with_raw("initial_prompt", b"[" * 900 + b"]" * 900), JSON, {400, 422}),
    ("huge integer", with_raw("github_issue_number", b"9" * 5000), JSON, {400, 422}),
    ("big integer", with_raw("github_issue_number", b"9" * 4000), JSON, {422}),
    ("negative integer", with_raw("github_issue_number", b"-9223372036854775809"), JSON, {422}),
    ("infinite float", with_raw("github_issue_number", b"1e999"), JSON, {422}),
    ("NaN", with_raw("github_issue_number", b"NaN"), JSON, {400}),
    ("Infinity", with_raw("initial_prompt", b"-Infinity"), JSON, {400}),
    ("NUL in a text", with_raw("initial_prompt", b'"a\\u0000b"'), JSON, {422}),
    ("NUL in a url", with_raw("repository_url", b'"o/r\\u0000"'), JSON, {422}),
    ("NUL in the branch", with_raw("base_branch", b'"a\\u0000b"'), JSON, {422}),
    ("raw NUL", b'{"a": "\x00"}', JSON, {400}),
    ("lone surrogate in a text", with_raw("initial_prompt", SURROGATE), JSON, {422}),
    ("lone surrogate in a url", with_raw("repository_url", SURROGATE), JSON, {422}),
    ("lone surrogate in an enumeration", with_raw("sandbox_type", SURROGATE), JSON, {422}),
    ("lone surrogate in the workflow", with_raw("workflow_type", SURROGATE), JSON, {422}),
    ("lone surrogate in the issue", with_raw("github_issue_number", SURROGATE), JSON, {422}),
    ("lone surrogate in the model", with_raw("model", SURROGATE), JSON, {422}),
    ("lone surrogate as a name", b'{"\\ud800": 1}', JSON, {400, 422}),
    ("many unknown names", json.dumps({f"f{n}": n for n in range(20_000)}).encode(), JSON, {422}),
    ("long unknown name", json.dumps({"n" * 500_000: 1}).encode(), JSON, {422}),
    ("invalid UTF-8", b'{"a": "\xff\xfe"}', JSON, {400}),
    ("UTF-16", GOOD.decode().encode("utf-16"), JSON, {400}),
    ("UTF-32", GOOD.decode().encode("utf-32"), JSON, {400}),
    ("byte order mark", b"\xef\xbb\xbf" + GOOD, JSON, {400}),
    ("other charset", GOOD, "application/json; charset=latin-1", {415}),
    ("form", b"repository_url=o/r", "application/x-www-form-urlencoded", {415}),
    ("multipart", b"--x\r\n\r\n", "multipart/form-data; boundary=x", {415}),
    ("plain text", GOOD, "text/plain", {415}),
    ("no type", GOOD, "", {415}),
    ("rubbish type", GOOD, "\x01;;;=", {415}),
    ("duplicate keys", GOOD[:-1] + b', "sandbox_type": "dagger"}', JSON, {400}),
    ("array", b"[]", JSON, {422}),
    ("string", b'"x"', JSON, {422}),
    ("number", b"1", JSON, {422}),
    ("null", b"null", JSON, {422}),
    ("empty", b"", JSON, {422}),
    ("blank", b"  ", JSON, {400}),
    ("cut off", GOOD[:-5], JSON, {400}),
    ("two documents", GOOD + GOOD, JSON, {400}),
    ("too large", b" " * (1024 * 1024) + GOOD, JSON, {413}),
    ("objects for texts", json.dumps({name: {"a": 1} for name in BODY}).encode(), JSON, {422}),
    ("lists for texts", json.dumps({name: [1] for name in BODY}).encode(), JSON, {422}),
]


@pytest.mark.parametrize(
    ("body", "kind", "accepted"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
)
def test_hostile_bodies(api: Api, body: bytes, kind: str, accepted: set[int]) -> None:
    order = make_order()
    for path in ("/agent-work-orders", "/github/verify-repository", f"/agent-work-orders/{order}/prompt"):
        response = api.client.generic("POST", f"/api{path}", body, content_type=kind)
        allowed = accepted if path == "/agent-work-orders" else {400, 413, 415, 422}
        assert response.status_code in allowed, response.content[:500]
        problem(response, response.status_code)
        assert len(response.content) < 20_000
    assert AgentWorkOrder.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "words"), [("a\ud800", "must not contain lone surrogates"), ("a\x00", "must not contain NUL")]
)
def test_no_text_is_taken_that_no_database_stores(text: str, words: str) -> None:
    """Also where no bound of length stands before, with which pydantic sees surrogates itself."""
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Annotated[str, Storable]).validate_python(text)


@pytest.mark.parametrize(
    ("path", "name", "limit"),
    [
        ("/agent-work-orders", "initial_prompt", 100_000),
        ("/agent-work-orders/{order}/prompt", "prompt_text", 100_000),
        ("/agent-work-orders?q=", "q", 200),
    ],
)
def test_a_text_that_is_too_long_is_told_in_characters(api: Api, path: str, name: str, limit: int) -> None:
    address, text = path.format(order=make_order()), "x" * (limit + 1)
    response = api.get(address + text) if name == "q" else api.post(address, {**BODY, name: text})
    error = next(item for item in problem(response, 422)["errors"] if item["field"] == name)
    assert error["message"] == f"String should have at most {limit} characters"


def test_a_number_with_too_many_digits_gives_no_advice_about_python(api: Api) -> None:
    document = problem(api.post("/agent-work-orders", with_raw("model", b"9" * 6000)), 400)
    assert document["detail"] == "The body is not valid JSON: a number has too many digits"


ADDRESSES = [
    "/api",
    "/api/",
    "/api/nothing",
    "/api/agent-work-orders/",
    "/api/agent-work-orders/%00",
    "/api/agent-work-orders/wo-aaaaaa%00a",
    "/api/agent-work-orders/%ff%fe",
    "/api/agent-work-orders/%ED%A0%80/logs",
    "/api/agent-work-orders/..%2f..%2fetc",
    "/api/agent-work-orders/wo-aaaaaaaa%0a",
    "/api/agent-work-orders/" + "x" * 5000,
    "/api/agent-work-orders/wo-aaaaaaaa/nothing",
    "/api/agent-work-orders/wo-aaaaaaaa/logs?limit=99999999999999999999",
    "/api/agent-work-orders/wo-aaaaaaaa/logs?after=9223372036854775808",
    "/api/agent-work-orders/wo-aaaaaaaa/logs?after=-1",
    "/api/agent-work-orders/wo-aaaaaaaa/logs?offset=1e9",
    "/api/agent-work-orders/wo-aaaaaaaa/logs?level=loud",
    "/api/agent-work-orders?q=%00",
    "/api/agent-work-orders?status=%00",
    "/api/agent-work-orders?repository_url=%00",
    "/api/agent-work-orders?limit=NaN",
    "/api/agent-work-orders?limit=" + "9" * 4500,
    "/api/agent-work-orders?" + "&".join(f"a{n}=1" for n in range(300)),
]


@pytest.mark.parametrize("address", ADDRESSES, ids=[address[:60] for address in ADDRESSES])
def test_hostile_addresses(api: Api, address: str) -> None:
    response = api.client.get(address)
    assert 400 <= response.status_code < 500, response.status_code
    problem(response, response.status_code)


@pytest.mark.parametrize(
    "address", ["?q=%ff%fe", "?q=%ED%A0%80", "?q=%25_%5C", "?limit=1&limit=2", "?status="]
)
def test_odd_but_harmless_queries(api: Api, address: str) -> None:
    assert api.client.get(f"/api/agent-work-orders{address}").status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
def test_unknown_methods_are_problems(api: Api, method: str) -> None:
    response = api.client.generic(method, "/api/agent-work-orders")
    problem(response, 405)
    assert set(response["Allow"].split(", ")) == {"GET", "POST"}


def test_body_at_the_limit_is_read(api: Api) -> None:
    body = GOOD + b" " * (1024 * 1024 - len(GOOD))
    assert api.post("/agent-work-orders", body).status_code == 201


def chunked(body: bytes) -> Any:
    """A request as gunicorn hands over a chunked one: no length, and an input that ends by itself."""
    client = Client(raise_request_exception=False)
    environ: dict[str, Any] = {
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "CONTENT_TYPE": JSON,
    }
    return client.generic("POST", "/api/agent-work-orders", **environ)


def test_chunked_bodies() -> None:
    assert chunked(GOOD).status_code == 201
    assert chunked(GOOD + b" " * (1024 * 1024 - len(GOOD))).status_code == 201
    problem(chunked(GOOD + b" " * (2 * 1024 * 1024)), 413)


@pytest.mark.parametrize(
    ("length", "status"),
    [("5", 400), ("-5", 400), ("many", 400), ("9" * 30, 400), ("99999999", 413), ("0", 422)],
)
def test_content_length_that_lies(length: str, status: int) -> None:
    client = Client(raise_request_exception=False)
    response = client.post("/api/agent-work-orders", GOOD, content_type=JSON, CONTENT_LENGTH=length)
    problem(response, status)


@pytest.mark.parametrize("key", ["", "x" * 201, "schlüssel", "a\tb", "a\x7f", "a\x00b"])
def test_bad_idempotency_keys(api: Api, key: str) -> None:
    document = problem(api.create(headers={"Idempotency-Key": key}), 422)
    assert document["errors"][0]["field"] == "Idempotency-Key"


def test_other_sites_pages_are_refused(api: Api) -> None:
    order = make_order()
    path = f"/agent-work-orders/{order}/cancel"
    for origin in ("https://evil.example", "null", "http://testserver.evil.example"):
        problem(api.post(path, headers={"Origin": origin}), 403)
    assert api.post(path, headers={"Origin": "http://testserver"}).status_code == 202


def test_unknown_host_is_a_problem(api: Api) -> None:
    problem(api.get("/agent-work-orders", {"Host": "evil.example"}), 400)


def test_outside_the_api_pages_stay_pages(client: Client) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_a_database_that_is_away_is_a_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_query: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(progress, "work_orders", away)
    response = api.get("/agent-work-orders")
    assert problem(response, 503)["code"] == "database_unavailable"
    assert response["Retry-After"]


def test_a_mistake_of_ours_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_query: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(progress, "work_orders", broken)
    assert "secret" not in str(problem(api.get("/agent-work-orders"), 500))
