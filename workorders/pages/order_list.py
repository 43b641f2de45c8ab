"""Lists of work orders: rows, counts by status, and the version that says whether any of it changed."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.db import connection
from django.db.models import Count, F, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Left

from workorders import progress
from workorders.models import AgentWorkOrder, WorkOrderTransition
from workorders.pages.naming import SCANNED_CHARACTERS, https_only, order_title
from workorders.progress import StatusCounts, WorkOrderQuery
from workorders.states import ACTIVE

PAGE_SIZE = 25
RECENT_ORDERS = 10
_COLUMNS = (
    "agent_work_order_id",
    "status",
    "current_phase",
    "workflow_type",
    "sandbox_type",
    "github_issue_number",
    "git_branch_name",
    "github_pull_request_number",
    "github_pull_request_url",
    "git_commit_count",
    "git_lines_added",
    "git_lines_removed",
    "cost_usd",
    "waiting_reason",
    "waiting_until",
    "created_at",
)


@dataclass(frozen=True)
class OrderRow:
    """A work order as one line of a list. `title` is a stranger's text; the URL is https, or ''."""

    agent_work_order_id: str
    title: str
    repository_pk: int
    repository_name: str
    status: str
    current_phase: str | None
    workflow_type: str
    sandbox_type: str
    github_issue_number: str | None
    git_branch_name: str
    github_pull_request_number: int | None
    github_pull_request_url: str
    git_commit_count: int
    git_lines_added: int
    git_lines_removed: int
    cost_usd: Decimal
    waiting_reason: str
    waiting_until: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class OrderList:
    """One page of a list; `counts` are of all orders the other filters leave, by status."""

    rows: tuple[OrderRow, ...]
    counts: StatusCounts
    number: int
    page_count: int
    total: int

    @property
    def first(self) -> int:
        return (self.number - 1) * PAGE_SIZE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1


def list_version() -> str:
    """Another text whenever a row of any list may look different; one query, cheap with any number of orders.

    Each move leaves a history row and each step's change raises its order's version; the sum also notices
    what another process commits late.
    """
    with connection.cursor() as cursor:
        cursor.execute(*_version_query(connection.vendor))
        newest = cursor.fetchone()
    return "-".join(str(part or 0) for part in newest or (0,))


@lru_cache
def _version_query(_vendor: str) -> tuple[str, tuple[Any, ...]]:
    """Compiled once, because every open page asks it every few seconds."""
    active = AgentWorkOrder.objects.filter(status__in=sorted(ACTIVE)).order_by()
    versions = active.annotate(all=Value(1)).values("all").annotate(found=Sum("version")).values("found")
    newest = WorkOrderTransition.objects.order_by("-pk").values_list("pk", Subquery(versions))[:1]
    sql, parameters = newest.query.sql_with_params()
    return sql, tuple(parameters)


def order_list(query: WorkOrderQuery, *, page_number: int = 1) -> OrderList:
    """The page nearest to the number asked for; `limit` and `offset` of the query are not used."""
    if query.q:
        counts, keys = _search(query, page_number)
    else:
        counts, keys = _counts(query), None
    total = getattr(counts, query.status) if query.status else counts.total
    page_count = max(1, -(-total // PAGE_SIZE))
    number = min(max(1, page_number), page_count)
    start = (number - 1) * PAGE_SIZE
    page = progress.matching(query)[start : start + PAGE_SIZE]
    if keys and number == page_number:  # found in the same pass as the counts
        page = progress.newest_first(AgentWorkOrder.objects.filter(pk__in=keys))
    return OrderList(_rows(page) if total else (), counts, number, page_count, total)


def _counts(query: WorkOrderQuery) -> StatusCounts:
    unfiltered = progress.matching(query.model_copy(update={"status": None}))
    by_status = unfiltered.order_by().values_list("status").annotate(number=Count("pk"))
    return StatusCounts(**dict(by_status))


def _search(query: WorkOrderQuery, page_number: int) -> tuple[StatusCounts, list[int]]:
    """The counts and the page's keys in one pass over all orders' texts, which is what a search costs."""
    found = progress.matching(query.model_copy(update={"status": None})).order_by()
    sql, parameters = found.values_list("pk", "status", "created_at").query.sql_with_params()
    of_status = "WHERE status = %s" if query.status else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH found (id, status, created_at) AS MATERIALIZED ({sql}), "  # noqa: S608  # nosec B608  # the ORM's SQL
            f"page AS (SELECT id FROM found {of_status} ORDER BY created_at DESC, id DESC LIMIT %s OFFSET %s) "
            "SELECT status, COUNT(*) FROM found GROUP BY status UNION ALL SELECT '', id FROM page",
            [
                *parameters,
                *([query.status.value] if query.status else []),
                PAGE_SIZE,
                (max(1, page_number) - 1) * PAGE_SIZE,
            ],
        )
        rows: list[tuple[str, int]] = cursor.fetchall()
    counts = StatusCounts(**{status: number for status, number in rows if status})
    return counts, [key for status, key in rows if not status]


def recent_orders(repository_pk: int) -> tuple[OrderRow, ...]:
    found = progress.matching(WorkOrderQuery(repository_pk=repository_pk))
    return _rows(found[:RECENT_ORDERS])


def _rows(found: QuerySet[AgentWorkOrder]) -> tuple[OrderRow, ...]:
    """A prompt may be long, so that only its beginning leaves the database."""
    values = found.values(
        *_COLUMNS,
        prompt=Left("initial_prompt", SCANNED_CHARACTERS),
        issue_title=Left("github_issue_title", SCANNED_CHARACTERS),
        repository_pk=F("repository_id"),
        owner=F("repository__owner"),
        name=F("repository__name"),
        known_url=F("repository__repository_url"),
    )
    rows = []
    for row in values:
        title = order_title(row.pop("issue_title"), row.pop("prompt"), row["github_issue_number"])
        owner, name, url = row.pop("owner"), row.pop("name"), row.pop("known_url")
        row["github_pull_request_url"] = https_only(row["github_pull_request_url"])
        rows.append(OrderRow(title=title, repository_name=f"{owner}/{name}" if owner else url, **row))
    return tuple(rows)
