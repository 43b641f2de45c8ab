"""The light, dark or automatic theme, kept in a cookie so that it works without JavaScript."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from workorders.accounts.access import page
from workorders.reading.progress import live_workers

THEMES = frozenset({"light", "dark", "auto"})
_YEAR = 365 * 24 * 3600


@require_POST
@page
def choose_theme(request: HttpRequest) -> HttpResponse:
    target = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()}):
        target = "/"
    response = HttpResponseRedirect(target)
    theme = request.POST.get("theme", "auto")
    if theme in THEMES:
        response.set_cookie(
            "theme",
            theme,
            max_age=_YEAR,
            httponly=True,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
    return response


def chosen_theme(request: HttpRequest) -> str:
    theme = request.COOKIES.get("theme", "auto")
    return theme if theme in THEMES else "auto"


def page_context(request: HttpRequest) -> dict[str, object]:
    """Context every page has: the chosen theme, whether agents are isolated, whether people sign in and anybody works.

    `no_worker` is asked for only by a page that shows it.
    """
    return {
        "theme": chosen_theme(request),
        "sign_in_required": settings.WORKORDERS_AUTH == "required",
        "no_worker": lambda: not live_workers(),
        "isolation_off": settings.WORKORDERS_AGENT_ISOLATION == "none",
    }
