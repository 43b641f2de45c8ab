"""Who may see a page: everybody where WORKORDERS_AUTH=none (loopback only), else signed-in people."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse

type View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """Every page and fragment carries this."""
    closed = login_required(view)

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        chosen = closed if settings.WORKORDERS_AUTH == "required" else view
        return chosen(request, *args, **kwargs)

    return guarded


def actor(request: HttpRequest) -> str:
    """Who acts, for the order's history."""
    return request.user.get_username() if request.user.is_authenticated else "page"
