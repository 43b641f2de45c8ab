"""The pages for what went wrong: without database, session or context, harmless, and in the product's looks."""

import re
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from django.test import Client
from django.urls import path

from config import urls

PAGES = {
    "forbidden": (PermissionDenied("Ask <Ada>."), HTTPStatus.FORBIDDEN, "Ask &lt;Ada&gt;."),
    "suspicious": (SuspiciousOperation("secret"), HTTPStatus.BAD_REQUEST, "makes no sense"),
    "broken": (RuntimeError("secret"), HTTPStatus.INTERNAL_SERVER_ERROR, "The server made a mistake"),
    "lacking": (
        OperationalError("no such table: secret"),
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "made a mistake",
    ),
    "away": (OperationalError("secret"), HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer now"),
    "closed": (InterfaceError("secret"), HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer now"),
}


def raises(error: Exception) -> Any:
    def view(_request: HttpRequest) -> HttpResponse:
        raise error

    return view


urlpatterns = [*urls.urlpatterns, *(path(name, raises(error)) for name, (error, *_rest) in PAGES.items())]
handler400, handler403, handler404, handler500 = (
    urls.handler400,
    urls.handler403,
    urls.handler404,
    urls.handler500,
)
# No database mark: a query from any of these pages is an error here.
pytestmark = pytest.mark.urls(__name__)


def checked(answer: Any, status: HTTPStatus, words: str) -> str:
    text: str = answer.content.decode()
    assert answer.status_code == status
    assert f'<p class="empty-header">{status:d}</p>' in text
    assert words in text
    assert 'href="/"' in text
    assert "secret" not in text
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text)
    return text


@pytest.mark.parametrize("name", PAGES)
def test_what_a_view_raises(name: str) -> None:
    _error, status, words = PAGES[name]
    text = checked(Client(raise_request_exception=False).get(f"/{name}"), status, words)
    assert ("Try again" in text) is (status >= HTTPStatus.INTERNAL_SERVER_ERROR)


@pytest.mark.parametrize("name", ["away", "closed"])
def test_a_page_comes_back_by_itself_when_the_database_does(name: str) -> None:
    answer = Client(raise_request_exception=False).get(f"/{name}")
    assert answer["Retry-After"] == "5"
    assert answer["Cache-Control"] == "no-store"
    assert '<meta http-equiv="refresh" content="5">' in answer.content.decode()


def test_what_was_sent_is_not_sent_again_by_itself() -> None:
    answer = Client(raise_request_exception=False).post("/away")
    text = checked(answer, HTTPStatus.SERVICE_UNAVAILABLE, "may not have been kept")
    assert "http-equiv" not in text


def test_a_page_asked_for_meanwhile_is_a_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    Client(raise_request_exception=False).get("/away")
    assert "Traceback" not in capsys.readouterr().err


def test_unknown_address_in_the_chosen_theme(client: Client) -> None:
    client.cookies["theme"] = "dark"
    text = checked(client.get("/<script>alert(1)</script>"), HTTPStatus.NOT_FOUND, "There is nothing here")
    assert 'data-bs-theme="dark"' in text
    assert "alert(1)" not in text


def test_a_form_without_its_token() -> None:
    answer = Client(enforce_csrf_checks=True).post("/theme/", {"theme": "dark"})
    checked(answer, HTTPStatus.FORBIDDEN, "This form was too old")


def test_a_strange_host() -> None:
    checked(Client(headers={"host": "evil.example"}).get("/"), HTTPStatus.BAD_REQUEST, "makes no sense")


@pytest.mark.parametrize("name", PAGES)
def test_the_api_keeps_its_own_answers(name: str) -> None:
    error, status, _words = PAGES[name]
    request = HttpRequest()
    request.path = f"/api/{name}"
    handler = {400: handler400, 403: handler403}.get(status, handler500)
    try:
        raise error  # Django calls the handler where it caught it
    except type(error):
        answer = handler(request) if handler is handler500 else handler(request, error)
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.status_code == (503 if name == "lacking" else status)


def test_a_static_file_newer_than_the_manifest_breaks_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(staticfiles_storage.hashed_files, "workorders/new.css", "workorders/new.1.css")  # type: ignore[attr-defined]  # a lazy object
    assert static("workorders/new.css").endswith("workorders/new.1.css")
    assert static("workorders/newer.css").endswith("workorders/newer.css")
