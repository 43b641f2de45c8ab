"""The list of work orders: whole page, or with HTMX the list alone."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from workorders.accounts.access import HtmxRequest, page
from workorders.forms import OrderFilters
from workorders.reading.pages.choices import sandbox_cards, workflow_cards
from workorders.reading.pages.order_list import OrderList, list_version, order_list
from workorders.reading.pages.repositories import repository_choices


@require_safe
@page
def order_list_page(request: HtmxRequest) -> HttpResponse:
    """A poll brings the version it shows and gets 204 while that is current."""
    version = list_version()
    shown = request.GET.get("version")
    if request.htmx and shown == version:
        return HttpResponse(status=204)
    context = _context(OrderFilters(request.GET), version)
    is_fragment = request.htmx and not request.htmx.history_restore_request
    template = "workorders/list.html#orders" if is_fragment else "workorders/list.html"
    response = render(request, template, context)
    if is_fragment and shown is None:
        response["HX-Push-Url"] = _address(context["chosen"], context["listed"])
    patch_vary_headers(response, ["HX-Request"])
    patch_cache_control(response, private=True, no_cache=True)
    return response


def _context(filters: OrderFilters, version: str) -> dict[str, Any]:
    """Choices are called by the template, where it has a use for them."""
    chosen = filters.chosen()
    return {
        "nav": "orders",
        "version": version,
        "chosen": chosen,
        "listed": order_list(
            filters.query(),
            state=filters.state(),
            page_number=filters.page_number(),
            whole_search="all" in chosen,
        ),
        "repositories": repository_choices,
        "sandboxes": sandbox_cards,
        "workflows": workflow_cards,
    }


def _address(chosen: dict[str, Any], listed: OrderList) -> str:
    """The list's address without empty filters."""
    given = {**chosen, "page": listed.number} if listed.number > 1 else chosen
    return f"{reverse('home')}?{urlencode(given)}" if given else reverse("home")
