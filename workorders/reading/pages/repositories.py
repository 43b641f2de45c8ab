"""Repositories as pages show them, and the open issues to pick from."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from github_app.models import OpenIssue, Repository
from github_app.references import PastedLink
from workorders.domain.errors import InvalidInput
from workorders.repositories.pasted import parse_pasted
from workorders.repositories.questions import is_under_way
from workorders.repositories.rows import same_repository

_ISSUES_FRESH = timedelta(minutes=10)


@dataclass(frozen=True)
class RepositoryChoice:
    pk: int
    name: str
    url: str


@dataclass(frozen=True)
class RepositoryState:
    """A connected repository; `error` and names are for showing. `word` is one of the keys of its looks.

    `pending`: a worker was asked. `late`: and has not answered in time. `unanswered`: GitHub did not answer the last
    check, so that the rest is what was known before.
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
    unanswered: bool = False

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

    @property
    def is_stale(self) -> bool:
        """Worth asking for again, unasked: never fetched, or long ago. A failure is left to a person."""
        if self.word == "unknown":
            return True
        fresh_since = timezone.now() - _ISSUES_FRESH
        return self.word == "ready" and self.fetched_at is not None and self.fetched_at < fresh_since


def repository_choices() -> tuple[RepositoryChoice, ...]:
    rows = Repository.objects.filter(replaced_at__isnull=True).only("owner", "name", "repository_url")
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
        unanswered=row.verification_unanswered,
    )


def repository_named(text: str) -> tuple[Repository | None, PastedLink | None]:
    """The known repository a link names by key, URL or `owner/name`; else what it names, where it names one."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return Repository.objects.filter(pk=int(text)).first(), None
    try:
        link = parse_pasted(text)
    except InvalidInput:
        return None, None
    return Repository.objects.filter(**same_repository(link.repository)).first(), link


def open_issues(row: Repository) -> OpenIssues:
    found = OpenIssue.objects.filter(repository=row)
    issues = tuple(IssueChoice(issue.number, issue.title, tuple(issue.labels)) for issue in found)
    return OpenIssues(row.pk, _issues_word(row), row.issues_error, row.issues_fetched_at, issues)


def _state_word(row: Repository) -> str:
    if row.verification_requested_at is not None:
        return _waiting_word(row.verification_requested_at)
    if row.is_accessible and row.can_push:
        return "ready"
    if row.is_accessible:
        return "read_only"
    if row.verification_unanswered and row.access_verified_at is None:
        return "unverified"
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
    return "pending" if is_under_way(requested_at) else "late"
