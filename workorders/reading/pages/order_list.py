"""Lists of work orders: rows, counts by status, and the version that says whether any of it changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from django.db import connection
from django.db.models import Count, Exists, F, OuterRef, Prefetch, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Left

from workorders.domain.states import ACTIVE, PROMPT_TO_DO, ShownState
from workorders.models import AgentPrompt, AgentWorkOrder, PhaseRun, WorkOrderTransition
from workorders.models.clock import as_stored
from workorders.models.shown_state import HELD_SQL, clock, in_state, shown_state, state_column
from workorders.reading import progress
from workorders.reading.next_step import next_step
from workorders.reading.pages.naming import SCANNED_CHARACTERS, https_only, order_title, step_title
from workorders.reading.progress import WorkOrderQuery
from workorders.reading.tested import TestsView, tests_of

PAGE_SIZE = 25
SEARCHED_ORDERS = 2000  # a text is looked for in each row, so that older ones are read on request
RECENT_ORDERS = 10
_ACTIVE_STATES = (ShownState.QUEUED, ShownState.RUNNING, ShownState.WAITING)
_ENDED_STATES = (ShownState.COMPLETED, ShownState.FAILED, ShownState.CANCELLED)
_COLUMNS = (
    "agent_work_order_id",
    "status",
    "outcome",
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
    "claim_owner",
    "lease_expires_at",
    "claimable_at",
    "head_sha",
    "tested_sha",
    "created_at",
)
_QUEUE_COLUMNS = ("pk", "workflow_type", "head_sha", "tested_sha", "approval_sha", "kept_sha")
_RUN_COLUMNS = (
    "agent_work_order_id",
    "sequence",
    "kind",
    "phase",
    "status",
    "start_sha",
    "planned_sha",
    "end_sha",
    "error_category",
)


@dataclass(frozen=True)
class OrderRow:
    """A work order as one line of a list. `title` is a stranger's text; the URL is https, or ''.

    `next`: what a worker is to do, where the order is queued. `tests`: only where they are not of what is there now.
    """

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
    state: ShownState
    claimable_at: datetime | None = None
    next: str = ""
    stale_tests: TestsView | None = None

    @property
    def word(self) -> str:
        return self.state.value

    @property
    def put_off_until(self) -> datetime | None:
        """When a step that failed is tried again."""
        waits = self.state is ShownState.WAITING and not self.waiting_reason
        return self.claimable_at if waits else None


@dataclass(frozen=True)
class StateCounts:
    """Orders by what people are told of them."""

    by_state: Mapping[ShownState, int]

    def __getitem__(self, state: str) -> int:
        return self.by_state.get(ShownState(state), 0)

    @property
    def total(self) -> int:
        return sum(self.by_state.values())

    @property
    def running(self) -> int:
        return self["running"]

    @property
    def is_active(self) -> bool:
        return any(self[state] for state in ("queued", "running", "waiting"))

    @property
    def tabs(self) -> tuple[tuple[str, str, int], ...]:
        """Value, name and number of each."""
        return tuple(
            (state.value, state.value.replace("_", " ").capitalize(), self[state]) for state in ShownState
        )


@dataclass(frozen=True)
class OrderList:
    """One page of a list; `counts` are of all orders the other filters leave, by state.

    `searched_since`: the search left out orders created before that.
    """

    rows: tuple[OrderRow, ...]
    counts: StateCounts
    number: int
    page_count: int
    total: int
    searched_since: datetime | None = None
    no_worker: bool = False

    @property
    def first(self) -> int:
        return (self.number - 1) * PAGE_SIZE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1


def list_version() -> str:
    """Another text whenever a row of any list may look different; one query, cheap with any number of orders.

    Each move leaves a history row and each step's change raises its order's version; the sum also notices
    what another process commits late. While orders are active it is looked how many leases hold and whether anybody
    works: a worker that dies changes no row.
    """
    newest, parameters = _newest_query(connection.vendor)
    any_worker, since = progress.live_worker_in_sql()
    held = f"SELECT COUNT(*) FROM {AgentWorkOrder._meta.db_table} WHERE status IN (%s, %s) AND {HELD_SQL}"  # noqa: S608  # nosec B608  # names from the code only
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT newest.*, ({held}), {any_worker} FROM ({newest}) newest",  # noqa: S608  # nosec B608  # as above
            [*sorted(ACTIVE), as_stored(clock()), since, *parameters],
        )
        found = cursor.fetchone()
    if found is None:
        return "0"
    *parts, active, leases, is_served = found
    return "-".join(map(str, [*parts, active, leases, bool(is_served)] if active else [*parts, 0]))


@lru_cache
def _newest_query(_vendor: str) -> tuple[str, tuple[Any, ...]]:
    """The newest move and the active orders' versions together; compiled once, as every open page asks for it."""
    active = AgentWorkOrder.objects.filter(status__in=sorted(ACTIVE)).order_by()
    versions = active.annotate(all=Value(1)).values("all").annotate(found=Sum("version")).values("found")
    newest = WorkOrderTransition.objects.order_by("-pk").values_list("pk", Subquery(versions))[:1]
    sql, parameters = newest.query.sql_with_params()
    return sql, tuple(parameters)


def order_list(
    query: WorkOrderQuery,
    *,
    state: ShownState | None = None,
    page_number: int = 1,
    whole_search: bool = False,
) -> OrderList:
    """The page nearest to the number asked for; `status`, `limit` and `offset` of the query are not used.

    A search reads the newest `SEARCHED_ORDERS` that the other filters leave, a `whole_search` all of them.
    """
    now = clock()
    searched_since = _searched_since(query) if query.q and not whole_search else None
    found = progress.matching(query.model_copy(update={"status": None}))
    if searched_since:
        found = found.filter(created_at__gte=searched_since)
    if query.q:
        counts, keys = _search(found, state, page_number, now)
    else:
        counts, keys = _counts(found, now), []
    total = counts[state] if state else counts.total
    page_count = max(1, -(-total // PAGE_SIZE))
    number = min(max(1, page_number), page_count)
    of_state = found.filter(in_state(state, now)) if state else found
    page = AgentWorkOrder.objects.filter(pk__in=keys or _keys(of_state, number, total))
    rows = _rows(progress.newest_first(page))
    no_worker = counts.is_active and not progress.live_workers()
    return OrderList(rows, counts, number, page_count, total, searched_since, no_worker)


def _searched_since(query: WorkOrderQuery) -> datetime | None:
    """When the oldest order that a search reads was created; None: it reads them all."""
    filtered = progress.matching(query.model_copy(update={"status": None, "q": ""}))
    times = list(filtered.values_list("created_at", flat=True)[SEARCHED_ORDERS - 1 : SEARCHED_ORDERS + 1])
    return times[0] if len(times) > 1 else None


def _counts(found: QuerySet[AgentWorkOrder], now: datetime) -> StateCounts:
    """Each from an index: by status, then the few active ones apart, and those whose tests failed."""
    rows = found.order_by()
    by_status = dict(rows.values_list("status").annotate(number=Count("pk")))
    active = {state: Count("pk", filter=in_state(state, now)) for state in _ACTIVE_STATES}
    numbers = rows.filter(status__in=sorted(ACTIVE)).aggregate(**active)
    failed = rows.filter(in_state(ShownState.TESTS_FAILED)).count()
    counts = {state: numbers[state] for state in _ACTIVE_STATES}
    counts |= {state: by_status.get(state.value, 0) for state in _ENDED_STATES}
    counts[ShownState.TESTS_FAILED] = failed
    counts[ShownState.COMPLETED] -= failed
    return StateCounts({state: counts[state] for state in ShownState})


def _keys(found: QuerySet[AgentWorkOrder], number: int, total: int) -> list[int]:
    """The keys of a page out of `total` rows; the rows before it are skipped in an index, from the nearer end."""
    start = (number - 1) * PAGE_SIZE
    end = min(start + PAGE_SIZE, total)
    keys = found.values_list("pk", flat=True)
    return list(keys.reverse()[total - end : total - start] if start > total // 2 else keys[start:end])


def _search(
    found: QuerySet[AgentWorkOrder], state: ShownState | None, page_number: int, now: datetime
) -> tuple[StateCounts, list[int]]:
    """The counts and the page's keys in one pass over the orders' texts, which is what a search costs."""
    columns = found.order_by().annotate(state=state_column(now)).values_list("pk", "state", "created_at")
    sql, parameters = columns.query.sql_with_params()
    of_state = "WHERE state = %s" if state else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH found (id, state, created_at) AS MATERIALIZED ({sql}), "  # noqa: S608  # nosec B608  # the ORM's SQL
            f"page AS (SELECT id FROM found {of_state} ORDER BY created_at DESC, id DESC LIMIT %s OFFSET %s) "
            "SELECT state, COUNT(*) FROM found GROUP BY state UNION ALL SELECT '', id FROM page",
            [
                *parameters,
                *([state.value] if state else []),
                PAGE_SIZE,
                (max(1, page_number) - 1) * PAGE_SIZE,
            ],
        )
        rows: list[tuple[str, int]] = cursor.fetchall()
    numbers = {ShownState(state): number for state, number in rows if state}
    counts = StateCounts({state: numbers.get(state, 0) for state in ShownState})
    return counts, [key for state, key in rows if not state]


def recent_orders(repository_pk: int) -> tuple[OrderRow, ...]:
    found = progress.matching(WorkOrderQuery(repository_pk=repository_pk))
    return _rows(found[:RECENT_ORDERS])


def _rows(found: QuerySet[AgentWorkOrder]) -> tuple[OrderRow, ...]:
    """A prompt may be long, so that only its beginning leaves the database."""
    values = found.values(
        "pk",
        *_COLUMNS,
        prompt=Left("initial_prompt", SCANNED_CHARACTERS),
        issue_title=Left("github_issue_title", SCANNED_CHARACTERS),
        repository_pk=F("repository_id"),
        owner=F("repository__owner"),
        name=F("repository__name"),
        known_url=F("repository__repository_url"),
    )
    now = clock()
    found_rows = list(values)
    stale = _stale_tests(found_rows)
    states = {row["pk"]: shown_state(SimpleNamespace(**row), now) for row in found_rows}
    coming = _next_steps([pk for pk, state in states.items() if state is ShownState.QUEUED])
    rows = []
    for row in found_rows:
        title = order_title(row.pop("issue_title"), row.pop("prompt"), row["github_issue_number"])
        owner, name, url = row.pop("owner"), row.pop("name"), row.pop("known_url")
        row["github_pull_request_url"] = https_only(row["github_pull_request_url"])
        for hidden in ("outcome", "claim_owner", "lease_expires_at", "head_sha", "tested_sha"):
            del row[hidden]
        pk = row.pop("pk")
        rows.append(
            OrderRow(
                title=title,
                repository_name=f"{owner}/{name}" if owner else url,
                state=states[pk],
                next=coming.get(pk, ""),
                stale_tests=stale.get(pk),
                **row,
            )
        )
    return tuple(rows)


def _stale_tests(rows: Sequence[Mapping[str, Any]]) -> dict[int, TestsView]:
    found = tests_of([SimpleNamespace(**row) for row in rows])
    return {pk: tests for pk, tests in found.items() if not tests.is_current}


def _next_steps(queued: Sequence[int]) -> dict[int, str]:
    """What comes next for each of these orders."""
    if not queued:
        return {}
    runs = PhaseRun.objects.order_by("sequence").only(*_RUN_COLUMNS)
    prompts = AgentPrompt.objects.filter(agent_work_order=OuterRef("pk"), status__in=sorted(PROMPT_TO_DO))
    orders = (
        AgentWorkOrder.objects.filter(pk__in=queued)
        .order_by()
        .annotate(is_asked=Exists(prompts), host=F("repository__host"))
        .only(*_QUEUE_COLUMNS)
        .prefetch_related(Prefetch("phase_runs", runs))
    )
    found = {}
    for order in orders:
        step = next_step(order, list(order.phase_runs.all()), is_asked=order.is_asked)
        found[order.pk] = step_title(step.kind, step.phase, order.workflow_type, is_local=not order.host)
    return found
