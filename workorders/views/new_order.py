"""The form for a new work order. One key in each form, so that a double click or a reload makes one order."""

from dataclasses import asdict
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from github_app.models import Repository
from sandboxes.kinds import SandboxType
from workorders.accounts.access import HtmxRequest, actor, page
from workorders.domain.errors import IdempotencyConflict
from workorders.domain.workflows import AgentWorkflowType
from workorders.forms import NewOrderForm, new_key
from workorders.reading.pages.choices import sandbox_cards, workflow_cards
from workorders.reading.pages.repositories import open_issues, repository_named
from workorders.services import work_orders as services

_START = {
    "sandbox_type": SandboxType.GIT_BRANCH.value,
    "workflow_type": AgentWorkflowType.PLAN_BUILD_TEST.value,
}


@require_http_methods(["GET", "HEAD", "POST"])
@page
def new_order(request: HtmxRequest) -> HttpResponseBase:
    """Creates the order; `action` in the form asks only for another view of what is typed so far."""
    if request.method != "POST":
        return _show(request, NewOrderForm(initial=_prefilled(request)))
    if action := request.POST.get("action"):
        return _redraw(request, action)
    form = NewOrderForm(request.POST)
    if not form.is_valid():
        return _show(request, form, status=422)
    try:
        order_id = _create_once(request, form)
    except IdempotencyConflict:
        form.add_error(
            None, "An order was already created from this page. Submit again to create another one."
        )
        return _show(request, form, status=422)
    messages.success(request, f"Work order {order_id} is queued.")
    target = reverse("work-order", args=[order_id])
    return HttpResponseClientRedirect(target) if request.htmx else redirect(target)


def _create_once(request: HtmxRequest, form: NewOrderForm) -> str:
    """The id of the order this form makes, or has made. Raises `IdempotencyConflict` for changed contents."""
    user = request.user if request.user.is_authenticated else None

    def produce() -> services.Answer:
        order = services.create_agent_work_order(request=form.request, by=actor(request), user=user)
        return services.Answer(201, {"agent_work_order_id": order.agent_work_order_id})

    answer = services.answer_once(
        endpoint=f"POST work-order-new {user.pk if user else ''}".strip(),
        key=form.cleaned_data["key"],
        body=asdict(form.request),
        produce=produce,
    )
    return str(answer.body["agent_work_order_id"])


def _redraw(request: HtmxRequest, action: str) -> HttpResponse:
    """The form with all that is typed, after another repository was chosen or its issues were asked for."""
    typed: dict[str, Any] = {name: request.POST.get(name, "") for name in NewOrderForm.base_fields}
    form = NewOrderForm(initial=typed)
    row = _chosen_repository(form)
    if row is not None and action == "choose":
        form.initial.update(_defaults_of(row))
    if row is not None and (action == "refresh" or open_issues(row).is_stale):
        services.request_issues(repository_pk=row.pk)
    return _show(request, form)


def _show(request: HtmxRequest, form: NewOrderForm, *, status: int = 200) -> HttpResponse:
    row = _chosen_repository(form)
    context = {
        "nav": "new",
        "form": form,
        "key": new_key(),
        "repository": row,
        "issues": open_issues(row) if row else None,
        "picked": form["github_issue_number"].value() or form["issue"].value() or "",
        "sandboxes": sandbox_cards(),
        "workflows": workflow_cards(),
    }
    template = "workorders/new_order.html#form" if request.htmx else "workorders/new_order.html"
    return render(request, template, context, status=status)


def _prefilled(request: HtmxRequest) -> dict[str, Any]:
    """From a link: `repository` by key, URL (also that of an issue) or `owner/name`, and `issue`."""
    given = request.GET.get("repository", "").strip()
    row, link = repository_named(given)
    issue = request.GET.get("issue", "")[:11] or (link.issue_number if link else "")
    initial = {**_START, "github_issue_number": issue}
    if row is not None:
        initial |= {"repository": str(row.pk), **_defaults_of(row)}
    elif link is not None:
        initial["repository_url"] = link.repository.repository_url
    return initial


def _defaults_of(row: Repository) -> dict[str, str]:
    known = {
        "sandbox_type": row.default_sandbox_type,
        "workflow_type": row.default_workflow_type,
        "base_branch": row.default_base_branch,
        "model": row.default_model,
    }
    return {name: value for name, value in known.items() if value}


def _chosen_repository(form: NewOrderForm) -> Repository | None:
    """A new reference that is typed takes the place of the choice."""
    if form.repository_pk is None or form["repository_url"].value():
        return None
    return Repository.objects.filter(pk=form.repository_pk).first()
