"""Signing in and out, changing the password, and what guessing passwords leads to."""

from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client

from tests.factories import make_order

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"
LOGIN = "/account/login/"


@pytest.fixture(autouse=True)
def required(settings: Any) -> None:
    settings.WORKORDERS_AUTH = "required"


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", password=PASSWORD)


def attempt(client: Client, username: str = "ann", password: str = "wrong", **extra: Any) -> Any:
    return client.post(LOGIN, {"username": username, "password": password, **extra})


def test_a_page_leads_to_the_sign_in_and_back(ann: User, client: Client) -> None:
    address = f"/work-orders/{make_order()}/?kind=all"
    answer = client.get(address)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"{LOGIN}?next={address.replace('?', '%3F').replace('=', '%3D')}"
    page = client.get(answer.headers["Location"])
    assert 'name="next" value="' + address.replace("&", "&amp;") in page.content.decode()
    answer = attempt(client, password=PASSWORD, next=address)
    assert answer.headers["Location"] == address
    assert client.get(address).status_code == 200


@pytest.mark.parametrize(
    "target",
    ["//evil.example/", "https://evil.example/", "https:evil.example", "/\\evil.example", "javascript:alert(1)",
     "http://testserver@evil.example/", "\thttps://evil.example", "https://evil.example\\@testserver/"],
)  # fmt: skip
def test_next_leads_to_this_site_only(ann: User, client: Client, target: str) -> None:
    answer = attempt(client, password=PASSWORD, next=target)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


def test_a_fragment_sends_its_whole_page_to_the_sign_in(client: Client) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/repositories/?a=1"}
    answer = client.get(f"/work-orders/{make_order()}/state/", headers=headers)
    assert answer.headers["HX-Redirect"] == f"{LOGIN}?next=/repositories/%3Fa%3D1"
    headers["HX-Current-URL"] = "https://evil.example/x"
    answer = client.get("/", headers=headers)
    assert answer.headers["HX-Redirect"] == f"{LOGIN}?next=/"


def test_nothing_that_was_posted_is_repeated_after_signing_in(client: Client) -> None:
    answer = client.post(f"/work-orders/{make_order()}/cancel/")
    assert answer.headers["Location"] == f"{LOGIN}?next=/"


def test_wrong_passwords_and_unknown_names_look_the_same(ann: User, client: Client) -> None:
    texts = set()
    for name in ("ann", "nobody"):
        answer = attempt(client, name)
        assert answer.status_code == 422
        texts.add(answer.content.decode().split('role="alert"')[1].split("</div>")[0])
    assert len(texts) == 1


def test_the_first_visitor_is_told_how_to_make_an_account(client: Client) -> None:
    assert "createsuperuser" in client.get(LOGIN).content.decode()
    User.objects.create_user("ann")
    assert "createsuperuser" not in client.get(LOGIN).content.decode()


def test_signing_out_needs_a_post(ann: User, client: Client) -> None:
    client.force_login(ann)
    assert client.get("/account/logout/").status_code == 405
    assert client.get("/").status_code == 200
    assert client.post("/account/logout/").headers["Location"] == LOGIN
    assert client.get("/").status_code == 302


class TestGuessing:
    def test_ten_wrong_passwords_lock_the_account(self, ann: User, client: Client) -> None:
        for _ in range(9):
            assert attempt(client).status_code == 422
        locked = attempt(client)
        assert locked.status_code == 429
        assert locked.headers["Retry-After"] == "900"
        assert "15 minutes" in locked.content.decode()
        assert attempt(client, password=PASSWORD).status_code == 429

    def test_another_address_or_browser_changes_nothing(self, ann: User) -> None:
        for number in range(10):
            client = Client(
                REMOTE_ADDR=f"10.0.0.{number}",
                HTTP_USER_AGENT=f"browser {number}",
                HTTP_X_FORWARDED_FOR=f"192.0.2.{number}",
            )
            attempt(client)
        assert attempt(Client(REMOTE_ADDR="10.1.1.1"), password=PASSWORD).status_code == 429

    def test_other_spellings_of_the_name_count_too(self, ann: User, client: Client) -> None:
        for spelling in ["ａｎｎ", " ann ", "ann"] * 4:
            attempt(client, spelling)
        assert attempt(client, password=PASSWORD).status_code == 429

    def test_an_account_that_does_not_exist_is_locked_as_well(self, client: Client) -> None:
        assert [attempt(client, "nobody").status_code for _ in range(10)] == [422] * 9 + [429]

    def test_names_that_no_account_has_are_not_kept(self, client: Client) -> None:
        for name in ("x" * 151, "9" * 5000, "a\x00b"):
            assert attempt(client, name).status_code == 422
        assert not AccessAttempt.objects.exists()

    def test_others_can_sign_in_and_the_lock_ends(self, ann: User, client: Client) -> None:
        User.objects.create_user("bob", password=PASSWORD)
        for _ in range(12):
            attempt(client)
        assert attempt(Client(), "bob", PASSWORD).status_code == 302
        AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=14))
        assert attempt(client, password=PASSWORD).status_code == 429
        AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=2))
        assert attempt(client, password=PASSWORD).status_code == 302

    def test_success_forgets_the_failures(self, ann: User, client: Client) -> None:
        for _ in range(3):
            for _ in range(8):
                attempt(client)
            assert attempt(client, password=PASSWORD).status_code == 302

    def test_wrong_old_passwords_count_as_well(self, ann: User, client: Client) -> None:
        """Somebody at an open screen has no more guesses than at the door."""
        client.force_login(ann)
        new = "another long pass phrase"
        fields = {"old_password": "wrong", "new_password1": new, "new_password2": new}
        for _ in range(9):
            assert client.post("/account/password/", fields).status_code == 422
        assert client.post("/account/password/", fields).status_code == 429
        right = {**fields, "old_password": PASSWORD}
        assert client.post("/account/password/", right).status_code == 429
        ann.refresh_from_db()
        assert ann.check_password(PASSWORD)
        assert attempt(Client(), password=PASSWORD).status_code == 429

    def test_the_admin_has_no_other_door(self, ann: User, client: Client) -> None:
        answer = client.get("/admin/login/?next=/admin/")
        assert (answer.status_code, answer.headers["Location"]) == (302, f"{LOGIN}?next=/admin/")
        assert client.post("/admin/login/", {"username": "ann", "password": PASSWORD}).status_code == 302
        assert client.get("/").status_code == 302


def test_somebody_without_admin_rights_is_told(ann: User, client: Client) -> None:
    client.force_login(ann)
    page = client.get("/admin/", follow=True)
    assert page.status_code == 200
    assert "You are signed in as ann, who may not open that page." in page.content.decode()


def test_a_new_password_ends_the_other_sessions(ann: User, client: Client) -> None:
    other = Client()
    client.force_login(ann)
    other.force_login(ann)
    fields = {"old_password": PASSWORD, "new_password1": "12345678", "new_password2": "12345678"}
    answer = client.post("/account/password/", fields)
    assert answer.status_code == 422
    assert "too common" in answer.content.decode()
    new = "another long pass phrase"
    wrong = {"old_password": "x", "new_password1": new, "new_password2": new}
    assert client.post("/account/password/", wrong).status_code == 422
    answer = client.post("/account/password/", {**wrong, "old_password": PASSWORD}, follow=True)
    assert "The password is changed" in answer.content.decode()
    assert client.get("/account/").status_code == 200
    assert other.get("/account/").status_code == 302


def test_a_stale_form_says_what_to_do(ann: User) -> None:
    client = Client(enforce_csrf_checks=True)
    answer = client.post(LOGIN, {"username": "ann", "password": PASSWORD})
    assert answer.status_code == 403
    assert "This form was too old" in answer.content.decode()


def test_an_open_server_asks_nobody_and_its_accounts_still_work(
    settings: Any, ann: User, client: Client
) -> None:
    settings.WORKORDERS_AUTH = "none"
    page = client.get("/").content.decode()
    assert LOGIN not in page
    assert client.get("/account/").status_code == 302
    assert attempt(client, password=PASSWORD).status_code == 302
    assert 'href="/account/"' in client.get("/").content.decode()
