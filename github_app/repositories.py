"""Whether the server's account can read a repository and push to it.

Asks GitHub through gh and answers frozen values; writes no rows, and never sees local repositories.
"""

from datetime import UTC, datetime

from pydantic import BaseModel

from github_app.errors import (
    GitHubMoved,
    GitHubNotFound,
    PushPermissionMissing,
    RepositoryNotFound,
    RepositoryReplaced,
)
from github_app.gh import Absent, GhCli, understand
from github_app.references import RepositoryReference
from github_app.types import GitHubRepository


class _Owner(BaseModel):
    login: str


class _Permissions(BaseModel):
    push: Absent[bool] = False


class _RepositoryAnswer(BaseModel):
    """What GET /repos/{owner}/{repo} says that matters here."""

    id: Absent[int | None] = None
    name: str
    owner: _Owner
    html_url: Absent[str] = ""
    default_branch: Absent[str] = ""
    private: Absent[bool] = False
    archived: Absent[bool] = False
    disabled: Absent[bool] = False
    permissions: Absent[_Permissions] = _Permissions()  # left out for anonymous readers, who cannot push


class GitHubRepositoryClient:
    """Repositories on GitHub."""

    def __init__(self, gh: GhCli) -> None:
        self._gh = gh

    def verify_repository_access(
        self, reference: RepositoryReference, *, github_id: int | None = None, name_is_lost: bool = False
    ) -> GitHubRepository:
        """The repository as GitHub shows it now; owner and name are GitHub's, also after a rename.

        With `github_id` it is the one of that id, wherever it is by now, and never another one that took its name;
        `name_is_lost`: another is known to have done so. Being allowed to read only is an answer, not an error: see
        `can_push` and `require_push`. Raises `GitHubError`, `RepositoryNotFound` and `RepositoryReplaced` among them.
        """
        if name_is_lost and github_id is not None:
            return self._by_id(reference, github_id, f"The name {reference.full_name}")
        path = f"repos/{reference.owner}/{reference.name}"
        try:
            answer = self._read(path, f"looking at {reference.full_name}")
        except (GitHubNotFound, GitHubMoved) as error:
            if github_id is None:
                if isinstance(error, GitHubMoved):
                    raise
                raise RepositoryNotFound(f"{reference.full_name}: {error}") from error
            try:
                return self._understood(reference, self._read(_path_of(github_id), _purpose(reference)))
            except (GitHubNotFound, GitHubMoved):
                raise RepositoryNotFound(f"{reference.full_name}: {error}") from error
        if github_id is not None and answer.id is not None and answer.id != github_id:
            return self._by_id(reference, github_id, f"{reference.full_name} (now GitHub's id {answer.id})")
        return self._understood(reference, answer)

    def _by_id(self, reference: RepositoryReference, github_id: int, what: str) -> GitHubRepository:
        try:
            return self._understood(reference, self._read(_path_of(github_id), _purpose(reference)))
        except (GitHubNotFound, GitHubMoved) as error:
            raise RepositoryReplaced(
                f"{what} belongs to another repository on GitHub now than the one of this work order (id {github_id}), "
                "which GitHub does not show to this account: deleted, or moved to where the account may not look. "
                "Nothing of the order goes to the other one."
            ) from error

    def _read(self, path: str, purpose: str) -> _RepositoryAnswer:
        return understand(_RepositoryAnswer, self._gh.api("GET", path, purpose=purpose))

    def _understood(self, reference: RepositoryReference, answer: _RepositoryAnswer) -> GitHubRepository:
        found = RepositoryReference(reference.host, answer.owner.login, answer.name)
        obstacle, advice = _push_obstacle(found.full_name, answer)
        return GitHubRepository(
            github_id=answer.id,
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


def _path_of(github_id: int) -> str:
    return f"repositories/{github_id}"


def _purpose(reference: RepositoryReference) -> str:
    return f"looking where {reference.full_name} is now"


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
