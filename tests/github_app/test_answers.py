"""GitHub's words as a person gets them, and every shape in which it asks to come back later."""

import json
import time
from typing import Any

import pytest

from github_app import errors
from github_app.answers import Answer, parse_answer, retry_after_seconds
from github_app.gh import REFUSALS, GhCli
from github_app.pull_requests import GitHubPullRequestClient
from tests.fakes.github import FakeGitHub, Repository
from tests.github_app.conftest import REFERENCE


def answer(status: int, body: object = None, **headers: str) -> Answer:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    text = body if isinstance(body, str) else json.dumps(body)
    found = parse_answer(f"HTTP/2.0 {status} X\r\n{lines}\r\n{text}".encode())
    assert found is not None
    return found


FAILED = "Validation Failed"
CASES: list[tuple[object, str]] = [
    ({"message": "Not Found"}, "Not Found"),
    ({"message": FAILED}, "Validation Failed"),
    (
        {"message": FAILED, "errors": [{"resource": "PullRequest", "field": "base", "code": "invalid"}]},
        "Validation Failed: PullRequest.base is invalid",
    ),
    (
        {
            "message": FAILED,
            "errors": [{"resource": "PullRequest", "code": "missing_field", "field": "head"}],
        },
        "Validation Failed: PullRequest.head is missing",
    ),
    (
        {"message": FAILED, "errors": [{"resource": "Issue", "code": "missing", "field": "id", "value": 7}]},
        "Validation Failed: Issue.id does not exist (`7`)",
    ),
    (
        {
            "message": FAILED,
            "errors": [
                {"resource": "PullRequest", "code": "custom", "message": "No commits between a and b"}
            ],
        },
        "Validation Failed: No commits between a and b",
    ),
    (
        {
            "message": FAILED,
            "errors": [{"resource": "X", "field": "body", "code": "custom", "message": "is too long"}],
        },
        "Validation Failed: X.body: is too long",
    ),
    (
        {"message": FAILED, "errors": ["Draft pull requests are not supported"]},
        f"{FAILED}: Draft pull requests are not supported",
    ),
    ({"message": FAILED, "errors": "Only one thing"}, f"{FAILED}: Only one thing"),
    (
        {"message": FAILED, "errors": {"base": ["is gone", "is odd"]}},
        f"{FAILED}: base: is gone; base: is odd",
    ),
    ({"message": FAILED, "errors": [{"errors": [{"message": "deep"}]}]}, f"{FAILED}: deep"),
    ({"message": FAILED, "errors": [[{"message": "nested"}], None, 7, {}]}, f"{FAILED}: nested"),
    ({"message": FAILED, "errors": [{"code": "strange"}]}, f"{FAILED}: the request strange"),
    ({"message": FAILED, "errors": [{"message": "same"}] * 9}, f"{FAILED}: same"),
    (
        {
            "message": "Repository rule violations found.",
            "errors": [{"message": f"commit {n}"} for n in range(9)],
        },
        "Repository rule violations found; commit 0; commit 1; commit 2; commit 3; commit 4; and 4 more",
    ),
    ({"message": "Two\n\nlines\n", "documentation_url": None}, "Two lines"),
    ({"error": "Not the documented shape"}, "Not the documented shape"),
    ({"message": None, "errors": None}, ""),
    ([], ""),
    ("<html><body>502</body></html>", ""),
    ("Sorry. Your account was suspended.", "Sorry. Your account was suspended."),
    ('{"message": "cut off', ""),
]


@pytest.mark.parametrize(("body", "words"), CASES, ids=range(len(CASES)))
def test_its_words(body: object, words: str) -> None:
    assert answer(422, body).message == words


def test_a_refusal_says_what_was_asked_for(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    """As it was found: "Validation Failed; invalid"."""
    client = GitHubPullRequestClient(gh)
    with pytest.raises(errors.GitHubRejected) as caught:
        client.ensure_pull_request(
            REFERENCE, head_branch="feat-wo-1", base_branch="gone", title="T", body="B", draft=False
        )
    assert str(caught.value) == (
        "GitHub refuses the request (422): Validation Failed: PullRequest.base is invalid "
        "(opening a pull request from feat-wo-1 into gone of octo/sample)."
    )


@pytest.mark.parametrize("status", [403, 404, 409, 500])
def test_other_refusals_say_it_too(gh: GhCli, github: FakeGitHub, repo: Repository, status: int) -> None:
    github.fail("PATCH", "pulls/7", status=status, body={"message": "No " + "x" * 5000})
    with pytest.raises(
        errors.GitHubError, match=rf"\({status}\): No x+ \(closing pull request #7 of octo/sample\)\.$"
    ):
        GitHubPullRequestClient(gh).update_pull_request(REFERENCE, 7, state="closed")


SLOW_DOWN: list[tuple[int, str]] = [
    (403, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."),
    (
        403,
        "You have exceeded a secondary rate limit and have been temporarily blocked from content creation. "
        "Please retry your request again later.",
    ),
    (403, "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again."),
    (403, "API rate limit exceeded for installation ID 12345678."),
    (
        403,
        "API rate limit exceeded for user ID 1. If you reach out to GitHub Support, include the request ID.",
    ),
    (
        403,
        "API rate limit exceeded for 203.0.113.7. (But here's the good news: …)",
    ),
    (403, "Maximum number of login attempts exceeded. Please try again later."),
    (403, "You have been temporarily blocked from content creation"),
    (422, "was submitted too quickly"),
    (422, "You have exceeded a secondary rate limit"),
    (409, "Too many requests at once; please try again later."),
    (400, "Too many requests"),
    (403, "Content creation is temporarily disabled for your account, please retry your request later."),
    (403, "You are being throttled"),
    (403, "Request quota exhausted for request"),
    (422, "Too many pull requests created in a short time"),
    (429, ""),
    (429, "Slow down"),
]


@pytest.mark.parametrize(("status", "words"), SLOW_DOWN, ids=range(len(SLOW_DOWN)))
@pytest.mark.parametrize("shape", ["message", "detail", "text"])
def test_every_shape_of_slow_down_waits(status: int, words: str, shape: str) -> None:
    bodies: dict[str, Any] = {
        "message": {"message": words},
        "detail": {
            "message": "Validation Failed",
            "errors": [{"resource": "PullRequest", "code": "custom", "message": words}],
        },
        "text": words,
    }
    found = answer(status, bodies[shape])
    assert next(row.error for row in REFUSALS if row.fits(found)) is errors.GitHubRateLimited


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (answer(422, {"message": FAILED}, x_ratelimit_remaining="0"), errors.GitHubRejected),
        (
            answer(422, {"message": "Base branch was modified. Review and try the merge again."}),
            errors.GitHubRejected,
        ),
        (answer(403, {"message": "Repository was archived so is read-only."}), errors.GitHubAccessDenied),
        (answer(409, {"message": "Git Repository is empty."}), errors.GitHubRejected),
        (answer(404, {"message": "Not Found"}, retry_after="9"), errors.GitHubNotFound),
        (answer(403, {"message": "x"}, retry_after="9"), errors.GitHubRateLimited),
        (answer(422, {"message": "x"}, retry_after="9"), errors.GitHubRateLimited),
        (answer(503, {"message": "x"}, retry_after="9"), errors.GitHubUnavailable),
        (answer(301, {"message": "Moved Permanently"}), errors.GitHubMoved),
    ],
    ids=range(9),
)
def test_what_is_no_slow_down(found: Answer, error: type[errors.GitHubError]) -> None:
    assert next(row.error for row in REFUSALS if row.fits(found)) is error


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "90"}, 90),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 2026 00:02:00 GMT", "date": "Thu, 01 Jan 2026 00:00:30 GMT"}, 90),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT", "date": "Thu, 01 Jan 2026 00:00:30 GMT"}, 0),
        ({"retry-after": "Thu, 01 Jan 2099 00:00:00 GMT", "date": "nonsense"}, 24 * 3600),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "Thu, 99 Foo 2026 00:00:00 GMT"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) - 60)}, 0),
    ],
    ids=range(8),
)
def test_how_long_it_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


def test_a_503_says_how_long(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    github.fail("GET", "sample", status=503, headers={"Retry-After": "33"}, body={"message": "Busy"})
    with pytest.raises(errors.GitHubUnavailable, match="Busy") as caught:
        gh.api("GET", "repos/octo/sample")
    assert caught.value.retry_after_seconds == 33
