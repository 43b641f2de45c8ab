"""The description is OpenAPI 3.1, loads nothing from elsewhere, and the answers are as it says."""

import json
import re
from typing import Any

import pytest
from django.test import Client
from jsonschema import Draft202012Validator

from tests.api.conftest import Api
from tests.factories import make_log, make_order, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def schema(client: Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/api/openapi.json").json()
    return document


def test_structure(schema: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", schema["openapi"])
    assert schema["info"]["title"]
    assert schema["info"]["version"]
    assert set(schema["paths"]) == {
        "/api/github/verify-repository",
        "/api/agent-work-orders",
        "/api/agent-work-orders/{agent_work_order_id}",
        *(
            f"/api/agent-work-orders/{{agent_work_order_id}}/{end}"
            for end in ("git-progress", "logs", "prompt", "cancel", "retry", "continue", "approve")
        ),
    }
    operations = [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    ids = [operation["operationId"] for _path, _method, operation in operations]
    assert len(ids) == len(set(ids)) == 11
    for path, method, operation in operations:
        assert operation["summary"]
        assert all(re.fullmatch(r"[1-5]\d\d|default", status) for status in operation["responses"])
        assert all(answer["description"] for answer in operation["responses"].values())
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        named = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))
        for parameter in operation["parameters"]:
            assert parameter["in"] in {"path", "query", "header"}
            Draft202012Validator.check_schema(parameter["schema"])
        headers = {item["name"] for item in operation["parameters"] if item["in"] == "header"}
        assert ("Idempotency-Key" in headers) == (method == "post")


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    for reference in re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(schema)):
        name = reference.removeprefix("#/components/schemas/")
        assert name in schema["components"]["schemas"], reference
    for component in schema["components"]["schemas"].values():
        Draft202012Validator.check_schema(component)


def check(schema: dict[str, Any], path: str, method: str, response: Any) -> None:
    content = schema["paths"][path][method]["responses"][str(response.status_code)]["content"]
    body = {**content["application/json"]["schema"], "components": schema["components"]}
    Draft202012Validator(body).validate(response.json())


DESCRIBED = ("ETag", "Location", "Idempotent-Replayed", "Retry-After", "WWW-Authenticate")


def sent_headers(response: Any) -> set[str]:
    return {name for name in DESCRIBED if name in response.headers}


def described_headers(
    schema: dict[str, Any], path: str, method: str, status: int, *, required: bool
) -> set[str]:
    headers = schema["paths"][path][method]["responses"][str(status)].get("headers", {})
    return {name for name, header in headers.items() if header["required"] or not required}


def test_headers_are_as_described(api: Api, schema: dict[str, Any]) -> None:
    root = "/api/agent-work-orders"
    one = f"{root}/{{agent_work_order_id}}"
    key = {"Idempotency-Key": "k"}
    created, again = api.create(headers=key), api.create(headers=key)
    address = created["Location"].removeprefix("/api")
    read = api.get(address)
    for path, method, response in (
        (root, "post", created),
        (root, "get", api.get("/agent-work-orders")),
        (one, "get", read),
        (one, "get", api.get(address, {"If-None-Match": read["ETag"]})),
        (f"{one}/git-progress", "get", api.get(f"{address}/git-progress")),
        (f"{one}/logs", "get", api.get(f"{address}/logs")),
        (f"{one}/prompt", "post", api.post(f"{address}/prompt", {"prompt_text": "x"})),
        (f"{one}/cancel", "post", api.post(f"{address}/cancel")),
    ):
        assert sent_headers(response) == described_headers(
            schema, path, method, response.status_code, required=True
        ), path
    assert sent_headers(again) == described_headers(schema, root, "post", 201, required=False)


def test_errors_are_as_described(api: Api, schema: dict[str, Any], settings: Any) -> None:
    root, key = "/api/agent-work-orders", {"Idempotency-Key": "k"}
    one = f"{root}/{{agent_work_order_id}}"
    api.create(headers=key)
    answers = [
        (root, "get", api.get("/agent-work-orders?limit=0"), 422),
        (root, "post", api.post("/agent-work-orders", "{"), 400),
        (root, "post", api.post("/agent-work-orders", b" " * (1024 * 1024 + 1)), 413),
        (root, "post", api.client.post(root, "x", content_type="text/plain"), 415),
        (root, "post", api.create(headers=key, initial_prompt="other"), 409),
        (root, "post", api.create(sandbox_type="none"), 422),
        (root, "post", api.create(headers={"Origin": "https://evil.example"}), 403),
        (one, "get", api.get("/agent-work-orders/wo-aaaaaaaa"), 404),
        (f"{one}/logs", "get", api.get("/agent-work-orders/wo-aaaaaaaa/logs"), 404),
    ]
    settings.WORKORDERS_AUTH = "required"
    answers.append((root, "get", api.get("/agent-work-orders"), 401))
    for path, method, response, status in answers:
        assert response.status_code == status
        described = schema["paths"][path][method]["responses"][str(status)]
        assert "application/problem+json" in described["content"]
        assert sent_headers(response) == described_headers(schema, path, method, status, required=True)


def test_answers_are_as_described(api: Api, schema: dict[str, Any]) -> None:
    root = "/api/agent-work-orders"
    one = f"{root}/{{agent_work_order_id}}"
    order = make_order(status="completed", cost_usd="1.25", github_pull_request_number=3)
    make_run(order)
    make_log(order, "a", number=1, nested={"x": [1]})
    check(schema, root, "post", api.create(github_issue_number=4))
    check(schema, root, "get", api.get("/agent-work-orders"))
    check(schema, one, "get", api.get(f"/agent-work-orders/{order}"))
    check(schema, f"{one}/git-progress", "get", api.get(f"/agent-work-orders/{order}/git-progress"))
    check(schema, f"{one}/logs", "get", api.get(f"/agent-work-orders/{order}/logs"))
    prompted = api.post(f"/agent-work-orders/{order}/prompt", {"prompt_text": "x"})
    check(schema, f"{one}/prompt", "post", prompted)
    check(schema, f"{one}/cancel", "post", api.post(f"/agent-work-orders/{order}/cancel"))
    check(schema, f"{one}/retry", "post", api.post(f"/agent-work-orders/{order}/retry"))
    error = {
        "$ref": "#/components/schemas/ProblemDocument",
        "components": schema["components"],
    }
    Draft202012Validator(error).validate(api.create(model="-").json())


def test_docs_page_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/api/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert "swagger-ui" in text
    assert "//" not in re.sub(r"<!--.*?-->", "", text)
    for address in re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', text):
        answer = client.get(address)
        answer.close()
        assert answer.status_code == 200, address


def test_home_leads_to_the_docs(client: Client) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert 'href="/api/docs"' in response.content.decode()
