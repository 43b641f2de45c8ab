"""Wraps the API's addresses: bounds the body, answers HEAD like GET, and makes every error page a problem.

A wrapper around the views and no middleware, so that nothing outside /api pays for it or changes.
"""

import sys
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, re_path
from django.views.decorators.csrf import csrf_exempt

from workorders.api.body import take_body
from workorders.api.problems import EXPECTED, Problem, as_problem, problem_of

View = Callable[..., HttpResponseBase]
API_PREFIX = "/api"


def guarded(
    urls: tuple[list[URLResolver | URLPattern], str, str],
) -> tuple[list[URLResolver | URLPattern], str, str]:
    """ninja's patterns with every view wrapped."""
    patterns, app_name, namespace = urls
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            pattern.callback = _guard(pattern.callback)
    return patterns, app_name, namespace


def _guard(view: View) -> View:
    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        method = request.method
        try:
            take_body(request)
            if method == "HEAD":
                request.method = "GET"  # ninja knows no HEAD; the server leaves the body out
            return as_problem(view(request, *args, **kwargs))
        except EXPECTED as error:
            return problem_of(error).response()
        finally:
            request.method = method

    return inner


@csrf_exempt
def _unknown(_request: HttpRequest, **_path: str) -> HttpResponseBase:
    return Problem(404).response()


unknown_routes = re_path(r"^api(?:/|$)", _unknown)


def error_page(status: int, otherwise: View) -> View:
    """The handler of an error: a problem below /api, a page elsewhere."""

    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.path.startswith(API_PREFIX + "/"):
            return _problem(status, kwargs.get("exception")).response()
        return otherwise(request, *args, **kwargs)

    return view


def _problem(status: int, error: object) -> Problem:
    """Of an error that came from outside the API's own views, such as the session's."""
    happened = sys.exc_info()[1]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(happened, DatabaseError | InterfaceError):
        return problem_of(happened)
    return Problem(status, _told(error) if status == HTTPStatus.FORBIDDEN else "")


def _told(error: object) -> str:
    """What a refusal says to its reader; Django's own say nothing."""
    return str(error or "")
