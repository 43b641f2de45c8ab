"""Renamed and transferred repositories and issues, and redirects, as the real gh shows them."""

from collections.abc import Callable
from typing import Any

import pytest

from github_app import errors
from github_app.gh import GhCli
from github_app.issues import GitHubIssueClient
from github_app.pull_requests import GitHubPullRequestClient
from github_app.references import RepositoryReference
from github_app.repositories import GitHubRepositoryClient
from tests.fakes.github import FakeGitHub, Repository
from tests.github_app.conftest import REFERENCE


@pytest.mark.parametrize(("owner", "name"), [("octo", "renamed"), ("other", "sample"), ("OCTO", "Sample")])
def test_a_repository_keeps_its_id_through_its_names(
    gh: GhCli, github: FakeGitHub, repo: Repository, owner: str, name: str
) -> None:
    client = GitHubRepositoryClient(gh)
    before = client.verify_repository_access(REFERENCE)
    github.rename(repo, owner, name)
    for known in (None, before.github_id):
        found = client.verify_repository_access(REFERENCE, github_id=known)
        assert (found.github_id, found.repository_owner, found.repository_name) == (
            before.github_id,
            owner,
            name,
        )
        assert found.can_push


def test_another_repository_that_took_the_name_is_not_it(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    client = GitHubRepositoryClient(gh)
    known = client.verify_repository_access(REFERENCE).github_id
    github.rename(repo, "octo", "renamed")
    impostor = github.add_repository("octo", "sample", id=4711)
    assert client.verify_repository_access(REFERENCE).github_id == 4711
    found = client.verify_repository_access(REFERENCE, github_id=known)
    assert (found.github_id, found.repository_name) == (known, "renamed")
    github.repositories.pop("octo/renamed")
    with pytest.raises(
        errors.RepositoryReplaced, match=r"octo/sample \(now GitHub's id 4711\).*not.*goes to the other"
    ):
        client.verify_repository_access(REFERENCE, github_id=known)
    github.repositories.pop(impostor.full_name)
    github.former_names.clear()
    with pytest.raises(errors.RepositoryNotFound):
        client.verify_repository_access(REFERENCE, github_id=known)


def test_a_repository_whose_old_name_leads_nowhere_is_found_by_its_id(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    client = GitHubRepositoryClient(gh)
    known = client.verify_repository_access(REFERENCE).github_id
    github.rename(repo, "octo", "renamed")
    github.former_names.clear()
    assert client.verify_repository_access(REFERENCE, github_id=known).repository_name == "renamed"
    with pytest.raises(errors.RepositoryNotFound, match="octo/sample"):
        client.verify_repository_access(REFERENCE)


def test_what_is_written_to_an_old_name_says_where_it_is(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    github.rename(repo, "octo", "renamed")
    client = GitHubPullRequestClient(gh)
    fields: dict[str, Any] = {"head_branch": "feat-wo-1", "base_branch": "main", "title": "T", "body": "B"}
    with pytest.raises(
        errors.GitHubMoved, match=rf"\(307\).*opening a pull request from feat-wo-1.*{repo.id}"
    ):
        client.ensure_pull_request(REFERENCE, draft=False, **fields)
    with pytest.raises(errors.GitHubMoved):
        client.update_pull_request(REFERENCE, 1, body="x")
    assert "prox" not in errors.GitHubMoved.advice


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_without_a_goal_has_words_of_its_own(
    gh: GhCli, github: FakeGitHub, repo: Repository, method: str, status: int
) -> None:
    github.fail(method, "sample", status=status, body={"message": "Moved Permanently"})
    with pytest.raises(errors.GitHubMoved, match=f"somewhere else now.*{status}") as caught:
        gh.api(method, "repos/octo/sample", fields=None if method == "GET" else {"a": "b"})
    assert not caught.value.retryable
    assert "renamed or transferred" in caught.value.advice


def test_a_redirect_in_circles_is_no_endless_loop(gh: GhCli, github: FakeGitHub) -> None:
    home = {"Location": "https://api.github.com/user"}
    github.fail("GET", "^/user$", status=302, headers=home, body="", times=50)
    with pytest.raises(errors.GitHubAnswerInvalid, match="in circles"):
        gh.api("GET", "user")


def test_a_transferred_issue_says_where_it_went(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    other = github.add_repository("octo", "elsewhere")
    number = github.add_issue(repo, "Broken").number
    github.add_issue(other, "First")
    new = github.transfer_issue(repo, number, other)
    client = GitHubIssueClient(gh)
    with pytest.raises(
        errors.IssueMoved, match=f"was transferred: it is https://github.com/octo/elsewhere/issues/{new}"
    ):
        client.read_issue(REFERENCE, str(number))
    with pytest.raises(errors.IssueMoved):
        client.comment_on_issue(REFERENCE, str(number), body="b", marker="<!-- m -->")
    assert other.comments == repo.comments == []


def test_an_issue_of_another_case_or_a_name_just_changed_is_no_transfer(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    number = str(github.add_issue(repo, "Broken").number)
    shouting = RepositoryReference("github.com", "OCTO", "SAMPLE")
    assert GitHubIssueClient(gh).read_issue(shouting, number).issue_title == "Broken"


def test_a_pull_requests_number_is_refused_with_what_to_do(
    gh: GhCli, make_gh: Callable[..., GhCli], github: FakeGitHub, repo: Repository
) -> None:
    fields = {"title": "T", "body": "b", "head": "feat-wo-1", "base": "main", "draft": False}
    number = gh.api("POST", "repos/octo/sample/pulls", fields=fields)["number"]
    with pytest.raises(
        errors.IssueIsPullRequest, match=rf"#{number} of octo/sample is a pull request.*/pull/{number}"
    ) as caught:
        GitHubIssueClient(gh).read_issue(REFERENCE, str(number))
    assert "issue's number" in caught.value.advice
