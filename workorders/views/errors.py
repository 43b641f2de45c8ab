"""Pages for what went wrong. They need no database, no session and no context, so that they work when those do not."""

import sys
from dataclasses import dataclass, replace
from http import HTTPStatus

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.utils import timezone

from workorders.views.theme import chosen_theme


@dataclass(frozen=True)
class ErrorPage:
    status: HTTPStatus
    title: str
    advice: str
    is_worth_retrying: bool = False
    again_after_seconds: int = 0
    """The page is asked for again by itself; 0: it is not."""


_BAD_REQUEST = ErrorPage(
    HTTPStatus.BAD_REQUEST,
    "This request makes no sense to the server",
    "Go back, reload the page you came from, and try again.",
)
_FORBIDDEN = ErrorPage(
    HTTPStatus.FORBIDDEN,
    "This is not for you",
    "Your account may not do this. Ask whoever runs this server, or sign in as somebody who may.",
)
_CSRF = ErrorPage(
    HTTPStatus.FORBIDDEN,
    "This form was too old, or not from here",
    "Nothing was changed. Go back, copy what you typed, reload that page and send it again. It happens after signing "
    "in or out in another tab; if it happens each time, allow cookies for this address.",
)
_NOT_FOUND = ErrorPage(
    HTTPStatus.NOT_FOUND, "There is nothing here", "The address is wrong, or what was here is gone."
)


_LOOK_AGAIN_SECONDS = 5
_DATABASE_AWAY = ErrorPage(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The database does not answer now",
    "This page comes back by itself, as soon as the database does; nothing needs to be done here. Steps of orders that "
    "are at work go on from what git has. Whoever runs this server finds the reason in its log, and with `doctor`.",
    is_worth_retrying=True,
    again_after_seconds=_LOOK_AGAIN_SECONDS,
)
_NOT_SENT = (
    "What you sent may not have been kept. Go back, look whether it was, and send it again once the database answers. "
    "Whoever runs this server finds the reason in its log, and with `doctor`."
)


def bad_request(request: HttpRequest, **_why: Exception) -> HttpResponse:
    return _answer(request, _BAD_REQUEST)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Whoever refused may have said why; Django's own refusals say nothing."""
    advice = str(exception) or _FORBIDDEN.advice
    return _answer(request, replace(_FORBIDDEN, advice=advice))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001  # Django's signature
    return _answer(request, _CSRF)


def not_found(request: HttpRequest, **_why: Exception) -> HttpResponse:
    return _answer(request, _NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    """Says when, which finds it in the log, and nothing of what; a database that is away has a page of its own.

    Django calls this where it caught the exception.
    """
    if _is_away(sys.exc_info()[1]):
        return _database_away(request)
    found = ErrorPage(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The server made a mistake",
        f"It is in the server's log at {timezone.now():%H:%M:%S} UTC. Orders go on: workers do not need this page.",
        is_worth_retrying=True,
    )
    return _answer(request, found)


def _is_away(error: BaseException | None) -> bool:
    """Whether the database could not be asked; SQLite says so, too, of tables and columns it does not have."""
    return isinstance(error, OperationalError | InterfaceError) and not str(error).startswith("no such ")


def _database_away(request: HttpRequest) -> HttpResponse:
    """What was looked at is asked for again; what was sent is not sent again by itself."""
    is_safe = request.method in {"GET", "HEAD"}
    away = _DATABASE_AWAY if is_safe else replace(_DATABASE_AWAY, advice=_NOT_SENT, again_after_seconds=0)
    answer = _answer(request, away)
    answer["Retry-After"] = str(_LOOK_AGAIN_SECONDS)
    answer["Cache-Control"] = "no-store"
    return answer


def _answer(request: HttpRequest, page: ErrorPage) -> HttpResponse:
    context = {"page": page, "theme": chosen_theme(request)}
    return HttpResponse(loader.render_to_string("error.html", context), status=page.status)
