"""Repository verification: the one place where a request waits for GitHub, within the wiring's time-out.

The question is asked outside any transaction, so that a slow GitHub never holds a lock.
"""

from dataclasses import dataclass

from github_app.models import Repository
from github_app.references import RepositoryReference
from github_app.types import GitHubRepository
from workorders import wiring
from workorders.api.schemas import GitHubRepositoryVerificationResponse, VerifiedRepository
from workorders.services import work_orders as services


@dataclass(frozen=True)
class Finding:
    """What GitHub said; `error_message` is empty where orders can work on the repository."""

    reference: RepositoryReference
    found: GitHubRepository | None
    error_message: str
    unanswered: bool = False

    def record(self) -> Repository:
        return services.record_repository_verification(
            self.reference,
            found=self.found,
            error_message=self.error_message,
            unanswered=self.unanswered,
        )


def ask(reference: RepositoryReference) -> Finding:
    return Finding(reference, *wiring.examine_repository(reference.repository_url))


def verify(reference: RepositoryReference) -> tuple[Repository, str]:
    """The repository's row as it now is, and what to do where it cannot be worked on (else empty)."""
    finding = ask(reference)
    return finding.record(), finding.error_message


def shown(
    row: Repository, *, repository_url: str, error_message: str
) -> GitHubRepositoryVerificationResponse:
    return GitHubRepositoryVerificationResponse(
        repository=VerifiedRepository(
            repository_owner=row.owner,
            repository_name=row.name,
            repository_url=repository_url or row.repository_url,
            default_branch=row.default_branch or "main",
            is_accessible=row.is_accessible,
            access_verified_at=row.access_verified_at,
            can_push=row.can_push,
            is_private=row.is_private,
        ),
        verification_success=not error_message,
        error_message=error_message or None,
    )
