"""Whatever GitHub's own description allows to be null or absent is understood: one field at a time, in each answer."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from github_app.gh import GhCli, understand
from github_app.issues import GitHubIssueClient, _CommentAnswer, _IssueAnswer
from github_app.pull_requests import _PullRequestAnswer
from github_app.repositories import GitHubRepositoryClient, _RepositoryAnswer
from tests.fakes import github_answers as answers
from tests.fakes.github import Comment, FakeGitHub, Issue, PullRequest, Repository
from tests.fakes.make_github_slice import REPO, SLICE
from tests.github_app.conftest import REFERENCE

DOCUMENT = json.loads(SLICE.read_text())
_REPOSITORY = Repository("octo", "sample")
_ISSUE = Issue(1, "T", "B", "ann", labels=("bug",))
_PULL = PullRequest(2, "T", "B", "ann", "feat", "main", "1" * 40, "2" * 40)
SHAPES: dict[str, tuple[type[BaseModel], Any]] = {
    f"GET {REPO}": (
        _RepositoryAnswer,
        answers.repository(_REPOSITORY, {"push": True, "pull": True, "admin": False}),
    ),
    f"GET {REPO}/issues/{{issue_number}}": (_IssueAnswer, answers.issue(_REPOSITORY, _ISSUE, 0)),
    f"POST {REPO}/issues/{{issue_number}}/comments": (
        _CommentAnswer,
        answers.comment(_REPOSITORY, Comment(1, 1, "b", "ann")),
    ),
    f"POST {REPO}/pulls": (_PullRequestAnswer, answers.pull_request(_REPOSITORY, _PULL)),
    f"GET {REPO}/pulls/{{pull_number}}": (_PullRequestAnswer, answers.pull_request(_REPOSITORY, _PULL)),
}


def resolved(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema behind references, and whether null is allowed."""
    nullable = False
    while True:
        if reference := schema.get("$ref"):
            schema = DOCUMENT["schemas"][reference.rsplit("/", 1)[1]]
        elif any(choice.get("type") == "null" for choice in schema.get("anyOf", [])):
            nullable = True
            schema = next(choice for choice in schema["anyOf"] if choice.get("type") != "null")
        elif "allOf" in schema and len(schema["allOf"]) == 1:
            schema = schema["allOf"][0]
        else:
            return schema, nullable


def places(
    schema: dict[str, Any], value: Any, at: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Each place in `value` that may be null or absent by its schema, down to three levels."""
    schema, nullable = resolved(schema)
    if nullable and at:
        yield at, "null"
    if isinstance(value, dict) and len(at) < 2:
        required = set(schema.get("required", []))
        for name, part in schema.get("properties", {}).items():
            if name not in required and name in value:
                yield (*at, name), "absent"
            if name in value:
                yield from places(part, value[name], (*at, name))
            elif resolved(part)[1]:
                yield (*at, name), "null"
    if isinstance(value, list) and value and "items" in schema:
        yield from places(schema["items"], value[0], (*at, 0))


def changed(value: Any, at: tuple[Any, ...], how: str) -> Any:
    value = copy.deepcopy(value)
    inner = value
    for part in at[:-1]:
        inner = inner[part]
    if how == "null":
        inner[at[-1]] = None
    else:
        del inner[at[-1]]
    return value


@pytest.mark.parametrize("operation", SHAPES)
def test_each_field_may_be_what_the_description_allows(operation: str) -> None:
    model, value = SHAPES[operation]
    assert understand(model, value)
    tried = 0
    for at, how in places(DOCUMENT["operations"][operation]["answer"], value):
        understand(model, changed(value, at, how))
        tried += 1
    assert tried > 3


# What was seen to be null although the description names a value.
SEEN: dict[type[BaseModel], tuple[str, ...]] = {
    _RepositoryAnswer: (
        "archived",
        "disabled",
        "private",
        "permissions",
        "default_branch",
        "html_url",
        "description",
    ),
    _IssueAnswer: (
        "title",
        "body",
        "labels",
        "comments",
        "state",
        "user",
        "html_url",
        "repository_url",
        "pull_request",
    ),
    _PullRequestAnswer: ("title", "body", "draft", "merged_at", "user", "labels", "state"),
    _CommentAnswer: ("body", "user"),
}


@pytest.mark.parametrize("how", ["null", "absent"])
@pytest.mark.parametrize("model", SEEN)
def test_what_was_seen_to_be_null(model: type[BaseModel], how: str) -> None:
    value = next(shape for known, shape in SHAPES.values() if known is model)
    for name in SEEN[model]:
        if name in value:
            understand(model, changed(value, (name,), how))
    everything = {**value, **dict.fromkeys(SEEN[model])}
    assert understand(model, everything)


def test_nulls_mean_no_and_nothing(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    value = answers.repository(repo, {"push": True})
    github.fail("GET", "^/repos/octo/sample$", status=200, body={**value, "archived": None, "disabled": None})
    assert GitHubRepositoryClient(gh).verify_repository_access(REFERENCE).can_push
    github.fail("GET", "^/repos/octo/sample$", status=200, body={**value, "permissions": None})
    assert not GitHubRepositoryClient(gh).verify_repository_access(REFERENCE).can_push
    item = answers.issue(repo, Issue(3, "T", None, "ann"), 0)
    github.fail("GET", "issues/3", status=200, body={**item, "labels": None, "user": None, "title": None})
    issue = GitHubIssueClient(gh).read_issue(REFERENCE, "3")
    assert (issue.issue_title, issue.issue_body, issue.issue_labels) == ("", "", ())
    github.fail(
        "GET", "issues/3", status=200, body={**item, "labels": [None, {"name": None}, "x", {"name": "y"}]}
    )
    assert GitHubIssueClient(gh).read_issue(REFERENCE, "3").issue_labels == ("x", "y")
