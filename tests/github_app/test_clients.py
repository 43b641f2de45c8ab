from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from github_app import errors
from github_app.gh import GhCli
from github_app.issues import MAX_BODY_BYTES, MAX_COMMENT_CHARACTERS, GitHubIssueClient
from github_app.pull_requests import GitHubPullRequestClient
from github_app.references import RepositoryReference
from github_app.repositories import GitHubRepositoryClient, require_push
from github_app.types import GitHubPullRequest
from tests.fakes import github_answers
from tests.fakes.github import FakeGitHub, PullRequest, Repository
from tests.github_app.conftest import REFERENCE, TOKEN

MARKER = "<!-- work-order wo-12345678 -->"
BRANCH = "feat-wo-1"
TOO_LATE = [{"drop": True}, {"status": 502}, {"status": 503, "body": "<html>"}]
COMMENTS = r"/repos/octo/sample/issues/\d+/comments"
PULLS = "/repos/octo/sample/pulls"


# Repositories


def test_repository_as_github_spells_it(gh: GhCli, repo: Repository) -> None:
    found = GitHubRepositoryClient(gh).verify_repository_access(
        RepositoryReference("github.com", "OCTO", "Sample")
    )
    assert (found.repository_owner, found.repository_name, found.default_branch) == ("octo", "sample", "main")
    assert found.repository_url == "https://github.com/octo/sample"
    assert found.is_accessible
    assert found.can_push
    assert found.access_verified_at is not None
    require_push(found)


@pytest.mark.parametrize(
    ("access", "archived", "words", "advice"),
    [
        ("read", False, "may not push", "Give the token's account write access"),
        ("write", True, "archived", "Unarchive it"),
        ("read", True, "archived", "Unarchive it"),
    ],
)
def test_repository_that_cannot_be_pushed_to_says_why(
    gh: GhCli, github: FakeGitHub, repo: Repository, access: Any, archived: bool, words: str, advice: str
) -> None:
    github.accounts[TOKEN].access["octo/sample"] = access
    repo.is_archived = archived
    found = GitHubRepositoryClient(gh).verify_repository_access(REFERENCE)
    assert found.is_accessible
    assert not found.can_push
    with pytest.raises(errors.PushPermissionMissing, match=words) as caught:
        require_push(found)
    assert caught.value.advice.startswith(advice)


def test_public_repository_is_readable_without_a_login(
    make_gh: Callable[..., GhCli], repo: Repository
) -> None:
    found = GitHubRepositoryClient(make_gh(token="")).verify_repository_access(REFERENCE)
    assert (found.is_accessible, found.can_push) == (True, False)


def test_hidden_repository_looks_missing(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    repo.is_private = True
    github.accounts[TOKEN].access["octo/sample"] = "none"
    with pytest.raises(errors.RepositoryNotFound, match="octo/sample"):
        GitHubRepositoryClient(gh).verify_repository_access(REFERENCE)


def test_answer_of_something_else_than_github(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    github.fail("GET", "sample", status=200, body={"name": 1})
    with pytest.raises(errors.GitHubAnswerInvalid, match="owner"):
        GitHubRepositoryClient(gh).verify_repository_access(REFERENCE)


# Issues


def test_issue(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    github.add_issue(repo, "Broken", None, labels=("bug", "help wanted"))
    issue = GitHubIssueClient(gh).read_issue(REFERENCE, "1")
    assert (issue.issue_number, issue.issue_title, issue.issue_body) == (1, "Broken", "")
    assert (issue.issue_state, issue.issue_labels) == ("open", ("bug", "help wanted"))
    assert issue.issue_url == "https://github.com/octo/sample/issues/1"


def test_long_body_is_cut_with_a_mark(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    github.add_issue(repo, "Long", "😀" * 60_000)
    body = GitHubIssueClient(gh).read_issue(REFERENCE, "1").issue_body
    assert len(body.encode()) <= MAX_BODY_BYTES
    assert body.endswith("longer than the server reads]")


@pytest.mark.parametrize("letter", ["x", "ü", "漢"])
def test_the_longest_body_of_any_script_arrives_whole(
    gh: GhCli, github: FakeGitHub, repo: Repository, letter: str
) -> None:
    body = f"  {letter * 65_500}\r\n \n"
    github.add_issue(repo, " Long ", body)
    issue = GitHubIssueClient(gh).read_issue(REFERENCE, "1")
    assert (issue.issue_title, issue.issue_body) == (" Long ", body)


def test_missing_issue(gh: GhCli, repo: Repository) -> None:
    with pytest.raises(errors.IssueNotFound, match="#7 of octo/sample"):
        GitHubIssueClient(gh).read_issue(REFERENCE, "7")


def test_open_issues_without_pull_requests(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    for number in range(1, 5):
        github.add_issue(repo, f"Issue {number}")
    repo.issues[2].state = "closed"
    open_pull_request(repo, 5)
    client = GitHubIssueClient(gh)
    assert [issue.issue_number for issue in client.list_open_issues(REFERENCE)] == [4, 3, 1]
    assert [issue.issue_number for issue in client.list_open_issues(REFERENCE, limit=1)] == [4]


def comment(gh: GhCli, body: str = "Done.") -> str:
    return GitHubIssueClient(gh).comment_on_issue(REFERENCE, "1", body=body, marker=MARKER)


def test_comment_is_posted_once_however_often_it_is_asked_for(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    github.add_issue(repo, "Broken")
    assert comment(gh) == comment(gh, f"Done, said otherwise.\n\n{MARKER}")
    assert [item.body for item in repo.comments] == [f"Done.\n\n{MARKER}"]


@pytest.mark.parametrize("fault", TOO_LATE)
def test_comment_that_was_posted_before_the_failure_is_found(
    gh: GhCli, github: FakeGitHub, repo: Repository, fault: dict[str, Any]
) -> None:
    github.add_issue(repo, "Broken")
    github.fail("POST", COMMENTS, execute=True, **fault)
    assert "#issuecomment-" in comment(gh)
    assert len(repo.comments) == 1
    assert len(github.recorded("POST", COMMENTS)) == 1


@pytest.mark.parametrize("fault", TOO_LATE)
def test_comment_that_was_not_posted_is_left_to_the_next_attempt(
    gh: GhCli, github: FakeGitHub, repo: Repository, fault: dict[str, Any]
) -> None:
    github.add_issue(repo, "Broken")
    github.fail("POST", COMMENTS, **fault)
    with pytest.raises(errors.GitHubUnavailable):
        comment(gh)
    comment(gh)
    assert len(repo.comments) == 1


def test_comment_posted_too_late_while_github_stays_away(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    """The look after the failure fails, too; the next attempt finds the comment."""
    github.add_issue(repo, "Broken")
    github.fail("POST", COMMENTS, execute=True, drop=True)
    github.fail("GET", "/issues/1", skip=2, status=503)  # the two requests of the first look pass
    with pytest.raises(errors.GitHubUnavailable):
        comment(gh)
    comment(gh)
    assert len(repo.comments) == 1


def test_marker_is_found_among_many_comments(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    github.add_issue(repo, "Busy")
    for number in range(150):
        github.add_comment(repo, 1, f"{MARKER} quoted, not at the end {number}")
    posted = github.add_comment(repo, 1, f"Done.\r\n\r\n{MARKER}\n")
    for _ in range(120):
        github.add_comment(repo, 1, "later")
    assert str(posted.id) in comment(gh)
    assert github.recorded("POST", COMMENTS) == []


def test_long_comment_keeps_its_marker(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    github.add_issue(repo, "Broken")
    comment(gh, "x" * 70_000)
    assert len(repo.comments[0].body) == MAX_COMMENT_CHARACTERS
    assert repo.comments[0].body.endswith(MARKER)


# Pull requests


def open_pull_request(repo: Repository, number: int, **values: Any) -> PullRequest:
    fields = {"head_branch": BRANCH, "base_branch": "main", "head_sha": "2" * 40, "base_sha": "1" * 40}
    item = PullRequest(number, f"Title {number}", "", "robot", **{**fields, **values})
    repo.pull_requests[number] = item
    return item


def ensure(gh: GhCli, *, draft: bool = False, **values: Any) -> tuple[GitHubPullRequest, bool]:
    fields = {"head_branch": BRANCH, "base_branch": "main", "title": "feat: x", "body": "Text"}
    return GitHubPullRequestClient(gh).ensure_pull_request(REFERENCE, draft=draft, **{**fields, **values})


def test_pull_request_is_created_once(gh: GhCli, repo: Repository) -> None:
    created, first = ensure(gh, draft=True)
    found, second = ensure(gh, title="Another title")
    assert (first, second) == (True, False)
    assert found == created
    assert created.state == "open"
    assert created.is_draft
    assert created.head_sha == "2" * 40
    assert created.pull_request_url == "https://github.com/octo/sample/pull/1"
    assert len(repo.pull_requests) == 1


@pytest.mark.parametrize("fault", TOO_LATE)
def test_pull_request_that_was_created_before_the_failure_is_found(
    gh: GhCli, github: FakeGitHub, repo: Repository, fault: dict[str, Any]
) -> None:
    github.fail("POST", PULLS, execute=True, **fault)
    assert ensure(gh)[0].pull_request_number == 1
    assert len(repo.pull_requests) == 1
    assert len(github.recorded("POST", PULLS)) == 1


@pytest.mark.parametrize("fault", TOO_LATE)
def test_pull_request_that_was_not_created_is_left_to_the_next_attempt(
    gh: GhCli, github: FakeGitHub, repo: Repository, fault: dict[str, Any]
) -> None:
    github.fail("POST", PULLS, **fault)
    with pytest.raises(errors.GitHubUnavailable):
        ensure(gh)
    assert ensure(gh)[1] is True
    assert len(repo.pull_requests) == 1


def test_pull_request_another_worker_created_in_between(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    open_pull_request(repo, 1)
    github.fail("GET", PULLS, status=200, body=[])
    found, created = ensure(gh)
    assert (found.pull_request_number, created) == (1, False)


def test_pull_request_asked_for_at_the_same_time(gh: GhCli, repo: Repository) -> None:
    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda _: ensure(gh), range(5)))
    assert {found.pull_request_number for found, _ in results} == {1}
    assert [created for _, created in results].count(True) == 1


def test_plan_without_drafts(gh: GhCli, repo: Repository) -> None:
    repo.drafts_supported = False
    found, created = ensure(gh, draft=True)
    assert (created, found.is_draft) == (True, False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"head_branch": "missing"}, "invalid"),
        ({"base_branch": "missing"}, "invalid"),
        ({"head_branch": "main"}, "No commits between main and main"),
    ],
)
def test_refusal_keeps_githubs_words(gh: GhCli, repo: Repository, values: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.GitHubRejected, match=words):
        ensure(gh, **values)


def test_read_only_token(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    github.accounts[TOKEN].access["octo/sample"] = "read"
    with pytest.raises(errors.GitHubAccessDenied, match="Resource not accessible"):
        ensure(gh)


def test_open_is_preferred_to_merged_to_closed(gh: GhCli, repo: Repository) -> None:
    client = GitHubPullRequestClient(gh)
    assert client.find_pull_request(REFERENCE, BRANCH) is None
    found = []
    steps: list[dict[str, Any]] = [
        {"state": "closed"},
        {"state": "closed"},
        {"state": "closed", "is_merged": True},
        {},
    ]
    for number, values in enumerate(steps, start=1):
        open_pull_request(repo, number, **values)
        open_pull_request(repo, number + 10, head_branch="other")
        pull_request = client.find_pull_request(REFERENCE, BRANCH)
        assert pull_request is not None
        found.append((pull_request.pull_request_number, pull_request.state))
    assert found == [(1, "closed"), (2, "closed"), (3, "merged"), (4, "open")]


def test_merged_one_counts_for_its_own_commit_only(gh: GhCli, repo: Repository) -> None:
    open_pull_request(repo, 1, state="closed", is_merged=True)
    assert ensure(gh)[0].state == "merged"
    assert ensure(gh, head_sha="2" * 40)[0].state == "merged"
    repo.branches[BRANCH] = "3" * 40
    followed_up, created = ensure(gh, head_sha="3" * 40)
    assert (followed_up.pull_request_number, created) == (2, True)


def test_listing_that_ignored_the_filter_is_not_believed(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    item = open_pull_request(repo, 1, head_branch="other")
    github.fail("GET", PULLS, status=200, body=[github_answers.pull_request_in_list(repo, item)])
    assert GitHubPullRequestClient(gh).find_pull_request(REFERENCE, BRANCH) is None


def test_update_leaves_what_is_not_given(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    open_pull_request(repo, 1)
    GitHubPullRequestClient(gh).update_pull_request(REFERENCE, 1, body="New text")
    assert (repo.pull_requests[1].title, repo.pull_requests[1].body) == ("Title 1", "New text")
    assert github.requests[-1].body == {"body": "New text"}


def test_title_is_one_line_of_accepted_length(gh: GhCli, repo: Repository) -> None:
    found, _ = ensure(gh, title="a\n b" * 200, body="x" * 70_000)
    assert len(found.pull_request_title) == 256
    assert "\n" not in found.pull_request_title
    assert len(repo.pull_requests[1].body or "") == 65_536
