"""With `WORKORDERS_AUTH=required` everything but the health checks asks for a session, and unsafe calls for CSRF."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.api.conftest import BODY, problem
from tests.factories import make_order
from workorders.models import AgentWorkOrder, WorkOrderTransition

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def auth_required(settings: Any) -> None:
    settings.WORKORDERS_AUTH = "required"


def addresses() -> list[tuple[str, str]]:
    """Every address of the API, from its own description."""
    from config.api import api

    order = make_order()
    paths = api.get_openapi_schema()["paths"]
    listed = [(method, path) for path, operations in paths.items() for method in operations]
    assert len(listed) == 11
    named = [(method, path.format(agent_work_order_id=order)) for method, path in listed]
    return [*named, ("get", "/api/openapi.json"), ("get", "/api/docs")]


def test_every_address_asks_for_a_login() -> None:
    client = Client()
    for method, path in addresses():
        response = client.generic(method.upper(), path)
        assert problem(response, 401)["code"] == "authentication_required", (method, path)


def test_a_session_is_enough_to_read() -> None:
    client = Client()
    client.force_login(User.objects.create_user("ann"))
    for method, path in addresses():
        if method == "get":
            assert client.get(path).status_code == 200, path


def test_unsafe_calls_need_the_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("ann"))
    body = json.dumps(BODY)
    problem(client.post("/api/agent-work-orders", body, content_type="application/json"), 403)
    assert AgentWorkOrder.objects.count() == 0
    docs = client.get("/api/docs").content.decode()
    token = docs.split('data-csrf-token="')[1].split('"')[0]
    headers = {"X-CSRFToken": token}
    response = client.post("/api/agent-work-orders", body, content_type="application/json", headers=headers)
    assert response.status_code == 201
    assert AgentWorkOrder.objects.get().created_by == User.objects.get()
    assert WorkOrderTransition.objects.get().by == "ann"


def test_an_inactive_user_is_out() -> None:
    client = Client()
    user = User.objects.create_user("ann")
    client.force_login(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    problem(client.get("/api/agent-work-orders"), 401)


def test_health_is_open() -> None:
    assert Client().get("/healthz").status_code == 200
    assert Client().get("/readyz").status_code in {200, 503}
