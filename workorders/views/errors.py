"""Pages for what went wrong. They need no database, no session and no context, so that they work when those do not."""

from dataclasses import dataclass, replace
from http import HTTPStatus

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
    """Says when, which finds it in the log, and nothing of what."""
    found = ErrorPage(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The server made a mistake",
        f"It is in the server's log at {timezone.now():%H:%M:%S} UTC. Orders go on: workers do not need this page.",
        is_worth_retrying=True,
    )
    return _answer(request, found)


def _answer(request: HttpRequest, page: ErrorPage) -> HttpResponse:
    context = {"page": page, "theme": chosen_theme(request)}
    return HttpResponse(loader.render_to_string("error.html", context), status=page.status)
