"""Every answer of the fake GitHub, and every request body of the clients, against GitHub's own description.

The slice of that description is remade by `tests/fakes/make_github_slice.py`, whose docstring says how.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from github_app.errors import GitHubError
from github_app.gh import GhCli, parse_answer
from github_app.issues import GitHubIssueClient
from github_app.pull_requests import GitHubPullRequestClient
from github_app.repositories import GitHubRepositoryClient
from sandboxes.processes.run import ProcessLimits, run
from tests.fakes.git_http import FakeGitServer, create_bare_repository, git
from tests.fakes.github import FakeGitHub, Repository
from tests.github_app.conftest import REFERENCE

SLICE = json.loads((Path(__file__).parent.parent / "fakes" / "github_openapi_slice.json").read_text())
BRANCH = "feat-wo-1"


def problems(schema: Any, value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "schemas": SLICE["schemas"]})
    return [
        f"{'.'.join(map(str, it.absolute_path))}: {it.message[:200]}" for it in validator.iter_errors(value)
    ]


def operation(method: str, path: str) -> Any:
    """The description of the request, found by its path's pattern."""
    for name, description in SLICE["operations"].items():
        described_method, _, described_path = name.partition(" ")
        pattern = re.sub(r"\{\w+\}", "[^/]+", described_path)
        if described_method == method and re.fullmatch(pattern, path):
            return description
    raise AssertionError(f"{method} {path} is not in the slice")


@pytest.fixture
def filled(github: FakeGitHub, repo: Repository) -> Repository:
    """An open issue with labels and a comment, and an open and a merged pull request."""
    repo.branches["merged"] = "3" * 40
    issue = github.add_issue(repo, "Broken", None, labels=("bug",))
    github.add_comment(repo, issue.number, "I see it, too.")
    return repo


def test_answers_are_githubs(gh: GhCli, github: FakeGitHub, filled: Repository) -> None:
    base = "repos/octo/sample"
    fields = {"title": "T", "head": "merged", "base": "main", "body": None}
    requests: list[tuple[str, str, dict[str, object] | None]] = [
        ("GET", "user", None),
        ("GET", "rate_limit", None),
        ("GET", base, None),
        ("POST", f"{base}/issues/1/comments", {"body": "Text"}),
        ("GET", f"{base}/issues/1/comments", None),
        ("GET", f"{base}/issues/1", None),
        ("POST", f"{base}/pulls", dict(fields)),
        ("PATCH", f"{base}/pulls/2", {"title": "Better"}),
        ("POST", f"{base}/pulls", {**fields, "head": BRANCH, "draft": True}),
        ("GET", f"{base}/pulls/2", None),
        ("GET", f"{base}/pulls", None),
        ("GET", f"{base}/issues", None),
        ("GET", f"{base}/issues/2", None),
    ]
    for method, path, body in requests:
        if (method, path) == ("GET", f"{base}/pulls/2"):
            filled.pull_requests[2].state, filled.pull_requests[2].is_merged = "closed", True
        answer = gh.api(method, path, fields=body, query={"state": "all"} if method == "GET" else None)
        assert problems(operation(method, f"/{path}")["answer"], answer) == [], f"{method} {path}"


def test_every_described_operation_is_answered() -> None:
    """The list above is complete: the slice has no operation that the fake lacks."""
    assert len(SLICE["operations"]) == 11


def test_slice_refuses_what_github_would_not_say() -> None:
    assert problems({"$ref": "#/schemas/issue-comment"}, {"id": "one"})


@pytest.mark.parametrize(
    ("method", "path", "fields", "status", "schema"),
    [
        ("GET", "repos/octo/none", None, 404, "basic-error"),
        ("GET", "repos/octo/sample/issues/99", None, 404, "basic-error"),
        (
            "POST",
            "repos/octo/sample/pulls",
            {"title": "T", "head": "main", "base": "main"},
            422,
            "validation-error",
        ),
        (
            "POST",
            "repos/octo/sample/pulls",
            {"title": "T", "head": "none", "base": "main"},
            422,
            "validation-error",
        ),
    ],
)
def test_refusals_are_githubs(
    gh: GhCli,
    github: FakeGitHub,
    filled: Repository,
    method: str,
    path: str,
    fields: dict[str, object] | None,
    status: int,
    schema: str,
) -> None:
    argv = gh._api_argv(method, path, fields, None)
    body = json.dumps(fields).encode() if fields else b""
    result = run(argv, env=gh.environment(), limits=ProcessLimits(10), stdin=body)
    answer = parse_answer(result.stdout)
    assert answer is not None
    assert (result.exit_code, answer.status) == (1, status)
    assert problems({"$ref": f"#/schemas/{schema}"}, answer.value) == []
    with pytest.raises(GitHubError):
        gh.api(method, path, fields=fields)


def test_requests_of_the_clients_are_what_github_describes(
    gh: GhCli, github: FakeGitHub, filled: Repository
) -> None:
    GitHubRepositoryClient(gh).verify_repository_access(REFERENCE)
    GitHubIssueClient(gh).list_open_issues(REFERENCE)
    GitHubIssueClient(gh).comment_on_issue(REFERENCE, "1", body="Text", marker="<!-- x -->")
    pulls = GitHubPullRequestClient(gh)
    found, _ = pulls.ensure_pull_request(
        REFERENCE, head_branch=BRANCH, base_branch="main", title="T", body="B", draft=True
    )
    pulls.update_pull_request(REFERENCE, found.pull_request_number, title="U", body="C")
    for request in github.requests:
        described = operation(request.method, request.path)["request"]
        assert (described is None) is (request.body is None)
        if described is not None:
            assert problems(described, request.body) == []
            assert set(request.body) <= set(described["properties"])


def test_branches_of_a_real_repository(tmp_path: Path, gh: GhCli) -> None:
    server = FakeGitServer(tmp_path / "git")
    sha = create_bare_repository(server.repository_path("octo", "real"))
    github = FakeGitHub(branch_sha=server.branch_sha)
    real = github.add_repository("octo", "real")
    assert github.sha(real, "main") == sha
    assert github.sha(real, "missing") is None
    git("update-ref", "refs/heads/feature", sha, folder=server.repository_path("octo", "real"))
    assert github.sha(real, "feature") == sha


def test_prefix_of_enterprise_servers_and_recorded_requests(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    gh.api("GET", "api/v3/repos/octo/sample")
    assert len(github.recorded("GET", "/repos/octo/sample")) == 1
