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
from workorders.pages.naming import SCANNED_CHARACTERS, https_only, order_title, status_word
from workorders.progress import StatusCounts, WorkOrderQuery
from workorders.states import ACTIVE, AgentWorkOrderStatus

PAGE_SIZE = 25
SEARCHED_ORDERS = 2000  # a text is looked for in each row, so that older ones are read on request
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

    @property
    def word(self) -> str:
        return status_word(self.status, self.waiting_reason)


@dataclass(frozen=True)
class OrderList:
    """One page of a list; `counts` are of all orders the other filters leave, by status.

    `searched_since`: the search left out orders created before that.
    """

    rows: tuple[OrderRow, ...]
    counts: StatusCounts
    number: int
    page_count: int
    total: int
    searched_since: datetime | None = None

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


def order_list(query: WorkOrderQuery, *, page_number: int = 1, whole_search: bool = False) -> OrderList:
    """The page nearest to the number asked for; `limit` and `offset` of the query are not used.

    A search reads the newest `SEARCHED_ORDERS` that the other filters leave, a `whole_search` all of them.
    """
    searched_since = _searched_since(query) if query.q and not whole_search else None
    found = progress.matching(query.model_copy(update={"status": None}))
    if searched_since:
        found = found.filter(created_at__gte=searched_since)
    if query.q:
        counts, keys = _search(found, query.status, page_number)
    else:
        counts, keys = _counts(found), []
    total = getattr(counts, query.status) if query.status else counts.total
    page_count = max(1, -(-total // PAGE_SIZE))
    number = min(max(1, page_number), page_count)
    of_status = found.filter(status=query.status) if query.status else found
    page = AgentWorkOrder.objects.filter(pk__in=keys or _keys(of_status, number, total))
    return OrderList(_rows(progress.newest_first(page)), counts, number, page_count, total, searched_since)


def _searched_since(query: WorkOrderQuery) -> datetime | None:
    """When the oldest order that a search reads was created; None: it reads them all."""
    filtered = progress.matching(query.model_copy(update={"status": None, "q": ""}))
    times = list(filtered.values_list("created_at", flat=True)[SEARCHED_ORDERS - 1 : SEARCHED_ORDERS + 1])
    return times[0] if len(times) > 1 else None


def _counts(found: QuerySet[AgentWorkOrder]) -> StatusCounts:
    by_status = found.order_by().values_list("status").annotate(number=Count("pk"))
    return StatusCounts(**dict(by_status))


def _keys(found: QuerySet[AgentWorkOrder], number: int, total: int) -> list[int]:
    """The keys of a page out of `total` rows; the rows before it are skipped in an index, from the nearer end."""
    start = (number - 1) * PAGE_SIZE
    end = min(start + PAGE_SIZE, total)
    keys = found.values_list("pk", flat=True)
    return list(keys.reverse()[total - end : total - start] if start > total // 2 else keys[start:end])


def _search(
    found: QuerySet[AgentWorkOrder], status: AgentWorkOrderStatus | None, page_number: int
) -> tuple[StatusCounts, list[int]]:
    """The counts and the page's keys in one pass over the orders' texts, which is what a search costs."""
    columns = found.order_by().values_list("pk", "status", "created_at")
    sql, parameters = columns.query.sql_with_params()
    of_status = "WHERE status = %s" if status else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH found (id, status, created_at) AS MATERIALIZED ({sql}), "  # noqa: S608  # nosec B608  # the ORM's SQL
            f"page AS (SELECT id FROM found {of_status} ORDER BY created_at DESC, id DESC LIMIT %s OFFSET %s) "
            "SELECT status, COUNT(*) FROM found GROUP BY status UNION ALL SELECT '', id FROM page",
            [
                *parameters,
                *([status.value] if status else []),
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
