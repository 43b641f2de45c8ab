"""Who may see a page: everybody where WORKORDERS_AUTH=none (loopback only), else signed-in people."""

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from workorders.domain.errors import WorkOrderNotFound

type View = Callable[..., HttpResponseBase]


class HtmxRequest(HttpRequest):
    """A request as django-htmx's middleware leaves it, for annotations."""

    htmx: HtmxDetails


def page(view: View) -> View:
    """Every page and fragment carries this."""

    @wraps(view)
    def guarded(request: HtmxRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if settings.WORKORDERS_AUTH == "required" and not request.user.is_authenticated:
            return _to_sign_in(request)
        return view(request, *args, **kwargs)

    return guarded


def _to_sign_in(request: HtmxRequest) -> HttpResponseBase:
    """And back to the page afterwards: a fragment's page, not the fragment, and nothing that was posted."""
    if request.htmx:
        answer = redirect_to_login(_page_of(request) or reverse("home"))
        return HttpResponseClientRedirect(answer.url)
    return redirect_to_login(
        request.get_full_path() if request.method in {"GET", "HEAD"} else reverse("home")
    )


def _page_of(request: HtmxRequest) -> str | None:
    """The path of this site's page that asked for a fragment; the header is the browser's, so it may be anything."""
    try:
        return request.htmx.current_url_abs_path
    except ValueError:
        return None


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
