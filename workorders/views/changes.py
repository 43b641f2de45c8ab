"""What an order changed: all files, the diffs of the first ones, and every file's diff at its own address."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from workorders.accounts.access import HtmxRequest, order_page_view
from workorders.reading.pages import changes as pages


@require_safe
@order_page_view
def changes(request: HttpRequest, agent_work_order_id: str) -> HttpResponse:
    page = pages.changes(agent_work_order_id)
    return render(request, "workorders/changes.html", {"page": page, "nav": "orders"})


@require_safe
@order_page_view
def changed_file(request: HtmxRequest, agent_work_order_id: str, position: int) -> HttpResponse:
    """A page of its own, or the diff alone for the page that lists all files."""
    page = pages.changed_file(agent_work_order_id, position)
    part = "#body" if request.htmx else ""
    context = {"page": page, "file": page.file, "order_id": agent_work_order_id, "nav": "orders"}
    response = render(request, f"workorders/changed_file.html{part}", context)
    patch_vary_headers(response, ["HX-Request"])
    return response
