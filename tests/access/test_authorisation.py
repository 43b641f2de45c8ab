"""Who may do what: the written table below, held against every address there is.

The addresses come from the URL map and the OpenAPI description. One that is not in the table fails the tests.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.factories import make_order, make_repository
from workorders.models import ApiKey, WorkOrderFile
from workorders.services import api_keys

pytestmark = pytest.mark.django_db

# `in`: reaches the view. `login`: sent to the sign-in page. A number: that answer. `open` is a server with
# WORKORDERS_AUTH=none, asked by nobody in particular. A method that is not listed reaches nothing.
TABLE = """
method route                                                    anonymous person staff  read-key write-key open
GET    /                                                        login     in     in     login    login     in
POST   /theme/                                                  login     in     in     login    login     in
GET    /work-orders/new/                                        login     in     in     login    login     in
POST   /work-orders/new/                                        login     in     in     login    login     in
GET    /work-orders/<agent_work_order_id>/                      login     in     in     login    login     in
GET    /work-orders/<agent_work_order_id>/state/                login     in     in     login    login     in
GET    /work-orders/<agent_work_order_id>/feed/                 login     in     in     login    login     in
POST   /work-orders/<agent_work_order_id>/prompt/               login     in     in     login    login     in
GET    /work-orders/<agent_work_order_id>/cancel/               login     in     in     login    login     in
POST   /work-orders/<agent_work_order_id>/cancel/               login     in     in     login    login     in
POST   /work-orders/<agent_work_order_id>/continue/             login     in     in     login    login     in
POST   /work-orders/<agent_work_order_id>/approve/              login     in     in     login    login     in
POST   /work-orders/<agent_work_order_id>/retry/                login     in     in     login    login     in
GET    /work-orders/<agent_work_order_id>/changes/              login     in     in     login    login     in
GET    /work-orders/<agent_work_order_id>/changes/<position>/   login     in     in     login    login     in
GET    /repositories/                                           login     in     in     login    login     in
POST   /repositories/                                           login     in     in     login    login     in
GET    /repositories/<pk>/                                      login     in     in     login    login     in
POST   /repositories/<pk>/                                      login     in     in     login    login     in
GET    /repositories/<pk>/state/                                login     in     in     login    login     in
GET    /repositories/<pk>/issues/                               login     in     in     login    login     in
POST   /repositories/<pk>/verify/                               login     in     in     login    login     in
POST   /repositories/<pk>/protected-paths/                      login     in     in     login    login     in
POST   /repositories/<pk>/submodules-allowed/                   login     in     in     login    login     in
GET    /account/                                                login     in     in     login    login     login
GET    /account/login/                                          in        in     in     in       in        in
POST   /account/login/                                          in        in     in     in       in        in
POST   /account/logout/                                         in        in     in     in       in        in
GET    /account/password/                                       login     in     in     login    login     login
POST   /account/password/                                       login     in     in     login    login     login
POST   /account/keys/                                           login     in     in     login    login     login
POST   /account/keys/<pk>/revoke/                               login     in     404    login    login     login
GET    /api/                                                    404       404    404    404      404       404
POST   /api/                                                    404       404    404    404      404       404
GET    /api/openapi.json                                        401       in     in     in       in        in
GET    /api/docs                                                401       in     in     in       in        in
POST   /api/github/verify-repository                            401       in     in     403      in        in
GET    /api/agent-work-orders                                   401       in     in     in       in        in
POST   /api/agent-work-orders                                   401       in     in     403      in        in
GET    /api/agent-work-orders/<agent_work_order_id>             401       in     in     in       in        in
GET    /api/agent-work-orders/<agent_work_order_id>/git-progress 401      in     in     in       in        in
GET    /api/agent-work-orders/<agent_work_order_id>/logs        401       in     in     in       in        in
POST   /api/agent-work-orders/<agent_work_order_id>/prompt      401       in     in     403      in        in
POST   /api/agent-work-orders/<agent_work_order_id>/cancel      401       in     in     403      in        in
POST   /api/agent-work-orders/<agent_work_order_id>/retry       401       in     in     403      in        in
POST   /api/agent-work-orders/<agent_work_order_id>/continue    401       in     in     403      in        in
POST   /api/agent-work-orders/<agent_work_order_id>/approve     401       in     in     403      in        in
GET    /api/…                                                   404       404    404    404      404       404
POST   /api/…                                                   404       404    404    404      404       404
GET    /healthz                                                 in        in     in     in       in        in
POST   /healthz                                                 in        in     in     in       in        in
GET    /readyz                                                  in        in     in     in       in        in
POST   /readyz                                                  in        in     in     in       in        in
GET    /admin/login/                                            login     login  login  login    login     login
POST   /admin/login/                                            login     login  login  login    login     login
GET    /admin/logout/                                           in        in     in     in       in        in
POST   /admin/logout/                                           in        in     in     in       in        in
GET    /admin/…                                                 login     login  in     login    login     login
POST   /admin/…                                                 login     login  in     login    login     login
"""
ADVICE = """

{found} is not in TABLE (tests/access/test_authorisation.py), so nobody decided who may use it. Add a line there:
method, route as it is written here, and for each column `in`, `login`, 401, 403 or 404. A page is closed by
`@page` or `@order_page_view` (workorders/accounts/access.py), an API operation by being in the router. If the route has
a parameter that is new here, give it a value in `Place.fill`."""
METHODS = ("GET", "POST")
HEADING, *LINES = [line.split() for line in TABLE.strip().splitlines()]
CALLERS = HEADING[2:]
WRITTEN = {(line[0], line[1]): dict(zip(CALLERS, line[2:], strict=True)) for line in LINES}
REST = "…"
NOT_THERE = {"405", "401", "login"}  # whoever may not come in need not be told which methods there are


@cache
def routes() -> list[str]:
    """Every address of the URL map, parameters as `<name>`, patterns that take anything as `…`."""
    return sorted(set(_walk(get_resolver().url_patterns, "/")))


def _walk(patterns: list[URLPattern | URLResolver], before: str) -> Iterator[str]:
    for item in patterns:
        text = re.sub(r"<\w+:(\w+)>", r"<\1>", str(item.pattern))
        if isinstance(item, URLResolver):
            yield from _walk(item.url_patterns, before + text)
        elif any(sign in text for sign in "(^$"):
            yield "/api/…" if "api" in text else before + REST
        else:
            yield before + text


def row_of(method: str, route: str) -> dict[str, str] | None:
    """The line of exactly this route, else the one that stands for all of the admin."""
    found = WRITTEN.get((method, route))
    if found is None and route.startswith("/admin/") and route != "/admin/login/":
        return WRITTEN[(method, f"/admin/{REST}")]
    return found


@dataclass
class Place:
    """Rows for every parameter, and one client for each column."""

    values: dict[str, str]
    clients: dict[str, Client]

    def fill(self, route: str) -> str:
        values = self.values
        if route.startswith("/account/keys/"):
            values = {**values, "pk": values["key_pk"]}
        return re.sub(r"<(\w+)>", lambda name: values[name[1]], route).replace(REST, "nothing/here")

    def outcome(self, caller: str, method: str, route: str) -> str:
        """What the caller gets; whatever it changes is taken back."""
        kind = "application/json" if route.startswith("/api/") else "application/x-www-form-urlencoded"
        body = json.dumps({"prompt_text": "More"}) if route.endswith("/prompt") else ""
        client = self.clients[caller]
        with transaction.atomic():
            cookies = SimpleCookie({name: morsel.value for name, morsel in client.cookies.items()})
            answer = client.generic(method, self.fill(route), body, content_type=kind)
            client.cookies = cookies
            transaction.set_rollback(True)
        location = answer.headers.get("Location", "")
        if (
            answer.status_code == 302
            and location.startswith(("/account/login/", "/admin/login/"))
            and route != "/account/logout/"
        ):
            return "login"
        if answer.status_code in {401, 403, 404, 405}:
            return str(answer.status_code)
        assert answer.status_code < 500 or route == "/readyz", (method, route, caller, answer.status_code)
        return "in"


def _client(**headers: str) -> Client:
    return Client(headers=headers, raise_request_exception=False)


@pytest.fixture
def place() -> Place:
    person, staff = User.objects.create_user("person"), User.objects.create_superuser("staff")
    keys = {
        scope: api_keys.create_api_key(user=staff, name=scope, scope=scope, lifetime_days=1, by="test").secret
        for scope in ("read", "write")
    }
    own = api_keys.create_api_key(user=person, name="own", scope="read", lifetime_days=1, by="test").row
    order = make_order()
    WorkOrderFile.objects.create(agent_work_order=order, position=1, path="a", status="M")
    clients = {
        "anonymous": _client(),
        "person": _client(),
        "staff": _client(),
        "read-key": _client(Authorization=f"Bearer {keys['read']}"),
        "write-key": _client(Authorization=f"Bearer {keys['write']}"),
        "open": _client(),
    }
    clients["person"].force_login(person)
    clients["staff"].force_login(staff)
    values = {
        "agent_work_order_id": str(order),
        "pk": str(make_repository().pk),
        "key_pk": str(own.pk),
        "position": "1",
        "object_id": "1",
        "id": str(staff.pk),
        "content_type_id": "1",
        "app_label": "workorders",
    }
    return Place(values, clients)


def test_every_address_is_in_the_table_and_every_line_is_an_address() -> None:
    for route in routes():
        known = [method for method in METHODS if row_of(method, route)]
        assert known, ADVICE.format(found=route)
    for _method, route in WRITTEN:
        assert route in routes() or route == f"/admin/{REST}", (
            f"{route} is in TABLE, but there is no such address"
        )


def test_the_description_of_the_api_names_the_same_addresses() -> None:
    from config.api import api

    described = {
        (method.upper(), path.replace("{", "<").replace("}", ">"))
        for path, operations in api.get_openapi_schema()["paths"].items()
        for method in operations
    }
    for method, route in described:
        assert (method, route) in WRITTEN, ADVICE.format(found=f"{method} {route}")
    undescribed = {"/api/", "/api/openapi.json", "/api/docs", f"/api/{REST}"}
    assert described == {row for row in WRITTEN if row[1].startswith("/api/") and row[1] not in undescribed}


@pytest.mark.parametrize("caller", CALLERS)
def test_everybody_gets_what_the_table_says(place: Place, settings: Any, caller: str) -> None:
    settings.WORKORDERS_AUTH = "none" if caller == "open" else "required"
    wrong = []
    for route in routes():
        for method in METHODS:
            if caller != "anonymous" and method == "POST" and route.startswith("/admin/"):
                continue  # one door for both methods; what its own forms do is Django's matter
            row = row_of(method, route)
            found, wanted = place.outcome(caller, method, route), {row[caller]} if row else NOT_THERE
            if route.startswith("/admin/") and wanted == {"in"}:
                wanted = {"in", "403", "404", "405"}  # let in, and perhaps told that this cannot be done
            if found not in wanted:
                wrong.append(f"{method} {route}: {found}, where the table says {' or '.join(wanted)}")
    assert not wrong, "\n".join(wrong) + "\n" + ADVICE.format(found="If a route is new, it")


def test_other_methods_are_nowhere_known(place: Place, settings: Any) -> None:
    settings.WORKORDERS_AUTH = "required"
    for route in routes():
        if not route.startswith("/admin/"):
            for method in ("PUT", "PATCH", "DELETE"):
                found = {
                    place.outcome(caller, method, route) for caller in ("anonymous", "staff", "write-key")
                }
                assert found <= NOT_THERE | {"404"} or route in {"/healthz", "/readyz"}, (
                    method,
                    route,
                )


@pytest.mark.parametrize("auth", ["required", "none"])
def test_every_change_in_a_browser_needs_its_csrf_token(place: Place, settings: Any, auth: str) -> None:
    """Without sign-in the API knows no cookie that could be misused; foreign pages are refused otherwise."""
    settings.WORKORDERS_AUTH = auth
    client = place.clients["person"]
    client.handler.enforce_csrf_checks = True
    changes = [
        route
        for method, route in WRITTEN
        if method == "POST" and REST not in route and route not in {"/healthz", "/readyz", "/admin/login/"}
    ]
    assert len(changes) > 15
    for route in changes:
        if auth == "required" or not route.startswith("/api/"):
            assert place.outcome("person", "POST", route) == "403", route
    assert ApiKey.objects.filter(revoked_at=None).count() == 3


def test_a_planted_route_is_caught(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The net itself: an address nobody wrote down fails, and says what to do."""
    planted = [*routes(), "/planted/<pk>/"]
    monkeypatch.setattr(f"{__name__}.routes", lambda: planted)
    with pytest.raises(AssertionError, match=r"(?s)/planted/<pk>/ is not in TABLE.*Add a line there"):
        test_every_address_is_in_the_table_and_every_line_is_an_address()
