"""Who may see a page: everybody where WORKORDERS_AUTH=none (loopback only), else signed-in people."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django_htmx.middleware import HtmxDetails

from workorders.errors import WorkOrderNotFound

type View = Callable[..., HttpResponseBase]


class HtmxRequest(HttpRequest):
    """A request as django-htmx's middleware leaves it, for annotations."""

    htmx: HtmxDetails


def page(view: View) -> View:
    """Every page and fragment carries this."""
    closed = login_required(view)

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        chosen = closed if settings.WORKORDERS_AUTH == "required" else view
        return chosen(request, *args, **kwargs)

    return guarded


def order_page_view(view: View) -> View:
    """A page about one order: an unknown one is the 404 page."""

    @wraps(view)
    def found(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except WorkOrderNotFound as error:
            raise Http404(str(error)) from error

    return page(found)


def actor(request: HttpRequest) -> str:
    """Who acts, for the order's history."""
    return request.user.get_username() if request.user.is_authenticated else "page"
