import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from github_app.references import (
    MAX_BRANCH_LENGTH,
    ReferenceInvalid,
    RepositoryReference,
    parse_issue_number,
    parse_link,
    parse_repository_reference,
    validate_branch_name,
)
from tests.support import require_program

GITHUB = "github.com"


def parse(text: str, *, github_host: str = GITHUB, allow_local: bool = False) -> RepositoryReference:
    return parse_repository_reference(text, github_host=github_host, allow_local=allow_local)


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/octo/sample",
        "https://github.com/octo/sample/",
        "https://github.com/octo/sample.git",
        "https://github.com/octo/sample.git/",
        "https://GitHub.com/octo/sample",
        "git@github.com:octo/sample.git",
        "git@github.com:octo/sample",
        "octo/sample",
        "octo/sample.git",
    ],
)
def test_every_accepted_spelling_is_one_repository(text: str) -> None:
    reference = parse(text)
    assert reference == RepositoryReference(GITHUB, "octo", "sample")
    assert reference.full_name == "octo/sample"
    assert reference.repository_url == "https://github.com/octo/sample"
    assert reference.clone_url("http://127.0.0.1:1234/") == "http://127.0.0.1:1234/octo/sample.git"
    assert reference.key == Path("github.com/octo/sample")
    assert not reference.is_local


@pytest.mark.parametrize(
    ("text", "issue", "pull"),
    [
        ("https://github.com/octo/sample/issues/3", "3", ""),
        ("https://github.com/octo/sample/issues/3/", "3", ""),
        ("https://github.com/octo/sample/issues/3#issuecomment-1234", "3", ""),
        ("https://github.com/octo/sample/issues/3?notification_referrer_id=NT_x#issue-9", "3", ""),
        ("HTTPS://GITHUB.COM/octo/sample/issues/3", "3", ""),
        ("https://www.github.com/octo/sample/issues/3", "3", ""),
        ("octo/sample#3", "3", ""),
        ("https://github.com/octo/sample/issues/3,", "3", ""),
        ("https://github.com/octo/sample/issues/3).", "3", ""),
        ("https://github.com/octo/sample/issues/3**", "3", ""),
        ("https://github.com/octo/sample/pull/3>", "", "3"),
        ("https://github.com/octo/sample/agents", "", ""),
        ("https://github.com/octo/sample/archive/refs/heads/main.zip", "", ""),
        ("https://github.com/octo/sample/pull/3", "", "3"),
        ("https://github.com/octo/sample/pull/3/files#diff-0", "", "3"),
        ("https://github.com/octo/sample/pull/3/commits/abc", "", "3"),
        ("https://github.com/octo/sample/issues", "", ""),
        ("https://github.com/octo/sample/issues/new/choose", "", ""),
        ("https://github.com/octo/sample/issues?q=is%3Aopen", "", ""),
        ("https://github.com/octo/sample/pulls", "", ""),
        ("https://github.com/octo/sample/tree/main", "", ""),
        ("https://github.com/octo/sample/tree/feature/x/src", "", ""),
        ("https://github.com/octo/sample/blob/main/a%20b/README.md#L1-L9", "", ""),
        ("https://github.com/octo/sample/commit/0123abc", "", ""),
        ("https://github.com/octo/sample/actions/runs/1", "", ""),
        ("https://github.com/octo/sample?tab=readme-ov-file#install", "", ""),
        ("https://github.com/octo/sample#readme", "", ""),
        ("https://github.com/octo/sample/#readme", "", ""),
        ("ssh://git@github.com/octo/sample.git", "", ""),
        ("SSH://git@github.com/octo/sample.git/", "", ""),
        ("https://github.com/octo/sample.git/", "", ""),
        ("https://www.github.com/octo/sample.git", "", ""),
    ],
)
def test_a_pasted_link_names_the_repository_and_what_it_shows_of_it(text: str, issue: str, pull: str) -> None:
    link = parse_link(text, github_host=GITHUB, allow_local=False)
    assert link.repository == RepositoryReference(GITHUB, "octo", "sample")
    assert (link.issue_number, link.pull_request_number) == (issue, pull)
    assert parse(text) == link.repository
    assert link.is_plain is (text.lower().startswith(("https://github.com/octo/sample.git", "ssh:")))


def test_a_repository_called_like_a_page_or_an_account_of_an_enterprise() -> None:
    assert parse("https://github.com/issues/pull").full_name == "issues/pull"
    assert parse("https://github.com/ann_corp/x/issues/3").full_name == "ann_corp/x"


@pytest.mark.parametrize("name", [".github", "a.b", "_x", "a-", "x" * 100, "git", ".gitignore", "a.git.b"])
def test_unusual_but_legal_names(name: str) -> None:
    assert parse(f"octo/{name}").name == name


@pytest.mark.parametrize("text", ["octo/sample", "https://ghe.example.com/octo/sample"])
def test_enterprise_host(text: str) -> None:
    assert parse(text, github_host="ghe.example.com").repository_url == "https://ghe.example.com/octo/sample"


def test_another_github_than_the_servers_own_is_refused() -> None:
    with pytest.raises(ReferenceInvalid, match=r"works with ghe\.example\.com"):
        parse("https://github.com/octo/sample", github_host="ghe.example.com")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("https://gitlab.com/o/r", "not with gitlab.com"),
        ("https://github.com.evil.com/o/r", "not with github.com.evil.com"),
        ("https://www.gitlab.com/o/r", "not with www.gitlab.com"),
        ("https://www.www.github.com/o/r", "not with"),
        ("http://github.com/o/r", "not an https"),
        ("HTTP://github.com/o/r", "not an https"),
        ("HTTPS://evil.example/o/r", "not with evil.example"),
        ("ssh://git@github.com/o/r", "understands"),
        ("ssh://root@github.com/o/r.git", "not an https"),
        ("ssh://git@evil.example/o/r.git", "not with evil.example"),
        ("ssh://git@github.com:22/o/r.git", "port"),
        ("git://github.com/o/r", "not an https"),
        ("ext::sh -c id", "transport helper"),
        ("https://user@github.com/o/r", "user name"),
        ("https://user:secret@github.com/o/r", "user name"),
        ("root@github.com:o/r", "user name"),
        ("https://github.com:8443/o/r", "port"),
        ("git@github.com:22/o/r", "port"),
        ("https://github.com/o/r?x=1", "query"),
        ("https://github.com/o/r#x", "query or fragment"),
        ("https://github.com/o/r/nonsense", "understands"),
        ("https://github.com/o/r/tree/../../x/y", "holds '..'"),
        ("https://github.com/o/r/tree/ma in", "understands"),
        ("https://github.com/o/r/issues/3\n", "control characters"),
        ("https://github.com/o/r/issues/99999999999999", "no number on GitHub"),
        ("https://github.com/o/r/issues/9999999999", "no number on GitHub"),
        ("o/r#0", "no number on GitHub"),
        ("o/r#x", "query or fragment"),
        ("o/r/issues/3", "understands"),
        ("https://github.com/o", "understands"),
        ("https://github.com//o/r", "understands"),
        ("https://github.com/o/r//", "understands"),
        ("github.com/o/r", "understands"),
        ("o", "understands"),
        ("o/r/", "understands"),
        ("o /r", "understands"),
        (" o/r", "understands"),
        ("o/../r", "holds '..'"),
        ("../r", "holds '..'"),
        ("o/..", "no repository name"),
        ("o/.", "no repository name"),
        ("o/.git", "understands|no repository name"),
        ("o/r.git.git", "no repository name"),
        ("o/r.GIT", "no repository name"),
        ("-o/r", "starts with '-'"),
        ("--upload-pack=x/r", "starts with '-'"),
        ("o/-r", "understands"),
        ("https://github.com/-o/r", "understands"),
        ("o/r@{1}", "holds '@{'"),
        ("o/r\n", "control characters"),
        ("o/r\nx", "control characters"),
        ("o/\x00r", "control characters"),
        ("o/r\x7f", "control characters"),
        ("o/ré", "beyond ASCII"),
        ("оcto/sample", "beyond ASCII"),
        ("o/r\ud800", "beyond ASCII"),
        ("o/%2e%2e", "percent"),
        ("o\\r/x", "understands"),
        ("o" * 40 + "/r", "understands"),
        ("o/" + "r" * 101, "understands"),
        ("o/" + "r" * 5000, "at most"),
        ("/srv/repo.git", "not allowed on this server"),
        ("file:///srv/repo.git", "not allowed on this server"),
    ],
)
def test_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ReferenceInvalid, match=reason):
        parse(text)


@pytest.mark.parametrize(
    "text", ["/srv/git/sample.git", "file:///srv/git/sample.git", "/srv/git/sample.git/"]
)
def test_local_repository_where_allowed(text: str) -> None:
    reference = parse(text, allow_local=True)
    assert reference.is_local
    assert (reference.host, reference.owner, reference.name) == ("", "", "sample")
    assert reference.full_name == reference.repository_url == "/srv/git/sample.git"
    assert reference.clone_url("https://github.com") == "/srv/git/sample.git"
    assert re.fullmatch(r"_local/[0-9a-f]{16}", str(reference.key))


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "file://",
        "file://host/srv/x",
        "file:/srv/x",
        "/srv/../etc",
        "/srv/./x",
        "//srv/x",
        "/srv//x",
        "/srv/-x",
        "/srv/a@{1}",
        "/srv/a\nb",
        "/srv/a\x00b",
        "/srv/a:b",
        "/srv/%2e%2e",
        "/srv/é",
        "file:///srv/x?y",
        "/" + "x" * 600,
    ],
)
def test_local_paths_that_are_refused(text: str) -> None:
    with pytest.raises(ReferenceInvalid):
        parse(text, allow_local=True)


def test_mirror_keys_follow_githubs_ignorance_of_case_and_do_not_collide() -> None:
    assert parse("Octo/Sample").key == parse("octo/sample").key
    paths = ["/srv/a", "/srv/A", "/srv/a.git"]
    assert len({parse(path, allow_local=True).key for path in paths}) == len(paths)


@given(
    st.text(max_size=60) | st.from_regex(r"(https://github\.com/|git@github\.com:)?[\w.-]+/[\w.-]+(\.git)?/?")
)
@example("o/r\n")
@example("a/b.git")
def test_whatever_is_accepted_is_safe_and_means_itself(text: str) -> None:
    try:
        reference = parse(text)
    except ReferenceInvalid:
        return
    assert parse(reference.repository_url) == reference
    assert parse(reference.full_name) == reference
    url = reference.clone_url("https://github.com")
    assert re.fullmatch(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+\.git", url)
    assert ".." not in reference.key.parts
    assert len(reference.key.parts) == 3


@pytest.mark.parametrize(("value", "number"), [("42", "42"), ("#42", "42"), (42, "42"), ("007", "7")])
def test_issue_number(value: str | int, number: str) -> None:
    assert parse_issue_number(value) == number


@pytest.mark.parametrize(
    "value",
    ["", "#", "0", 0, -1, "-1", "+1", "1.0", " 1", "1\n", "٤٢", "##1", "x", "2147483648", 10**400, True],
)
def test_issue_number_refused(value: str | int) -> None:
    with pytest.raises(ReferenceInvalid):
        parse_issue_number(value)


@pytest.mark.parametrize("name", ["main", "feat-wo-abc123", "feat/x", "release/1.0", "a@b", "x.y", "@a"])
def test_branch_name(name: str) -> None:
    assert validate_branch_name(name) == name


REFUSED_BY_GIT = [
    *("", "-x", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", "a@{1}"),
    *(".a", "a/.b", "a.lock", "a.lock/b", "a.", "a\n", "a\x7f"),
]
REFUSED_BEYOND_GIT = ["@", "HEAD", "a\x00", "refs/heads/x", "é", "x" * (MAX_BRANCH_LENGTH + 1)]


@pytest.mark.parametrize("name", [*REFUSED_BY_GIT, *REFUSED_BEYOND_GIT])
def test_branch_name_refused(name: str) -> None:
    with pytest.raises(ReferenceInvalid):
        validate_branch_name(name)


def git_accepts(name: str) -> bool:
    command = [require_program("git"), "check-ref-format", "--branch", name]
    return subprocess.run(command, env={}, cwd="/", capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", REFUSED_BY_GIT)
def test_git_refuses_these_too(name: str) -> None:
    assert not git_accepts(name)


@pytest.mark.parametrize(
    "name", ["main", "feat/x", "a@b", "@a", "x.y", "a-", "a{b", "a}b", "a'b", "a$b", "a;b"]
)
def test_git_accepts_what_is_accepted(name: str) -> None:
    assert git_accepts(validate_branch_name(name))
