"""Opens a branch's pull request exactly once, and finds or updates it.

GitHub allows one open pull request per head and base, but answers a repeated request with an error, and a
dropped connection says nothing; so this looks before it acts and after it fails. Writes no rows.
"""

from pydantic import BaseModel

from github_app.errors import GitHubError, GitHubNotFound, GitHubRejected, RepositoryNotFound
from github_app.gh import GhCli, understand
from github_app.references import RepositoryReference
from github_app.types import GitHubPullRequest, PullRequestState

MAX_TITLE_CHARACTERS = 256  # GitHub's own limits
MAX_BODY_CHARACTERS = 65_536
_CUT = "\n\n[… cut here: longer than GitHub accepts]"
_PREFERENCE: tuple[PullRequestState, ...] = ("open", "merged", "closed")


class _Repository(BaseModel):
    full_name: str


class _End(BaseModel):
    ref: str
    sha: str
    repo: _Repository | None = None  # none where a fork was deleted


class _PullRequestAnswer(BaseModel):
    """What GitHub says of a pull request, in a listing and alone."""

    number: int
    title: str
    html_url: str
    state: str
    merged_at: str | None = None
    draft: bool = False
    head: _End
    base: _End

    @property
    def is_from_same_repository(self) -> bool:
        head, base = self.head.repo, self.base.repo
        return head is not None and base is not None and head.full_name == base.full_name

    def value(self) -> GitHubPullRequest:
        state: PullRequestState = "merged" if self.merged_at else "open" if self.state == "open" else "closed"
        return GitHubPullRequest(
            pull_request_number=self.number,
            pull_request_title=self.title,
            pull_request_url=self.html_url,
            head_branch=self.head.ref,
            base_branch=self.base.ref,
            state=state,
            is_draft=self.draft,
            head_sha=self.head.sha,
        )


class GitHubPullRequestClient:
    """Pull requests on GitHub, from branches of the repository itself."""

    def __init__(self, gh: GhCli) -> None:
        self._gh = gh

    def find_pull_request(self, reference: RepositoryReference, head_branch: str) -> GitHubPullRequest | None:
        """The branch's pull request: the open one, else the newest merged one, else the newest closed one."""
        query = {
            "head": f"{reference.owner}:{head_branch}",
            "state": "all",
            "sort": "created",
            "direction": "desc",
        }
        found = [
            understand(_PullRequestAnswer, item) for item in self._gh.page(_path(reference), 1, query=query)
        ]
        # GitHub ignores a `head` it cannot make sense of and then lists everybody's.
        own = [
            item.value() for item in found if item.head.ref == head_branch and item.is_from_same_repository
        ]
        return min(own, key=lambda it: (_PREFERENCE.index(it.state), -it.pull_request_number), default=None)

    def ensure_pull_request(
        self,
        reference: RepositoryReference,
        *,
        head_branch: str,
        base_branch: str,
        title: str,
        body: str,
        draft: bool,
        head_sha: str = "",
    ) -> tuple[GitHubPullRequest, bool]:
        """The branch's pull request, and whether this call created it.

        A merged or closed one counts, so that what a person has dealt with does not come up again; with
        `head_sha` it counts only for that commit, so that a follow-up on the branch gets a new one. `draft`
        is dropped where the repository's plan has no drafts. Raises `GitHubError`; calling again after a
        retryable one is safe.
        """
        if found := self._adoptable(reference, head_branch, head_sha):
            return found, False
        fields = {
            "title": _title(title),
            "body": _fit(body),
            "head": head_branch,
            "base": base_branch,
            "draft": draft,
        }
        try:
            return self._create(reference, fields), True
        except GitHubError as error:
            may_exist = error.retryable or "already exists" in str(error)
            if may_exist and (found := self._adoptable(reference, head_branch, head_sha)):
                return found, False
            raise

    def update_pull_request(
        self,
        reference: RepositoryReference,
        number: int,
        *,
        title: str | None = None,
        body: str | None = None,
    ) -> GitHubPullRequest:
        """Sets what is given and leaves the rest; the same call twice changes nothing more."""
        fields: dict[str, object] = {}
        if title is not None:
            fields["title"] = _title(title)
        if body is not None:
            fields["body"] = _fit(body)
        answer = self._gh.api("PATCH", f"{_path(reference)}/{number}", fields=fields)
        return understand(_PullRequestAnswer, answer).value()

    def _adoptable(
        self, reference: RepositoryReference, branch: str, head_sha: str
    ) -> GitHubPullRequest | None:
        try:
            found = self.find_pull_request(reference, branch)
        except GitHubNotFound as error:
            raise RepositoryNotFound(f"{reference.full_name}: {error}") from error
        if found and found.state != "open" and head_sha and found.head_sha != head_sha:
            return None
        return found

    def _create(self, reference: RepositoryReference, fields: dict[str, object]) -> GitHubPullRequest:
        try:
            answer = self._gh.api("POST", _path(reference), fields=fields)
        except GitHubRejected as error:
            if not fields["draft"] or "draft" not in str(error).lower():
                raise
            answer = self._gh.api("POST", _path(reference), fields={**fields, "draft": False})
        return understand(_PullRequestAnswer, answer).value()


def _path(reference: RepositoryReference) -> str:
    return f"repos/{reference.owner}/{reference.name}/pulls"


def _title(text: str) -> str:
    """One line of an accepted length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TITLE_CHARACTERS else line[: MAX_TITLE_CHARACTERS - 1] + "…"


def _fit(text: str) -> str:
    if len(text) <= MAX_BODY_CHARACTERS:
        return text
    return text[: MAX_BODY_CHARACTERS - len(_CUT)] + _CUT
