"""What the API's tests share."""

import json
from typing import Any

import pytest
from django.test import Client

BODY = {
    "repository_url": "https://github.com/octo/spoon.git",
    "sandbox_type": "git_branch",
    "workflow_type": "agent_workflow_plan_build_test",
}


class Api:
    """Speaks JSON to the API in this process; paths without `/api`."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        return self.client.get(f"/api{path}", query, headers=headers)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        if body is None:
            return self.client.generic("POST", f"/api{path}", headers=headers)
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return self.client.post(f"/api{path}", text, content_type="application/json", headers=headers)

    def create(self, headers: dict[str, str] | None = None, **changes: Any) -> Any:
        return self.post("/agent-work-orders", {**BODY, **changes}, headers)


@pytest.fixture
def api() -> Api:
    return Api(Client(raise_request_exception=False))


def problem(response: Any, status: int) -> dict[str, Any]:
    """The problem document of an answer, checked for its shape."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert {"type", "title", "detail", "code"} <= set(document)
    assert all(
        isinstance(document[name], str) and document[name] for name in ("type", "title", "detail", "code")
    )
    if status == 422:
        assert document["errors"]
        assert all(set(error) == {"field", "message"} for error in document["errors"])
    return document
