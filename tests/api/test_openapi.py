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
