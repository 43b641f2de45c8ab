"""Opens a branch's pull request exactly once, and finds or updates it.

GitHub allows one open pull request per head and base, but answers a repeated request with an error, and a
dropped connection says nothing; so this looks before it acts and after it fails. Writes no rows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel

from github_app.errors import (
    GitHubAnswerInvalid,
    GitHubError,
    GitHubNotFound,
    GitHubRejected,
    RepositoryNotFound,
    may_be_done,
)
from github_app.gh import Absent, GhCli, look_again, understand
from github_app.references import RepositoryReference
from github_app.types import GitHubPullRequest, PullRequestState

MAX_TITLE_CHARACTERS = 256  # GitHub's own limits
MAX_BODY_CHARACTERS = 65_536
_CUT = "\n\n[… cut here: longer than GitHub accepts]"
_DRAFTS_REFUSED = re.compile(r"\bdrafts?\b", re.IGNORECASE)
_PREFERENCE: tuple[PullRequestState, ...] = ("open", "merged", "closed")


class _Repository(BaseModel):
    full_name: str


class _End(BaseModel):
    ref: str
    sha: Absent[str] = ""
    repo: _Repository | None = None  # none where a fork was deleted


class _PullRequestAnswer(BaseModel):
    """What GitHub says of a pull request, in a listing and alone."""

    number: int
    title: Absent[str] = ""
    html_url: str
    state: Absent[str] = "open"
    merged_at: str | None = None
    merge_commit_sha: Absent[str] = ""  # before the merge it is GitHub's trial of one
    draft: Absent[bool] = False
    body: Absent[str] = ""
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
            merge_commit_sha=self.merge_commit_sha if state == "merged" else "",
            pull_request_body=self.body,
        )


class GitHubPullRequestClient:
    """Pull requests on GitHub, from branches of the repository itself.

    `look_again_seconds` are the pauses before each look for something that may have been done: GitHub's lists can be
    some seconds old.
    """

    def __init__(self, gh: GhCli, look_again_seconds: Sequence[float] = (0.0,)) -> None:
        self._gh = gh
        self._look_again = look_again_seconds

    def find_pull_request(
        self, reference: RepositoryReference, head_branch: str, *, head_sha: str = ""
    ) -> GitHubPullRequest | None:
        """The branch's pull request: the open one, else the newest merged one, else the newest closed one.

        With `head_sha` those do not count that were merged before that commit came, nor older ones.
        """
        query = {
            "head": f"{reference.owner}:{head_branch}",
            "state": "all",
            "sort": "created",
            "direction": "desc",
        }
        purpose = f"looking for the pull request of {head_branch} in {reference.full_name}"
        page = self._gh.page(_path(reference), 1, query=query, purpose=purpose)
        found = [understand(_PullRequestAnswer, item) for item in page]
        # GitHub ignores a `head` it cannot make sense of and then lists everybody's.
        own = [
            item.value() for item in found if item.head.ref == head_branch and item.is_from_same_repository
        ]
        past = max((it.pull_request_number for it in own if _is_past(it, head_sha)), default=0)
        own = [it for it in own if it.state == "open" or it.pull_request_number > past]
        return min(own, key=lambda it: (_PREFERENCE.index(it.state), -it.pull_request_number), default=None)

    def find_pull_request_again(
        self, reference: RepositoryReference, head_branch: str
    ) -> GitHubPullRequest | None:
        """The same with patience, for one that may have been opened a moment ago."""
        return look_again(lambda: self.find_pull_request(reference, head_branch), self._look_again)

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
        known_number: int | None = None,
        replaces: int | None = None,
        asked_before: bool = False,
        about_to_post: Callable[[], None] = lambda: None,
    ) -> tuple[GitHubPullRequest, bool]:
        """The branch's pull request, and whether this call created it.

        A merged or closed one counts, so that what a person has dealt with does not come up again; with
        `head_sha` a merged one counts only for that commit, so that a follow-up on the branch gets a new one.
        `known_number`: the one seen earlier. `replaces`: the number of a closed one that does not count.
        `asked_before`: an earlier request's answer was lost, so that it is looked for more than once.
        `about_to_post` is called just before the request that creates it, and may raise.
        `draft` is dropped where the repository's plan has no drafts. Raises `GitHubError`; calling again after
        a retryable one is safe.
        """

        def look() -> GitHubPullRequest | None:
            found = self._adoptable(reference, head_branch, head_sha, known_number)
            return None if found is None or found.pull_request_number == replaces else found

        if found := look_again(look, self._look_again) if asked_before else look():
            return found, False
        fields = {
            "title": _title(title),
            "body": _fit(body),
            "head": head_branch,
            "base": base_branch,
            "draft": draft,
        }
        about_to_post()
        try:
            return self._create(reference, fields), True
        except GitHubError as error:
            if (may_be_done(error) or "already exists" in str(error)) and (
                found := look_again(look, self._look_again)
            ):
                return found, False
            raise

    def update_pull_request(
        self,
        reference: RepositoryReference,
        number: int,
        *,
        title: str | None = None,
        body: str | None = None,
        state: Literal["open", "closed"] | None = None,
    ) -> GitHubPullRequest:
        """Sets what is given and leaves the rest; the same call twice changes nothing more."""
        fields: dict[str, object] = {}
        if title is not None:
            fields["title"] = _title(title)
        if body is not None:
            fields["body"] = _fit(body)
        if state is not None:
            fields["state"] = state
        doing = {"open": "reopening", "closed": "closing"}.get(state or "", "updating")
        purpose = f"{doing} pull request #{number} of {reference.full_name}"
        answer = self._gh.api("PATCH", f"{_path(reference)}/{number}", fields=fields, purpose=purpose)
        updated = understand(_PullRequestAnswer, answer).value()
        if state is not None and (updated.state == "open") != (state == "open"):
            raise GitHubAnswerInvalid(
                f"GitHub answered, but the pull request is still {updated.state} ({purpose})."
            )
        return updated

    def read_pull_request(self, reference: RepositoryReference, number: int) -> GitHubPullRequest | None:
        """None where GitHub shows no such one."""
        try:
            purpose = f"reading pull request #{number} of {reference.full_name}"
            answer = self._gh.api("GET", f"{_path(reference)}/{number}", purpose=purpose)
        except GitHubNotFound:
            return None
        return understand(_PullRequestAnswer, answer).value()

    def _adoptable(
        self, reference: RepositoryReference, branch: str, head_sha: str, known_number: int | None
    ) -> GitHubPullRequest | None:
        found = self.read_pull_request(reference, known_number) if known_number else None
        if found is None or found.head_branch != branch or _is_past(found, head_sha):
            try:
                found = self.find_pull_request(reference, branch, head_sha=head_sha)
            except GitHubNotFound as error:
                raise RepositoryNotFound(f"{reference.full_name}: {error}") from error
        return None if found is None or _is_past(found, head_sha) else found

    def _create(self, reference: RepositoryReference, fields: dict[str, object]) -> GitHubPullRequest:
        kind = "draft pull request" if fields["draft"] else "pull request"
        purpose = f"opening a {kind} from {fields['head']} into {fields['base']} of {reference.full_name}"
        try:
            answer = self._gh.api("POST", _path(reference), fields=fields, purpose=purpose)
        except GitHubRejected as error:
            if not fields["draft"] or not _DRAFTS_REFUSED.search(str(error).removesuffix(f"({purpose}).")):
                raise
            return self._create(reference, {**fields, "draft": False})
        return understand(_PullRequestAnswer, answer).value()


def _is_past(found: GitHubPullRequest, head_sha: str) -> bool:
    """Merged before the commit came; it takes no more."""
    return found.state == "merged" and bool(head_sha) and found.head_sha != head_sha


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
