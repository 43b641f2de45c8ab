"""`WORKORDERS_AUTH=none` serves programs and browsers of this machine, and nobody a browser could be used by."""

import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from tests.api.conftest import BODY, problem
from tests.factories import make_order
from workorders.models import AgentWorkOrder

pytestmark = pytest.mark.django_db
ORDERS = "/api/agent-work-orders"
JSON = "application/json"


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False, enforce_csrf_checks=True)


def create(client: Client, *, kind: str = JSON, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(ORDERS, json.dumps(BODY), content_type=kind, headers=named)


def test_programs_need_nothing(client: Client) -> None:
    assert create(client).status_code == 201
    assert create(client, User_Agent="curl/8").status_code == 201
    assert client.get("/").status_code == 200


def test_the_own_pages_browser_may_do_everything(client: Client) -> None:
    fetched = {"Origin": "http://testserver", "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}
    assert create(client, **fetched, Referer="http://testserver/api/docs").status_code == 201
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=typed).status_code == 200


FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://testserver:9000"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "http://[::1"},
    {"Referer": "https://evil.example/testserver"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": "same-site", "Origin": "http://testserver"},
    {"Sec_Fetch_Site": "something-new"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: str(headers))
def test_other_sites_change_nothing(client: Client, headers: dict[str, str]) -> None:
    order = make_order()
    problem(create(client, **headers), 403)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    for kind in ("text/plain", "application/x-www-form-urlencoded"):  # what forms can send unasked
        problem(client.post(f"{ORDERS}/{order}/cancel", "", content_type=kind, headers=named), 403)
    answer = client.post(f"/work-orders/{order}/cancel/", headers=named)
    assert answer.status_code == 403
    order.refresh_from_db()
    assert (order.status, order.cancel_requested_at, AgentWorkOrder.objects.count()) == ("pending", None, 1)


def test_a_form_cannot_pass_for_json(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        problem(create(client, kind=kind), 415)


def test_other_sites_cannot_look_either(client: Client) -> None:
    loaded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    problem(client.get(ORDERS, headers=loaded), 403)
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert client.get("/", headers=framed).status_code == 403
    followed = {**framed, "Sec-Fetch-Dest": "document", "Referer": "https://chat.example/"}
    assert client.get("/", headers=followed).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:8000@evil", "[::1", "", "localhost, evil"]
)
def test_names_that_are_not_ours_are_refused(client: Client, settings: Any, host: str) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
    assert create(client, Host=host).status_code == 400
    assert client.get("/", headers={"Host": host}).status_code == 400
    assert not AgentWorkOrder.objects.exists()


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1", "fe80::1", "::ffff:192.0.2.7", "garbage"])
def test_other_machines_are_refused_whatever_is_bound(address: str) -> None:
    client = Client(REMOTE_ADDR=address)
    problem(create(client), 403)
    page = client.get("/")
    assert page.status_code == 403
    assert "WORKORDERS_AUTH=required" in page.content.decode()
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", ""])
def test_this_machine_may(address: str) -> None:
    assert create(Client(REMOTE_ADDR=address)).status_code == 201


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"])
def test_a_proxy_may_not_pass_requests_on(client: Client, name: str) -> None:
    answer = client.get(ORDERS, headers={name: "127.0.0.1"})
    assert "proxy" in problem(answer, 403)["detail"]


def test_with_sign_in_none_of_this_matters(settings: Any) -> None:
    settings.WORKORDERS_AUTH = "required"
    headers = {"X-Forwarded-For": "192.0.2.1", "Origin": "https://evil.example"}
    client = Client(REMOTE_ADDR="192.0.2.7", headers=headers)
    problem(client.get(ORDERS), 401)
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("command", ["serve", "quickstart"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "work.example.org", ""])
def test_it_is_not_bound_elsewhere(command: str, host: str) -> None:
    with pytest.raises(CommandError, match="loopback only"):
        call_command(command, f"--host={host}")
