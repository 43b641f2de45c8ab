"""Who may call the API: anybody where `WORKORDERS_AUTH=none` (loopback only), else people with a session."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from ninja.errors import AuthenticationError
from ninja.security import APIKeyCookie

from workorders.api.problems import Problem

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclass(frozen=True)
class Caller:
    """`name` goes into the history; `user` is None where nobody has to log in."""

    name: str = "api"
    user: AbstractBaseUser | None = None


class SessionOrOpen(APIKeyCookie):
    """Django's session with CSRF; without authentication only other sites' pages are kept out."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> Caller | None:
        if settings.WORKORDERS_AUTH == "none":
            _refuse_other_sites(request)
            return Caller()
        if not request.user.is_authenticated:
            return None
        caller: Caller | None = super().__call__(request)
        return caller

    def authenticate(self, request: HttpRequest, _key: str | None) -> Caller | None:
        if not request.user.is_authenticated:
            return None
        return Caller(request.user.get_username(), request.user)


api_auth = SessionOrOpen()


def caller_of(request: HttpRequest) -> Caller:
    """The caller ninja let in."""
    caller: Caller = request.auth  # type: ignore[attr-defined]  # set by ninja from SessionOrOpen
    return caller


def authenticated(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The same rule for views that are no ninja operation."""

    @wraps(view, updated=())  # ninja hands over a partial
    def inner(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if api_auth(request) is None:
            raise AuthenticationError
        return view(request, *args, **kwargs)

    return inner


def _refuse_other_sites(request: HttpRequest) -> None:
    """A page of another site in the same browser could reach a loopback server; it cannot hide its origin."""
    origin = request.headers.get("Origin")
    if request.method not in _SAFE and origin and urlsplit(origin).netloc != request.get_host():
        raise Problem(403, "Requests from pages of other sites are refused.")
