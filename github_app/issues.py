"""Reads issues, and comments on one exactly once.

GitHub has no idempotency key, so a comment carries an invisible marker, is looked for before it is posted and
again after a failure that may have come too late. Writes no rows.
"""

import re
from collections.abc import Callable, Sequence

from pydantic import BaseModel

from github_app.errors import (
    GitHubError,
    GitHubNotFound,
    IssueIsPullRequest,
    IssueMoved,
    IssueNotFound,
    may_be_done,
)
from github_app.gh import PER_PAGE, Absent, GhCli, look_again, understand
from github_app.references import RepositoryReference
from github_app.types import GitHubIssue

# GitHub's 65,536 characters, up to three bytes each, so that no issue in any script is cut.
MAX_BODY_BYTES = 192 * 1024
MAX_COMMENT_CHARACTERS = 65_536  # GitHub's own limit
MARKER_SEARCH_PAGES = 5
LISTING_PAGES = 5
_PULL_REQUEST = re.compile(r"/pull/[0-9]+/?$")
_CUT = "\n\n[… cut here: the text is longer than the server reads]"


class _Label(BaseModel):
    name: str | None = None


class _IssueAnswer(BaseModel):
    """What GitHub says of an issue; `pull_request` is present where the issue is really a pull request.

    `repository_url` and `number` are another's where the issue was transferred: gh follows GitHub there.
    """

    number: int
    title: Absent[str] = ""
    body: Absent[str] = ""
    state: Absent[str] = "open"
    html_url: Absent[str] = ""
    repository_url: Absent[str] = ""
    labels: Absent[list[_Label | str | None]] = []
    comments: Absent[int] = 0
    pull_request: object | None = None

    @property
    def home(self) -> str:
        """The "owner/name" it belongs to; empty where GitHub did not say."""
        return "/".join(self.repository_url.rstrip("/").split("/")[-2:]) if self.repository_url else ""

    def value(self) -> GitHubIssue:
        names = (label.name if isinstance(label, _Label) else label for label in self.labels)
        return GitHubIssue(
            issue_number=self.number,
            issue_title=_storable(self.title),
            issue_body=_bounded(_storable(self.body)),
            issue_state=self.state,
            issue_url=self.html_url,
            issue_labels=tuple(_storable(name) for name in names if name),
        )


class _CommentAnswer(BaseModel):
    html_url: str
    body: Absent[str] = ""


class GitHubIssueClient:
    """Issues on GitHub. `number` is an issue's number as `parse_issue_number` gives it."""

    def __init__(self, gh: GhCli, look_again_seconds: Sequence[float] = (0.0,)) -> None:
        """`look_again_seconds`: the pauses before each look for a comment that may have been posted."""
        self._gh = gh
        self._look_again = look_again_seconds

    def read_issue(self, reference: RepositoryReference, number: str) -> GitHubIssue:
        """The issue, its body cut at `MAX_BODY_BYTES` with a visible mark.

        May raise `IssueNotFound`, `IssueMoved`, and `IssueIsPullRequest` where the number is a pull request's.
        """
        answer = self._read(reference, number)
        if answer.pull_request is not None or _PULL_REQUEST.search(answer.html_url):
            raise IssueIsPullRequest(
                f"#{number} of {reference.full_name} is a pull request, not an issue: {_shown(answer)}."
            )
        return answer.value()

    def list_open_issues(self, reference: RepositoryReference, limit: int = 30) -> tuple[GitHubIssue, ...]:
        """Open issues, newest first, without pull requests; fewer than `limit` where those crowd them out."""
        found: list[GitHubIssue] = []
        query = {"state": "open", "sort": "created", "direction": "desc"}
        path = f"repos/{reference.owner}/{reference.name}/issues"
        for page in self._gh.pages(path, query=query, max_pages=LISTING_PAGES):
            answers = (understand(_IssueAnswer, item) for item in page)
            found += [answer.value() for answer in answers if answer.pull_request is None]
            if len(found) >= limit:
                break
        return tuple(found[:limit])

    def comment_on_issue(
        self,
        reference: RepositoryReference,
        number: str,
        *,
        body: str,
        marker: str,
        asked_before: bool = False,
        about_to_post: Callable[[], None] = lambda: None,
    ) -> str:
        """Posts the comment unless it is there, and returns its address.

        `marker` is an HTML comment that no other comment ends with; it is added where `body` lacks it.
        `asked_before`: an earlier request's answer was lost, so that it is looked for more than once.
        `about_to_post` is called just before the request, and may raise. Raises `GitHubError`; calling again after
        a retryable one is safe.
        """

        def look() -> str | None:
            return self._find_comment(reference, number, marker)

        if found := look_again(look, self._look_again) if asked_before else look():
            return found
        about_to_post()
        try:
            text = _with_marker(body, marker)
            purpose = f"commenting on issue #{number} of {reference.full_name}"
            path = f"{_path(reference, number)}/comments"
            answer = self._gh.api("POST", path, fields={"body": text}, purpose=purpose)
            return understand(_CommentAnswer, answer).html_url
        except GitHubError as error:
            if may_be_done(error) and (found := look_again(look, self._look_again)):
                return found
            raise

    def _read(self, reference: RepositoryReference, number: str) -> _IssueAnswer:
        purpose = f"reading issue #{number} of {reference.full_name}"
        try:
            answer = understand(_IssueAnswer, self._gh.api("GET", _path(reference, number), purpose=purpose))
        except GitHubNotFound as error:
            raise IssueNotFound(f"Issue #{number} of {reference.full_name}: {error}") from error
        moved = answer.home and answer.home.lower() != reference.full_name.lower()
        if moved or answer.number != int(number):
            raise IssueMoved(
                f"Issue #{number} of {reference.full_name} was transferred: it is {_shown(answer)} now."
            )
        return answer

    def _find_comment(self, reference: RepositoryReference, number: str, marker: str) -> str | None:
        """Looks from the newest page back; GitHub lists an issue's comments oldest first only."""
        path = f"{_path(reference, number)}/comments"
        # The count is a moment old; the page after the last full one may have been started meanwhile.
        last = self._read(reference, number).comments // PER_PAGE + 1
        for page_number in range(last, max(0, last - MARKER_SEARCH_PAGES), -1):
            for item in reversed(self._gh.page(path, page_number)):
                comment = understand(_CommentAnswer, item)
                if comment.body.rstrip().endswith(marker):
                    return comment.html_url
        return None


def _shown(answer: _IssueAnswer) -> str:
    """Where people find it."""
    return answer.html_url or f"{answer.home}#{answer.number}"


def _path(reference: RepositoryReference, number: str) -> str:
    return f"repos/{reference.owner}/{reference.name}/issues/{number}"


def _with_marker(body: str, marker: str) -> str:
    """The marker survives the cut, because the next look depends on it."""
    text = body.rstrip().removesuffix(marker).rstrip()
    ending = f"\n\n{marker}"
    if len(text) + len(ending) > MAX_COMMENT_CHARACTERS:
        text = text[: MAX_COMMENT_CHARACTERS - len(ending) - len(_CUT)] + _CUT
    return text + ending


def _bounded(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= MAX_BODY_BYTES:
        return text
    return encoded[: MAX_BODY_BYTES - len(_CUT.encode())].decode("utf-8", "ignore") + _CUT


def _storable(text: str) -> str:
    """Without NUL, which Postgres does not store."""
    return text.replace("\x00", "")
