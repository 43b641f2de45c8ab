"""The operator's view of the rows: everything to read, nothing to edit, and actions through the services.

Pages cost a constant number of queries, however long an order's history is.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import localize
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from sandboxes.errors import ExpectedError
from workorders.models import (
    AgentPrompt,
    AgentWorkOrder,
    ApiKey,
    IdempotencyRecord,
    OutsideEffect,
    PhaseRun,
    WorkerProcess,
    WorkOrderLog,
    WorkOrderTransition,
)
from workorders.services import api_keys
from workorders.services import work_orders as services

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

SHOWN_ROWS = 25
_NOTHING = "–"


def https_link(url: str | None, text: str) -> str:
    """A link where the address is https, else only its text: addresses come from outside."""
    if url and url.startswith("https://"):
        return format_html('<a href="{}" rel="noopener noreferrer">{}</a>', url, text)
    return text or _NOTHING


def _table(headings: Iterable[str], rows: Iterable[Iterable[Any]]) -> SafeString:
    head = format_html_join("", "<th>{}</th>", ((heading,) for heading in headings))
    lines = (
        (
            format_html_join(
                "", "<td>{}</td>", ((localize(cell) if cell != "" else _NOTHING,) for cell in row)
            ),
        )
        for row in rows
    )
    body = format_html_join("", "<tr>{}</tr>", lines)
    return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, body)


def _latest(rows: QuerySet[Any], columns: tuple[str, ...], listing: str, order: AgentWorkOrder) -> SafeString:
    """The newest rows of an order as a table, and a link to all of them."""
    newest = rows.order_by("-pk").values_list(*columns)[:SHOWN_ROWS]
    query = urlencode({"agent_work_order__id__exact": order.pk})
    address = f"{reverse(f'admin:workorders_{listing}_changelist')}?{query}"
    return format_html('{}<p><a href="{}">all</a></p>', _table(columns, newest), address)


class ReadOnlyAdmin(_ModelAdmin):
    """Rows are written by the services and the engine only."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Model | None = None) -> bool:
        return False


@admin.register(AgentWorkOrder)
class AgentWorkOrderAdmin(ReadOnlyAdmin):
    list_display = [
        "agent_work_order_id",
        "repository",
        "workflow_type",
        "sandbox_type",
        "status",
        "current_phase",
        "waiting_reason",
        "git_branch_name",
        "pull_request",
        "git_commit_count",
        "cost_usd",
        "created_at",
    ]
    list_filter = [
        "status",
        "waiting_reason",
        "sandbox_type",
        "workflow_type",
        "outcome",
        "error_category",
        "created_at",
    ]
    list_select_related = ["repository"]
    search_fields = [
        "agent_work_order_id",
        "git_branch_name",
        "initial_prompt",
        "github_issue_title",
        "repository__repository_url",
    ]
    date_hierarchy = "created_at"
    actions = ["retry", "cancel", "go_on", "approve"]
    readonly_fields = ["pull_request", "phases", "outside", "prompts_queued", "history", "latest_log"]

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Asked by Django for the actions below."""
        return request.user.has_perm("workorders.change_agentworkorder")

    @admin.action(description="Retry", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[AgentWorkOrder]) -> None:
        self._each(request, queryset, services.retry_agent_work_order, "is queued again")

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[AgentWorkOrder]) -> None:
        self._each(request, queryset, services.cancel_agent_work_order, "is being cancelled")

    @admin.action(description="Go on now (end a wait)", permissions=["operate"])
    def go_on(self, request: HttpRequest, queryset: QuerySet[AgentWorkOrder]) -> None:
        self._each(request, queryset, services.continue_agent_work_order, "goes on")

    @admin.action(description="Approve the commit that waits (protected paths)", permissions=["operate"])
    def approve(self, request: HttpRequest, queryset: QuerySet[AgentWorkOrder]) -> None:
        """The commits that wait now; their diffs are on the orders' pages."""
        waiting = dict(queryset.values_list("agent_work_order_id", "approval_sha"))
        self._each(
            request,
            queryset,
            lambda *, agent_work_order_id, by: services.approve_agent_work_order(
                agent_work_order_id=agent_work_order_id, sha=waiting[agent_work_order_id], by=by
            ),
            "is approved",
        )

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[AgentWorkOrder],
        act: Callable[..., AgentWorkOrder],
        result: str,
    ) -> None:
        for order_id in queryset.values_list("agent_work_order_id", flat=True):
            try:
                act(agent_work_order_id=order_id, by=request.user.get_username())
            except ExpectedError as error:
                self.message_user(request, f"Order {order_id}: {error} {error.advice}", messages.ERROR)
            else:
                self.message_user(request, f"Order {order_id} {result}.", messages.SUCCESS)

    @admin.display(description="pull request", ordering="github_pull_request_number")
    def pull_request(self, order: AgentWorkOrder) -> str:
        number = order.github_pull_request_number
        return https_link(order.github_pull_request_url, f"#{number}" if number else "")

    @admin.display(description="phase runs")
    def phases(self, order: AgentWorkOrder) -> SafeString:
        columns = ("sequence", "kind", "phase", "attempt", "status", "started_at", "completed_at", "commits")
        return _latest(order.phase_runs.all(), columns, "phaserun", order)

    @admin.display(description="effects outside")
    def outside(self, order: AgentWorkOrder) -> SafeString:
        columns = ("kind", "key", "state", "requests", "number", "sent_at", "confirmed_at")
        return _latest(order.effects.all(), columns, "outsideeffect", order)

    @admin.display(description="prompts")
    def prompts_queued(self, order: AgentWorkOrder) -> SafeString:
        columns = ("created_at", "by", "status", "prompt_text")
        return _latest(order.prompts.all(), columns, "agentprompt", order)

    @admin.display(description="history")
    def history(self, order: AgentWorkOrder) -> SafeString:
        columns = ("at", "by", "from_status", "to_status", "reason")
        return _latest(order.transitions.all(), columns, "workordertransition", order)

    @admin.display(description="latest log entries")
    def latest_log(self, order: AgentWorkOrder) -> SafeString:
        columns = ("sequence", "timestamp", "level", "event")
        return _latest(order.log_entries.all(), columns, "workorderlog", order)


@admin.register(PhaseRun)
class PhaseRunAdmin(ReadOnlyAdmin):
    list_display = [
        "agent_work_order",
        "sequence",
        "kind",
        "phase",
        "attempt",
        "status",
        "commits",
        "cost_usd",
        "sandbox_start_seconds",
        "worker",
        "started_at",
        "completed_at",
    ]
    list_filter = ["status", "kind", "phase", "error_category"]
    list_select_related = ["agent_work_order"]
    search_fields = ["agent_work_order__agent_work_order_id", "agent_session_id"]
    ordering = ["-pk"]


@admin.register(WorkOrderLog)
class WorkOrderLogAdmin(ReadOnlyAdmin):
    list_display = ["timestamp", "agent_work_order", "sequence", "level", "event"]
    list_filter = ["level"]
    list_select_related = ["agent_work_order"]
    raw_id_fields = ["agent_work_order"]
    search_fields = ["agent_work_order__agent_work_order_id", "event"]
    ordering = ["-pk"]


@admin.register(AgentPrompt)
class AgentPromptAdmin(ReadOnlyAdmin):
    list_display = ["agent_work_order", "status", "by", "created_at", "__str__"]
    list_filter = ["status"]
    list_select_related = ["agent_work_order"]
    search_fields = ["agent_work_order__agent_work_order_id", "prompt_text"]
    ordering = ["-pk"]


@admin.register(OutsideEffect)
class OutsideEffectAdmin(ReadOnlyAdmin):
    list_display = [
        "agent_work_order",
        "kind",
        "key",
        "state",
        "settled",
        "requests",
        "sent_at",
        "confirmed_at",
    ]
    list_filter = ["kind", "state", "settled"]
    list_select_related = ["agent_work_order"]
    search_fields = ["agent_work_order__agent_work_order_id", "address"]
    ordering = ["-pk"]


@admin.register(WorkOrderTransition)
class WorkOrderTransitionAdmin(ReadOnlyAdmin):
    list_display = ["agent_work_order", "from_status", "to_status", "by", "reason", "at"]
    list_filter = ["to_status"]
    list_select_related = ["agent_work_order"]
    search_fields = ["agent_work_order__agent_work_order_id", "by"]
    ordering = ["-pk"]


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    list_display = ["endpoint", "key", "response_status", "created_at"]
    search_fields = ["key"]
    ordering = ["-pk"]


@admin.register(WorkerProcess)
class WorkerProcessAdmin(ReadOnlyAdmin):
    list_display = ["name", "host", "version", "running", "share", "orders", "started_at", "last_beat_at"]
    search_fields = ["name", "host"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerProcess]:
        claimed = AgentWorkOrder.objects.filter(claim_owner=OuterRef("name")).order_by("pk")
        rows: QuerySet[WorkerProcess] = super().get_queryset(request)
        return rows.annotate(an_order=Subquery(claimed.values("agent_work_order_id")[:1]))

    @admin.display(description="orders it is at")
    def orders(self, worker: Any) -> str:
        """The first one as a link to all, so that the list costs one query however many there are."""
        if not worker.an_order:
            return _NOTHING
        query = urlencode({"claim_owner": worker.name})
        address = f"{reverse('admin:workorders_agentworkorder_changelist')}?{query}"
        more = f" and {worker.running - 1} more" if worker.running > 1 else ""
        return format_html('<a href="{}">{}</a>', address, f"{worker.an_order}{more}")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """Keys are made on the account page or by command, where the secret can be shown to the one who needs it."""

    list_display = ["prefix", "name", "user", "scope", "state", "created_at", "expires_at", "last_used_at"]
    list_filter = ["scope", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["prefix", "name", "user__username"]
    exclude = ["secret_sha256"]
    actions = ["revoke"]

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Asked by Django for the action below."""
        return request.user.has_perm("workorders.change_apikey")

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            api_keys.revoke_api_key(pk=key.pk, by=request.user.get_username())
        self.message_user(request, "The keys are revoked.", messages.SUCCESS)
