"""API keys: shown once, kept as a hash, bounded by scope, time and their user."""

import json
import time
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.api.conftest import BODY, Api, problem
from tests.factories import make_order
from workorders.models import AgentWorkOrder, ApiKey, WorkOrderTransition
from workorders.services import api_keys
from workorders.text import redaction

pytestmark = pytest.mark.django_db
ORDERS = "/agent-work-orders"


@pytest.fixture(autouse=True)
def required(settings: Any) -> None:
    settings.WORKORDERS_AUTH = "required"


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def api() -> Api:
    return Api(Client(enforce_csrf_checks=True, raise_request_exception=False))


def key_of(user: User, scope: str = "write", days: int | None = 30) -> str:
    made = api_keys.create_api_key(user=user, name="ci", scope=scope, lifetime_days=days, by="test")
    return made.secret


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_write_key_makes_an_order_in_its_users_name(api: Api, ann: User) -> None:
    secret = key_of(ann)
    assert api.create(bearer(secret)).status_code == 201
    order = AgentWorkOrder.objects.get()
    assert order.created_by == ann
    assert WorkOrderTransition.objects.get().by == f"ann (key {secret[:12]})"
    assert ann.username in order.log_entries.get().fields["by"]


def test_the_longest_name_fits_into_the_history(api: Api) -> None:
    secret = key_of(User.objects.create_user("x" * 150))
    assert api.create(bearer(secret)).status_code == 201
    assert WorkOrderTransition.objects.get().by.endswith(f"(key {secret[:12]})")


def test_a_read_key_reads_only(api: Api, ann: User) -> None:
    headers = bearer(key_of(ann, "read"))
    order = make_order()
    assert api.get(ORDERS, headers).status_code == 200
    assert api.client.get("/api/openapi.json", headers=headers).status_code == 200
    for path, body in ((ORDERS, BODY), (f"{ORDERS}/{order}/cancel", None), (f"{ORDERS}/{order}/retry", None)):
        answer = api.post(path, body, headers)
        assert problem(answer, 403)["code"] == "insufficient_scope"
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    order.refresh_from_db()
    assert order.status == "pending"
    assert AgentWorkOrder.objects.count() == 1


def test_without_a_key_the_answer_says_how_to_ask(api: Api) -> None:
    answer = api.get(ORDERS)
    assert problem(answer, 401)["code"] == "authentication_required"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="work-orders"'


def refused(api: Api, presented: str) -> str:
    answer = api.get(ORDERS, {"Authorization": presented})
    document = problem(answer, 401)
    assert document["code"] == "api_key_refused"
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    return str(document["detail"])


def test_keys_that_no_longer_count(api: Api, ann: User) -> None:
    secret = key_of(ann)
    row = ApiKey.objects.get()
    assert api.get(ORDERS, bearer(secret)).status_code == 200
    ApiKey.objects.update(expires_at=timezone.now())
    assert "expired" in refused(api, f"Bearer {secret}")
    ApiKey.objects.update(expires_at=None)
    User.objects.update(is_active=False)
    assert "may not sign in" in refused(api, f"Bearer {secret}")
    User.objects.update(is_active=True)
    assert api.get(ORDERS, bearer(secret)).status_code == 200
    api_keys.revoke_api_key(pk=row.pk, by="test")
    assert "revoked" in refused(api, f"Bearer {secret}")
    ann.delete()
    assert "not known" in refused(api, f"Bearer {secret}")


def test_what_is_no_key(api: Api, ann: User) -> None:
    secret = key_of(ann)
    other = key_of(ann)
    stored = ApiKey.objects.get(prefix=secret[:12]).secret_sha256
    for wrong in (
        "", " ", secret[:-1], secret + "A", secret[:12], secret[:13] + other[13:], secret[:13] + stored[:43], stored,
        secret.upper(), "wok_\x00", "é" * 56, "x" * 7000, f"{secret} {secret}",
    ):  # fmt: skip
        assert "not known" in refused(api, f"bearer {wrong}")


def test_other_schemes_are_not_keys(api: Api, ann: User) -> None:
    secret = key_of(ann)
    for header in (f"Basic {secret}", f"Token {secret}", secret, f"Bearer{secret}"):
        assert problem(api.get(ORDERS, {"Authorization": header}), 401)["code"] == "authentication_required"
    assert api.client.get(f"/api{ORDERS}?api_key={secret}&access_token={secret}").status_code == 401


def test_a_wrong_key_is_not_helped_by_a_session(ann: User) -> None:
    client = Client()
    client.force_login(ann)
    problem(client.get(f"/api{ORDERS}", headers=bearer("wok_wrong")), 401)


def test_a_key_opens_no_page(ann: User, client: Client) -> None:
    for address in ("/", "/account/", "/admin/"):
        assert client.get(address, headers=bearer(key_of(ann))).status_code == 302


def test_an_open_server_honours_a_key_that_is_sent(settings: Any, api: Api, ann: User) -> None:
    settings.WORKORDERS_AUTH = "none"
    assert api.create().status_code == 201
    problem(api.create(bearer(key_of(ann, "read"))), 403)
    problem(api.create(bearer("wok_wrong")), 401)


def test_only_the_hash_is_stored(ann: User) -> None:
    secret = key_of(ann)
    row = ApiKey.objects.values().get()
    assert secret not in str(row)
    assert secret[13:] not in str(row)
    assert len(row["secret_sha256"]) == 64
    assert secret.startswith(f"{row['prefix']}_")
    assert len({key_of(ann) for _ in range(20)}) == 20


def test_a_key_in_a_text_is_masked(ann: User) -> None:
    secret = key_of(ann)
    assert secret[13:] not in redaction.redact(f"use {secret} please")


def test_use_is_noted_once_a_minute(api: Api, ann: User) -> None:
    headers = bearer(key_of(ann))
    api.get(ORDERS, headers)
    first = ApiKey.objects.get().last_used_at
    assert first is not None
    with CaptureQueriesContext(connection) as captured:
        api.get(ORDERS, headers)
    assert not [query for query in captured if query["sql"].startswith("UPDATE")]
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    api.get(ORDERS, headers)
    assert (ApiKey.objects.get().last_used_at or first) > first - timedelta(minutes=1)


def test_idempotency_keys_belong_to_their_user(api: Api, ann: User) -> None:
    bob = User.objects.create_user("bob")
    ids = set()
    for user in (ann, bob, ann):
        answer = api.create({**bearer(key_of(user)), "Idempotency-Key": "same"})
        ids.add(answer.json()["agent_work_order"]["agent_work_order_id"])
    assert len(ids) == 2


class TestPage:
    def test_a_key_is_shown_once_and_works(self, api: Api, ann: User) -> None:
        client = Client()
        client.force_login(ann)
        fields = {"name": "<b>deploy\u202e", "scope": "write", "lifetime_days": "30"}
        sent = client.post("/account/keys/", fields)
        assert (sent.status_code, sent.headers["Location"]) == (302, "/account/")
        answer = client.get("/account/")
        page = answer.content.decode()
        assert answer.status_code == 200
        assert "no-store" in answer.headers["Cache-Control"]
        secret = page.split('id="secret" tabindex="0">')[1].split("<")[0]
        assert api.create(bearer(secret)).status_code == 201
        again = client.get("/account/").content.decode()
        assert secret not in again
        assert secret[:12] in again
        assert ApiKey.objects.count() == 1, "to load the page again makes no other key"
        assert "&lt;b&gt;deploy" in again
        assert f'{timezone.now() + timedelta(days=30):ends on <time datetime="%Y-%m-%d}' in again
        assert "<b>deploy" not in again
        assert "\u202e" not in ApiKey.objects.get().name
        days = (ApiKey.objects.get().expires_at or timezone.now()) - timezone.now()
        assert days.days in {29, 30}

    def test_what_carries_a_new_key_to_its_page_is_its_makers_for_a_minute(
        self, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = Client()
        client.force_login(ann)
        client.post("/account/keys/", {"name": "ci", "scope": "read", "lifetime_days": "30"})
        carried = client.cookies["new_api_key"]
        assert carried["httponly"]
        assert (carried["path"], carried["samesite"], carried["max-age"]) == ("/account/", "Strict", 60)
        client.force_login(User.objects.create_user("bob"))
        assert 'id="secret"' not in client.get("/account/").content.decode()
        client.force_login(ann)
        client.cookies["new_api_key"] = carried.value
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
        assert 'id="secret"' not in client.get("/account/").content.decode()

    @pytest.mark.parametrize(
        "changes",
        [{"name": ""}, {"name": "x" * 81}, {"name": "\u202e"}, {"name": "a\x00b"}, {"scope": "root"}, {"scope": ""},
         {"lifetime_days": "-1"}, {"lifetime_days": "9999999999999999"}],
    )  # fmt: skip
    def test_what_is_not_acceptable_is_said(self, ann: User, changes: dict[str, str]) -> None:
        client = Client()
        client.force_login(ann)
        fields = {"name": "ci", "scope": "read", "lifetime_days": "30", **changes}
        assert client.post("/account/keys/", fields).status_code == 422
        assert not ApiKey.objects.exists()

    def test_others_keys_look_missing(self, ann: User) -> None:
        key_of(ann)
        row = ApiKey.objects.get()
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        assert row.prefix not in client.get("/account/").content.decode()
        assert client.post(f"/account/keys/{row.pk}/revoke/").status_code == 404
        assert client.post(f"/account/keys/{2**63}/revoke/").status_code == 404
        row.refresh_from_db()
        assert row.state == "active"
        client.force_login(ann)
        assert client.post(f"/account/keys/{row.pk}/revoke/", follow=True).status_code == 200
        row.refresh_from_db()
        assert row.state == "revoked"


class TestCommands:
    def run(self, *arguments: str) -> str:
        out = StringIO()
        call_command(*arguments, stdout=out, stderr=StringIO())
        return out.getvalue().strip()

    def test_make_list_revoke(self, api: Api, ann: User) -> None:
        secret = self.run("create_api_key", "--user", "ann", "--name", "ci", "--scope", "write")
        assert api.create(bearer(secret)).status_code == 201
        made = json.loads(
            self.run("create_api_key", "--user", "ann", "--name", "two", "--days", "0", "--json")
        )
        assert (made["scope"], made["expires_at"]) == ("read", None)
        assert made["prefix"] in self.run("list_api_keys")
        listed = json.loads(self.run("list_api_keys", "--user", "ann", "--json"))
        assert [key["name"] for key in listed] == ["two", "ci"]
        assert secret not in str(listed)
        assert "revoked" in self.run("revoke_api_key", secret[:12])
        problem(api.create(bearer(secret)), 401)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["create_api_key", "--user", "nobody", "--name", "x"], "createsuperuser"),
            (["create_api_key", "--user", "ann", "--name", " "], "name"),
            (["create_api_key", "--user", "ann", "--name", "x", "--days", "-1"], "days"),
            (["revoke_api_key", "wok_zzzzzzzz"], "no such API key"),
        ],
    )
    def test_what_cannot_be(self, ann: User, arguments: list[str], words: str) -> None:
        with pytest.raises(CommandError, match=words):
            self.run(*arguments)
