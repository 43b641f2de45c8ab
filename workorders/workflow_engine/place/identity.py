"""Which repository on GitHub an order works on: the one of its id, under whatever name it has by now.

Asked when a step begins, before the order's first push, before its delivery, and after a failure that a rename would
explain. Where the row followed to another name, the step is put back, uncounted, and goes on with the rows as they
are then. Nothing goes to another repository that took the name.
"""

from github_app.errors import (
    GitHubAccessDenied,
    GitHubAnswerInvalid,
    GitHubMoved,
    GitHubNotFound,
    GitHubRejected,
    IssueMoved,
    RepositoryReplaced,
)
from github_app.references import RepositoryReference
from github_app.repositories import require_push
from github_app.types import GitHubRepository
from sandboxes.errors import (
    BaseBranchMissing,
    ExpectedError,
    PushRejected,
    RemoteAccessDenied,
    RemoteNotFound,
    RepositoryEmpty,
)
from workorders.workflow_engine.claims.control import StepPutBack
from workorders.workflow_engine.record.claimed_step import ClaimedStep

# What a wrong name may look like, on GitHub's side and on git's.
_MAYBE_MOVED = (
    GitHubMoved,
    GitHubNotFound,
    GitHubRejected,
    GitHubAccessDenied,
    GitHubAnswerInvalid,
    IssueMoved,
    RemoteNotFound,
    RemoteAccessDenied,
    PushRejected,
    BaseBranchMissing,
    RepositoryEmpty,
)


class RepositoryIdentity:
    """The repository of one claimed step. A local folder is what its path says."""

    def __init__(self, step: ClaimedStep) -> None:
        self._step = step
        self._row = step.plan.repository

    @property
    def _reference(self) -> RepositoryReference:
        return self._step.parts.parse_reference(self._row.repository_url)

    def verify(self) -> None:
        """May we push to it? Raises `GitHubError`s, and `StepPutBack` where it has another name."""
        found = self._look()
        self._step.log.info("github_repository_verified", is_accessible=True, can_push=found.can_push)
        self._keep(found)
        require_push(found)

    def require_same(self) -> None:
        """It still has the name under which something is about to go to it. Raises as `verify`."""
        if self._row.is_local:
            return
        found = self._look()
        if not (self._has_its_name(found) and found.github_id in {None, self._row.github_id}):
            self._keep(found)

    def follow(self, error: ExpectedError) -> None:
        """After a failure: raises `StepPutBack` where the repository has another name, or `RepositoryReplaced`.

        Raises `GitHubAnswerInvalid` in place of a redirect where GitHub then says that nothing has moved.
        """
        if self._row.is_local or not isinstance(error, _MAYBE_MOVED):
            return
        try:
            self.require_same()
        except RepositoryReplaced:
            raise
        except ExpectedError as trouble:  # the failure itself is what a person is told
            self._step.log.warning("github_repository_unverified", error=str(trouble))
            return
        if isinstance(error, GitHubMoved):
            raise GitHubAnswerInvalid(
                f"{error} Asked again, it says that {self._row.full_name} is where it was."
            )

    def _look(self) -> GitHubRepository:
        try:
            return self._step.parts.repositories.verify_repository_access(
                self._reference,
                github_id=self._row.github_id,
                name_is_lost=self._row.replaced_at is not None,
            )
        except RepositoryReplaced:
            self._step.journal.lose_repository_name(self._row.pk)
            raise

    def _has_its_name(self, found: GitHubRepository) -> bool:
        name = f"{found.repository_owner}/{found.repository_name}"
        return name.lower() == self._row.full_name.lower() and self._row.replaced_at is None

    def _keep(self, found: GitHubRepository) -> None:
        pk = self._step.journal.record_repository(self._reference, found)
        if pk == self._row.pk and self._has_its_name(found):
            self._row.github_id = found.github_id or self._row.github_id
            return
        before, now = self._row.full_name, f"{found.repository_owner}/{found.repository_name}"
        self._step.log.warning("github_repository_renamed", renamed_from=before, renamed_to=now)
        raise StepPutBack(f"{before} is {now} on GitHub now; the step goes on there.")
