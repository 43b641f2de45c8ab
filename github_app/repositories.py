"""Whether the server's account can read a repository and push to it.

Asks GitHub through gh and answers frozen values; writes no rows, and never sees local repositories.
"""

from datetime import UTC, datetime

from pydantic import BaseModel

from github_app.errors import GitHubNotFound, PushPermissionMissing, RepositoryNotFound
from github_app.gh import GhCli, understand
from github_app.references import RepositoryReference
from github_app.types import GitHubRepository


class _Owner(BaseModel):
    login: str


class _Permissions(BaseModel):
    push: bool = False


class _RepositoryAnswer(BaseModel):
    """What GET /repos/{owner}/{repo} says that matters here."""

    name: str
    owner: _Owner
    html_url: str
    default_branch: str
    private: bool = False
    archived: bool = False
    disabled: bool = False
    permissions: _Permissions = _Permissions()  # left out for anonymous readers, who cannot push


class GitHubRepositoryClient:
    """Repositories on GitHub."""

    def __init__(self, gh: GhCli) -> None:
        self._gh = gh

    def verify_repository_access(self, reference: RepositoryReference) -> GitHubRepository:
        """The repository as GitHub shows it now; owner and name are GitHub's, also after a rename.

        Being allowed to read only is an answer, not an error: see `can_push` and `require_push`.
        Raises `GitHubError`, `RepositoryNotFound` among them.
        """
        path = f"repos/{reference.owner}/{reference.name}"
        try:
            answer = understand(_RepositoryAnswer, self._gh.api("GET", path))
        except GitHubNotFound as error:
            raise RepositoryNotFound(f"{reference.full_name}: {error}") from error
        found = RepositoryReference(reference.host, answer.owner.login, answer.name)
        obstacle, advice = _push_obstacle(found.full_name, answer)
        return GitHubRepository(
            repository_owner=found.owner,
            repository_name=found.name,
            repository_url=found.repository_url,
            default_branch=answer.default_branch,
            is_accessible=True,
            access_verified_at=datetime.now(UTC),
            can_push=not obstacle,
            push_obstacle=obstacle,
            push_advice=advice,
            is_private=answer.private,
            web_url=answer.html_url,
        )


def _push_obstacle(full_name: str, answer: _RepositoryAnswer) -> tuple[str, str]:
    """Why nothing can be pushed, and what to do about it; both empty where the account may push."""
    if answer.archived:
        return (
            f"{full_name} is archived on GitHub, so nothing can be pushed to it.",
            "Unarchive it on GitHub, then verify it again; or choose another repository.",
        )
    if answer.disabled:
        return (
            f"{full_name} is disabled on GitHub, so nothing can be pushed to it.",
            "Its owner can ask GitHub to enable it; or choose another repository.",
        )
    if not answer.permissions.push:
        return (
            f"The token's account can read {full_name} but may not push to it.",
            PushPermissionMissing.advice,
        )
    return "", ""


def require_push(repository: GitHubRepository) -> None:
    """Raises `PushPermissionMissing` with the reason and what to do where the account may not push."""
    if not repository.can_push:
        raise PushPermissionMissing(repository.push_obstacle, advice=repository.push_advice)
