"""`WORKORDERS_AUTH=none` means: whoever uses this machine. This keeps everybody else out, whatever address is bound.

Refused are requests from other machines, requests a proxy passed on, and those that a page of another site makes
with a browser of this machine (the Host header, which DNS rebinding changes, is checked by Django itself).
Programs send none of the headers looked at. Health checks answer everybody, as they always do, whatever host they
are asked for: a load balancer asks by the machine's address.
"""

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import resolve

_HEALTH = frozenset({"/healthz", "/readyz"})
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ADVICE = "Set WORKORDERS_AUTH=required, so that people sign in and programs use API keys."


class HealthForAnyHost:
    """Answers the health checks before anybody looks at the Host header; everything else goes on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in _HEALTH:
            answer: HttpResponseBase = resolve(request.path_info).func(request)
            return answer
        return self._get_response(request)


class OpenOnLoopbackOnly:
    """Raises `PermissionDenied` with what to do; the page or problem document shows it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.WORKORDERS_AUTH == "none":
            _refuse_other_machines(request)
            _refuse_other_sites(request)
        return self._get_response(request)


def _refuse_other_machines(request: HttpRequest) -> None:
    if not _is_loopback(request.META.get("REMOTE_ADDR", "")):
        raise PermissionDenied(f"Nobody signs in here, so only this machine may ask. {_ADVICE}")
    if any(name in request.headers for name in _FORWARDED):
        raise PermissionDenied(f"Nobody signs in here, so no proxy may pass requests on. {_ADVICE}")


def _is_loopback(address: str) -> bool:
    """An empty address is a Unix socket."""
    try:
        return not address or ip_address(address.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return False


def _refuse_other_sites(request: HttpRequest) -> None:
    """Following a link from elsewhere is fine; anything else that another site's page starts is not."""
    host, is_safe = request.get_host(), request.method in _SAFE
    told = request.headers.get("Sec-Fetch-Site", "none")
    followed_link = (
        is_safe
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )
    foreign = told not in {"none", "same-origin"} and not followed_link
    for name in () if is_safe else ("Origin", "Referer"):
        source = request.headers.get(name)
        foreign = foreign or (source is not None and _netloc(source) != host)
    if foreign:
        raise PermissionDenied("Requests from pages of other sites are refused.")


def _netloc(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""
