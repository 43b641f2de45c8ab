"""One order: its page, the two fragments it polls, and what a person can do to it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event
from pydantic import ValidationError

from workorders.accounts.access import HtmxRequest, actor, order_page_view
from workorders.domain.errors import ConflictError, InvalidInput
from workorders.domain.states import ACTIVE
from workorders.incoming import AgentPromptRequest
from workorders.reading.pages.feed import FEED_KINDS, Feed
from workorders.reading.pages.feed import feed as feed_of
from workorders.reading.pages.order import order_state, position
from workorders.reading.pages.rows import glance
from workorders.services import work_orders as services

_PAGE = "workorders/detail.html"
_ACTIVITY = "workorders/order/activity.html"
_PROMPTED = "The agent will get your prompt."


@require_safe
@order_page_view
def detail(request: HttpRequest, agent_work_order_id: str) -> HttpResponse:
    return _page(request, agent_work_order_id)


@require_safe
@order_page_view
def state(request: HttpRequest, agent_work_order_id: str) -> HttpResponse:
    """All but the log; 204 where the reader has it already."""
    if request.GET.get("v") == position(agent_work_order_id):
        return HttpResponse(status=204)
    return render(request, "workorders/order/state.html", {"page": order_state(agent_work_order_id)})


@require_safe
@order_page_view
def feed(request: HttpRequest, agent_work_order_id: str) -> HttpResponse:
    """Entries after or before a sequence number; 204 where nothing is new and more may come."""
    found = _feed(request, agent_work_order_id)
    after = _number(request, "after")
    if after is not None and found.cursor == after and found.is_live:
        return HttpResponse(status=204)
    part = "older" if after is None else "newer"
    return render(request, f"{_ACTIVITY}#{part}", {"feed": found})


@require_POST
@order_page_view
def prompt(request: HtmxRequest, agent_work_order_id: str) -> HttpResponse:
    text = request.POST.get("prompt_text", "")
    is_watched = (
        request.htmx and glance(agent_work_order_id).status in ACTIVE
    )  # so the page polls, and can stay
    try:
        services.prompt_agent_work_order(
            agent_work_order_id=agent_work_order_id, prompt_text=_checked(text), by=actor(request)
        )
    except (ConflictError, InvalidInput) as error:
        context = {"prompt_text": text, "prompt_error": str(error)}
        if request.htmx:
            context["order_id"] = agent_work_order_id
            return render(request, f"{_ACTIVITY}#prompt", context, status=422)
        return _page(request, agent_work_order_id, status=422, **context)
    if not is_watched:
        return _answer(request, agent_work_order_id, _PROMPTED)
    response = render(request, f"{_ACTIVITY}#prompt", {"order_id": agent_work_order_id})
    trigger_client_event(response, "toast", {"message": _PROMPTED, "level": "success"})
    return trigger_client_event(response, "poll-now")


@require_http_methods(["GET", "HEAD", "POST"])
@order_page_view
def cancel(request: HtmxRequest, agent_work_order_id: str) -> HttpResponse:
    """Asked for by GET, where no script could ask, this is the question."""
    if request.method != "POST":
        page = order_state(agent_work_order_id)
        return render(request, "workorders/confirm_cancel.html", {"page": page, "nav": "orders"})
    return _act(
        request, agent_work_order_id, services.cancel_agent_work_order, "The work order is being cancelled."
    )


@require_POST
@order_page_view
def retry(request: HtmxRequest, agent_work_order_id: str) -> HttpResponse:
    return _act(
        request, agent_work_order_id, services.retry_agent_work_order, "The work order is queued again."
    )


@require_POST
@order_page_view
def go_on(request: HtmxRequest, agent_work_order_id: str) -> HttpResponse:
    return _act(request, agent_work_order_id, services.continue_agent_work_order, "The work order goes on.")


@require_POST
@order_page_view
def approve(request: HtmxRequest, agent_work_order_id: str) -> HttpResponse:
    service = partial(services.approve_agent_work_order, sha=request.POST.get("git_commit_sha", "")[:64])
    return _act(request, agent_work_order_id, service, "The commit is approved and will be pushed.")


def _checked(text: str) -> str:
    """A typed prompt, held to the API's rules; an empty one is refused by the service. Raises `InvalidInput`."""
    if not text.strip():
        return text
    try:
        return AgentPromptRequest(prompt_text=text.replace("\r\n", "\n")).prompt_text
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise InvalidInput("prompt_text", f"The prompt cannot be sent: {message}.") from error


def _page(request: HttpRequest, order_id: str, *, status: int = 200, **context: object) -> HttpResponse:
    values = {
        "page": order_state(order_id),
        "feed": _feed(request, order_id),
        "feed_kinds": tuple(FEED_KINDS),
        "order_id": order_id,
        "prompt_text": "",
        "prompt_error": "",
        "nav": "orders",
    }
    return render(request, _PAGE, values | context, status=status)


def _feed(request: HttpRequest, order_id: str) -> Feed:
    return feed_of(
        order_id,
        kind=request.GET.get("kind", "all"),
        after=_number(request, "after"),
        before=_number(request, "before"),
    )


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _act(request: HtmxRequest, order_id: str, service: Callable[..., Any], done: str) -> HttpResponse:
    try:
        service(agent_work_order_id=order_id, by=actor(request))
    except ConflictError as error:
        return _answer(request, order_id, str(error), level=messages.ERROR)
    return _answer(request, order_id, done)


def _answer(request: HtmxRequest, order_id: str, text: str, *, level: int = messages.SUCCESS) -> HttpResponse:
    """Back to the order's page, which says what happened."""
    messages.add_message(request, level, text)
    if request.htmx:
        return HttpResponseClientRedirect(reverse("work-order", args=[order_id]))
    return redirect("work-order", order_id)
