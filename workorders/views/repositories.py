"""Connected repositories: connect, verify, defaults. A worker asks GitHub; these pages show what it found."""

from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from github_app.models import Repository
from workorders.accounts.access import HtmxRequest, actor, page
from workorders.domain.errors import InvalidInput
from workorders.forms import (
    ConnectRepositoryForm,
    ProtectedPathsForm,
    RepositoryDefaultsForm,
    SubmodulesAllowedForm,
)
from workorders.reading.pages.order_list import recent_orders
from workorders.reading.pages.repositories import open_issues, repository_state, repository_states
from workorders.services import work_orders as services

_PAGE = require_http_methods(["GET", "HEAD", "POST"])


@_PAGE
@page
def repository_list(request: HtmxRequest) -> HttpResponseBase:
    """The list; a POST connects a repository and leaves its verification to a worker."""
    if request.method != "POST":
        return _list(request, ConnectRepositoryForm())
    form = ConnectRepositoryForm(request.POST)
    if not form.is_valid():
        return _list(request, form, status=422)
    services.connect_repository(reference=form.cleaned_data["reference"], by=actor(request))
    return _list(request, ConnectRepositoryForm()) if request.htmx else redirect("repositories")


@_PAGE
@page
def repository(request: HtmxRequest, pk: int) -> HttpResponseBase:
    """One repository; a POST keeps its defaults."""
    row = get_object_or_404(Repository, pk=pk)
    form = (
        RepositoryDefaultsForm(request.POST) if request.method == "POST" else RepositoryDefaultsForm.of(row)
    )
    if form.is_valid():
        try:
            services.update_repository_defaults(repository_pk=pk, defaults=form.defaults(), by=actor(request))
            messages.success(request, "New work orders of this repository start from these defaults.")
            return redirect("repository", pk=pk)
        except InvalidInput as error:
            form.add_error(error.field, str(error))
    return render(
        request, "workorders/repository.html", _context(row, form=form), status=422 if form.errors else 200
    )


@require_POST
@page
def protected_paths(request: HtmxRequest, pk: int) -> HttpResponseBase:
    row = get_object_or_404(Repository, pk=pk)
    form = ProtectedPathsForm(request.POST)
    if not form.is_valid():
        return render(request, "workorders/repository.html", _context(row, protected=form), status=422)
    services.update_protected_paths(
        repository_pk=pk, protected_paths=form.cleaned_data["protected_paths"], by=actor(request)
    )
    messages.success(request, "Work orders of this repository ask before they change these paths.")
    return redirect("repository", pk=pk)


@require_POST
@page
def submodules_allowed(request: HtmxRequest, pk: int) -> HttpResponseBase:
    row = get_object_or_404(Repository, pk=pk)
    form = SubmodulesAllowedForm(request.POST)
    if not form.is_valid():
        return render(request, "workorders/repository.html", _context(row, submodules=form), status=422)
    services.update_submodules_allowed(
        repository_pk=pk, submodules_allowed=form.cleaned_data["submodules_allowed"], by=actor(request)
    )
    messages.success(request, "Work orders of this repository fetch these submodules with the credential.")
    return redirect("repository", pk=pk)


@require_safe
@page
def state(request: HtmxRequest, pk: int) -> HttpResponse:
    """The repository's state as a fragment; 204 where it is the one shown already."""
    found = repository_state(get_object_or_404(Repository, pk=pk))
    if request.GET.get("shown") == found.word:
        return HttpResponse(status=204)
    return render(request, "workorders/repository.html#state", {"repository": found})


@require_POST
@page
def verify(request: HtmxRequest, pk: int) -> HttpResponseBase:
    get_object_or_404(Repository, pk=pk)
    row = services.request_verification(repository_pk=pk, by=actor(request))
    if not request.htmx:
        return redirect("repository", pk=pk)
    return render(request, "workorders/repository.html#state", {"repository": repository_state(row)})


@require_safe
@page
def issues(request: HtmxRequest, pk: int) -> HttpResponse:
    """The open issues to pick from, as a fragment of the form for new orders."""
    found = open_issues(get_object_or_404(Repository, pk=pk))
    if request.GET.get("shown") == found.word:
        return HttpResponse(status=204)
    context = {"issues": found, "picked": request.GET.get("github_issue_number", "")}
    return render(request, "workorders/new_order.html#issues", context)


def _context(
    row: Repository,
    *,
    form: RepositoryDefaultsForm | None = None,
    protected: ProtectedPathsForm | None = None,
    submodules: SubmodulesAllowedForm | None = None,
) -> dict[str, object]:
    """The forms as they came, or else as the row has it."""
    return {
        "nav": "repositories",
        "repository": repository_state(row),
        "form": form or RepositoryDefaultsForm.of(row),
        "protected": protected or ProtectedPathsForm(initial={"protected_paths": row.protected_paths}),
        "submodules": submodules
        or SubmodulesAllowedForm(initial={"submodules_allowed": row.submodules_allowed}),
        "rows": recent_orders(row.pk),
    }


def _list(request: HtmxRequest, form: ConnectRepositoryForm, *, status: int = 200) -> HttpResponse:
    context = {"nav": "repositories", "form": form, "repositories": repository_states()}
    template = "workorders/repositories.html#repositories" if request.htmx else "workorders/repositories.html"
    return render(request, template, context, status=status)
