"""Who may call the API: a program with a key, a person with a session, or, where `WORKORDERS_AUTH=none`, anybody here.

Who is let in under `none` is decided before (`workorders.serving.middleware`). A key that is sent counts in either
case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe
from ninja.errors import AuthenticationError
from ninja.security import APIKeyCookie, HttpBearer

from workorders.api.problems import Problem
from workorders.domain.states import ApiKeyScope
from workorders.services import api_keys
from workorders.services.api_keys import ApiKeyRefused

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_MAX_NAME = 100


@dataclass(frozen=True)
class Caller:
    """`name` goes into the history; `user` is None where nobody has to sign in."""

    name: str = "api"
    user: AbstractBaseUser | None = None


class ApiKeyAuth(HttpBearer):
    """`Authorization: Bearer wok_…`. Needs no CSRF token: no browser sends this header by itself."""

    openapi_scheme = "bearer"

    def __init__(self) -> None:
        super().__init__()
        self.openapi_security_schema["description"] = "An API key of your account page"

    def __call__(self, request: HttpRequest) -> Caller | None:
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        return self.authenticate(request, presented.strip()) if scheme.lower() == "bearer" else None

    def authenticate(self, request: HttpRequest, token: str) -> Caller:
        try:
            key = api_keys.authenticate(token)
        except ApiKeyRefused as error:
            challenge = 'Bearer realm="work-orders", error="invalid_token"'
            raise Problem(401, str(error), error.category, error.advice, challenge=challenge) from error
        if request.method not in _SAFE and key.scope != ApiKeyScope.WRITE:
            challenge = 'Bearer realm="work-orders", error="insufficient_scope", scope="write"'
            raise Problem(403, "This API key may only read.", "insufficient_scope", challenge=challenge)
        return Caller(f"{key.user.get_username()[:_MAX_NAME]} (key {key.prefix})", key.user)


class SessionOrOpen(APIKeyCookie):
    """Django's session with CSRF; without authentication anybody."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> Caller | None:
        if settings.WORKORDERS_AUTH == "none":
            return Caller()
        if not request.user.is_authenticated:
            return None
        caller: Caller | None = super().__call__(request)
        return caller

    def authenticate(self, request: HttpRequest, _key: str | None) -> Caller | None:
        if not request.user.is_authenticated:
            return None
        return Caller(request.user.get_username(), request.user)


api_auth: tuple[Any, ...] = (ApiKeyAuth(), SessionOrOpen())


def caller_of(request: HttpRequest) -> Caller:
    """The caller ninja let in."""
    caller: Caller = request.auth  # type: ignore[attr-defined]  # set by ninja from `api_auth`
    return caller


def authenticated(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The same rule for views that are no ninja operation."""

    @wraps(view, updated=())  # ninja hands over a partial
    def inner(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if not any(allowed(request) for allowed in api_auth):
            raise AuthenticationError
        return view(request, *args, **kwargs)

    return require_safe(inner)
