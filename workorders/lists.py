"""The read model of the list, new-order and repository pages: frozen values, a constant number of queries.

Asks only the database; must not know HTTP or templates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.db import connection
from django.db.models import Count, F, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Left

from github_app.models import OpenIssue, Repository
from github_app.references import RepositoryReference
from sandboxes.kinds import UNAVAILABLE, SandboxType
from workorders import progress, services
from workorders.errors import InvalidInput
from workorders.models import AgentWorkOrder, WorkOrderTransition
from workorders.progress import StatusCounts, WorkOrderQuery
from workorders.states import ACTIVE
from workorders.workflow_definitions import WORKFLOWS, AgentWorkflowPhase, AgentWorkflowType

PAGE_SIZE = 25
RECENT_ORDERS = 10
_TITLE_CHARACTERS = 300
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
    "created_at",
)


@dataclass(frozen=True)
class OrderRow:
    """A work order as one line of a list. `title` is a stranger's text."""

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
    github_pull_request_url: str | None
    git_commit_count: int
    git_lines_added: int
    git_lines_removed: int
    cost_usd: Decimal
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


@dataclass(frozen=True)
class RepositoryChoice:
    pk: int
    name: str
    url: str


@dataclass(frozen=True)
class RepositoryState:
    """A connected repository; `error` and names are for showing. `word` is one of the keys of its looks.

    `pending`: a worker was asked. `late`: and has not answered in time.
    """

    pk: int
    name: str
    url: str
    is_local: bool
    word: str
    default_branch: str
    can_push: bool
    is_private: bool
    verified_at: datetime | None
    error: str

    @property
    def is_waiting(self) -> bool:
        return self.word in {"pending", "late"}


@dataclass(frozen=True)
class IssueChoice:
    number: int
    title: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class OpenIssues:
    """What can be picked; `word` is `ready`, `pending`, `late`, `failed`, `unknown` or `none` (a local folder)."""

    repository_pk: int
    word: str
    error: str
    fetched_at: datetime | None
    issues: tuple[IssueChoice, ...]

    @property
    def is_waiting(self) -> bool:
        return self.word in {"pending", "late"}


@dataclass(frozen=True)
class SandboxCard:
    value: str
    name: str
    description: str
    tag: str
    icon: str
    missing_setting: str


@dataclass(frozen=True)
class PhaseChip:
    name: str
    icon: str


@dataclass(frozen=True)
class WorkflowCard:
    value: str
    name: str
    description: str
    phases: tuple[PhaseChip, ...]


_SANDBOXES = {
    SandboxType.GIT_BRANCH: (
        "Git branch",
        "A private clone on its own branch. Simple and fast.",
        "Recommended",
        "git-branch",
    ),
    SandboxType.GIT_WORKTREE: (
        "Git worktree",
        "A worktree of a shared clone. Cheapest for many orders at once.",
        "Parallel-safe",
        "stack-2",
    ),
    SandboxType.E2B: ("E2B", "A cloud sandbox, fully isolated from this server.", "Cloud", "cloud"),
    SandboxType.DAGGER: ("Dagger", "A container, reproducible on any machine.", "Container", "box"),
}
_CHIPS = {
    AgentWorkflowPhase.PLANNING: PhaseChip("Plan", "map"),
    AgentWorkflowPhase.IMPLEMENTING: PhaseChip("Build", "hammer"),
    AgentWorkflowPhase.TESTING: PhaseChip("Test", "test-pipe"),
}
_WORKFLOW_NOTES = {
    AgentWorkflowType.PLAN: "A written plan to review, and no code.",
    AgentWorkflowType.BUILD: "The change itself, without a plan first.",
    AgentWorkflowType.TEST: "Runs the tests and records their results.",
    AgentWorkflowType.PLAN_BUILD: "A plan, then the change that follows it.",
    AgentWorkflowType.PLAN_BUILD_TEST: "Plan, change and test results: a whole pull request.",
}


def sandbox_cards() -> tuple[SandboxCard, ...]:
    """All four; `missing_setting` names what keeps one from being chosen."""
    return tuple(
        SandboxCard(kind.value, *_SANDBOXES[kind], missing_setting=UNAVAILABLE.get(kind, ""))
        for kind in SandboxType
    )


def workflow_cards() -> tuple[WorkflowCard, ...]:
    """The longest first: it is the whole job."""
    cards = []
    for kind, steps in sorted(WORKFLOWS.items(), key=lambda item: -len(item[1])):
        chips = tuple(_CHIPS[step.phase] for step in steps)
        cards.append(
            WorkflowCard(kind.value, " + ".join(chip.name for chip in chips), _WORKFLOW_NOTES[kind], chips)
        )
    return tuple(cards)


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
    unfiltered = progress.matching(query.model_copy(update={"status": None}))
    by_status = unfiltered.order_by().values_list("status").annotate(number=Count("pk"))
    counts = StatusCounts(**dict(by_status))
    total = getattr(counts, query.status) if query.status else counts.total
    page_count = max(1, -(-total // PAGE_SIZE))
    number = min(max(1, page_number), page_count)
    start = (number - 1) * PAGE_SIZE
    rows = _rows(progress.matching(query)[start : start + PAGE_SIZE]) if total else ()
    return OrderList(rows=rows, counts=counts, number=number, page_count=page_count, total=total)


def recent_orders(repository_pk: int) -> tuple[OrderRow, ...]:
    found = progress.matching(WorkOrderQuery(repository_pk=repository_pk))
    return _rows(found[:RECENT_ORDERS])


def repository_choices() -> tuple[RepositoryChoice, ...]:
    rows = Repository.objects.only("owner", "name", "repository_url")
    return tuple(RepositoryChoice(row.pk, row.full_name, row.repository_url) for row in rows)


def repository_states() -> tuple[RepositoryState, ...]:
    return tuple(repository_state(row) for row in Repository.objects.all())


def repository_state(row: Repository) -> RepositoryState:
    return RepositoryState(
        pk=row.pk,
        name=row.full_name,
        url="" if row.is_local else row.repository_url,
        is_local=row.is_local,
        word=_state_word(row),
        default_branch=row.default_branch,
        can_push=row.can_push,
        is_private=row.is_private,
        verified_at=row.access_verified_at,
        error=row.verification_error,
    )


def repository_named(text: str) -> tuple[Repository | None, RepositoryReference | None]:
    """The known repository a link names by key, URL or `owner/name`; else the reference, where it is one."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return Repository.objects.filter(pk=int(text)).first(), None
    try:
        reference = services.parse_repository(text)
    except InvalidInput:
        return None, None
    return Repository.objects.filter(**services.same_repository(reference)).first(), reference


def open_issues(row: Repository) -> OpenIssues:
    found = OpenIssue.objects.filter(repository=row)
    issues = tuple(IssueChoice(issue.number, issue.title, tuple(issue.labels)) for issue in found)
    return OpenIssues(row.pk, _issues_word(row), row.issues_error, row.issues_fetched_at, issues)


def _rows(found: QuerySet[AgentWorkOrder]) -> tuple[OrderRow, ...]:
    """A prompt may be long, so that only its beginning leaves the database."""
    values = found.values(
        *_COLUMNS,
        prompt=Left("initial_prompt", _TITLE_CHARACTERS),
        issue_title=Left("github_issue_title", _TITLE_CHARACTERS),
        repository_pk=F("repository_id"),
        owner=F("repository__owner"),
        name=F("repository__name"),
        known_url=F("repository__repository_url"),
    )
    rows = []
    for row in values:
        title = _title(row.pop("prompt"), row.pop("issue_title"), row["github_issue_number"])
        owner, name, url = row.pop("owner"), row.pop("name"), row.pop("known_url")
        rows.append(OrderRow(title=title, repository_name=f"{owner}/{name}" if owner else url, **row))
    return tuple(rows)


def _title(prompt: str, issue_title: str, issue_number: str | None) -> str:
    lines: Iterable[str] = (line.strip() for line in f"{prompt}\n{issue_title}".splitlines())
    fallback = f"Issue #{issue_number}" if issue_number else "No request text"
    return next((line for line in lines if line), fallback)


def _state_word(row: Repository) -> str:
    if row.verification_requested_at is not None:
        return _waiting_word(row.verification_requested_at)
    if row.is_accessible and row.can_push:
        return "ready"
    if row.is_accessible:
        return "read_only"
    return "failed" if row.verification_error else "unverified"


def _issues_word(row: Repository) -> str:
    if row.is_local:
        return "none"
    if row.issues_requested_at is not None:
        return _waiting_word(row.issues_requested_at)
    if row.issues_error:
        return "failed"
    return "ready" if row.issues_fetched_at else "unknown"


def _waiting_word(requested_at: datetime) -> str:
    return "pending" if services.is_under_way(requested_at) else "late"
