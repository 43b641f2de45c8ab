"""Expected failures of GitHub and of the gh program, each with who must act and what to do.

Knows nothing of HTTP or argv: `gh.py` holds the table that leads from an answer to one of these.
"""

from sandboxes.errors import ExpectedError


class GitHubError(ExpectedError):
    """GitHub could not be used as the step needed it."""

    category = "github_failed"
    advice = "The message holds GitHub's own words; put it right there, then retry."


class GitHubTokenInvalid(GitHubError):
    """GitHub does not accept the token (401)."""

    category = "github_token_invalid"
    advice = (
        "The token is wrong, expired or revoked: set a valid GH_TOKEN (or run `gh auth login`), then retry."
    )


class GitHubAccessDenied(GitHubError):
    """GitHub knows the account but does not allow this (403)."""

    category = "github_access_denied"
    advice = (
        "Give the token read and write access to contents, issues and pull requests of this repository "
        "(and authorize it for the organization's single sign-on), then retry."
    )


class PushPermissionMissing(GitHubAccessDenied):
    """The account can read the repository but not push to it."""

    category = "push_permission_missing"
    advice = "Give the token's account write access to the repository, then verify it again."


class GitHubNotFound(GitHubError):
    """GitHub shows no such thing to this account (404, 410, 451)."""

    category = "github_not_found"
    advice = "Check the name, and that the token's account can see the repository."


class RepositoryNotFound(GitHubNotFound):
    """GitHub shows no such repository to this account."""

    category = "repository_not_found"
    advice = "Check owner and name, and that the token's account can see the repository."


class IssueNotFound(GitHubNotFound):
    """The repository shows no such issue to this account."""

    category = "issue_not_found"
    advice = "Check the issue's number, and that issues are enabled in the repository."


class GitHubMoved(GitHubError):
    """GitHub says that what was asked for has another address now (301, 302, 307, 308)."""

    category = "github_moved"
    advice = (
        "The repository was probably renamed or transferred: look where it is on GitHub, verify it under that name, "
        "then retry."
    )


class IssueMoved(GitHubError):
    """The issue was transferred to another repository."""

    category = "issue_moved"
    advice = "Create a work order for the repository and the number that the issue has now."


class IssueIsPullRequest(GitHubError):
    """The number is a pull request's, not an issue's."""

    category = "issue_is_pull_request"
    advice = (
        "Create a work order with an issue's number; or without one, saying in the request what to change."
    )


class RepositoryReplaced(GitHubError):
    """The repository's name belongs to another repository now, and the one of this order is not to be found."""

    category = "repository_replaced"
    advice = (
        "If you mean the repository that has the name now, create a new work order for it. If the old one was only "
        "hidden from the token's account, give it access again, then retry."
    )


class GitHubRejected(GitHubError):
    """GitHub understood the request and refuses it (400, 409, 422)."""

    category = "github_rejected"


class GitHubRateLimited(GitHubError):
    """GitHub asks to wait (429, or another refusal with its signs of a limit).

    `retry_after_seconds` counts from the answer; None where GitHub did not say. Its documentation then asks
    for at least a minute, growing with each further refusal.
    """

    category = "github_rate_limited"
    retryable = True
    advice = "Run fewer orders at once, and retry when GitHub's limit has reset."

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class GitHubUnavailable(GitHubError):
    """GitHub did not answer, or answered that it cannot now (5xx, dropped connection, time-out).

    What was asked for may have been done all the same: look before asking again. `retry_after_seconds` counts from
    the answer; None where it does not say.
    """

    category = "github_unavailable"
    retryable = True
    advice = "Check the network and GitHub's status page, then retry."

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class GitHubAnswerInvalid(GitHubError):
    """GitHub, or something in its place, answered with what this server does not understand.

    A passing fault of GitHub's as a rule. What was asked for may have been done all the same.
    """

    category = "github_answer_invalid"
    retryable = True
    advice = (
        "If GitHub's status page shows no trouble, check that WORKORDERS_GITHUB_HOST is a GitHub server and that no "
        "proxy answers in its place; then retry."
    )


class GhMissing(GitHubError):
    """The gh program is not installed, or not on the server's PATH."""

    category = "gh_missing"
    advice = (
        "Install GitHub's CLI on every worker machine (https://cli.github.com); `manage.py doctor` checks it."
    )


class GhNotLoggedIn(GitHubError):
    """gh has no token for this host."""

    category = "gh_not_logged_in"
    advice = "Set GH_TOKEN for the server, or run `gh auth login` as the server's user."


def may_be_done(error: GitHubError) -> bool:
    """Whether GitHub may have done what was asked for although this is what came back."""
    return isinstance(error, GitHubUnavailable | GitHubAnswerInvalid)
