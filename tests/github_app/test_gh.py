import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from github_app import errors
from github_app.errors import GitHubError
from github_app.gh import REFUSALS, GhCli, parse_answer, retry_after_seconds
from tests.fakes.github import FakeGitHub, Repository
from tests.github_app.conftest import TOKEN
from workorders import wiring
from workorders.text import redaction

SECONDARY = {
    "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
}
ABUSE = {"message": "You have triggered an abuse detection mechanism."}
PRIMARY = {"message": "API rate limit exceeded for user ID 1."}
AN_HOUR_AGO = str(int(time.time()) - 3600)


def test_reads_json_and_sends_what_github_asks_for(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    assert gh.api("GET", "repos/octo/sample")["full_name"] == "octo/sample"
    request = github.requests[0]
    assert request.token == TOKEN
    assert request.headers["Accept"] == "application/vnd.github+json"
    assert {name.lower(): value for name, value in request.headers.items()}[
        "x-github-api-version"
    ] == "2022-11-28"


def test_body_travels_as_json_on_standard_input(gh: GhCli, github: FakeGitHub, repo: Repository) -> None:
    issue = github.add_issue(repo, "Broken")
    text = 'Quote " and {owner} @file\nline two é 😀'
    gh.api("POST", f"repos/octo/sample/issues/{issue.number}/comments", fields={"body": text})
    assert repo.comments[0].body == text


def test_what_is_sent_and_what_comes_back_holds_no_secret(
    make_gh: Callable[..., GhCli], github: FakeGitHub, repo: Repository
) -> None:
    gh = make_gh(redact=lambda text: text.replace("a-secret", "[masked]"))
    issue = github.add_issue(repo, "Broken")
    path = f"repos/octo/sample/issues/{issue.number}/comments"
    gh.api("POST", path, fields={"body": "It is a-secret."})
    assert repo.comments[0].body == "It is [masked]."
    github.fail("GET", "user", status=422, body={"message": "No a-secret here"})
    with pytest.raises(GitHubError) as caught:
        gh.api("GET", "user")
    assert "No [masked] here" in str(caught.value)
    assert wiring.gh_cli()._settings.redact is redaction.redact


def test_path_is_quoted_and_placeholders_mean_nothing(gh: GhCli, github: FakeGitHub) -> None:
    with pytest.raises(errors.GitHubNotFound):
        gh.api("GET", "repos/{owner}/a b?x=1", query={"head": "o:a&b"})
    assert (github.requests[0].path, github.requests[0].query) == (
        "/repos/{owner}/a b?x=1",
        {"head": "o:a&b"},
    )


@pytest.mark.parametrize(
    ("fault", "error", "seconds"),
    [
        ({"status": 401}, errors.GitHubTokenInvalid, None),
        ({"status": 403}, errors.GitHubAccessDenied, None),
        ({"status": 404}, errors.GitHubNotFound, None),
        ({"status": 410}, errors.GitHubNotFound, None),
        ({"status": 451}, errors.GitHubNotFound, None),
        ({"status": 400}, errors.GitHubRejected, None),
        ({"status": 409}, errors.GitHubRejected, None),
        ({"status": 422}, errors.GitHubRejected, None),
        ({"status": 429, "headers": {"Retry-After": "17"}}, errors.GitHubRateLimited, 17),
        ({"status": 429}, errors.GitHubRateLimited, None),
        ({"status": 429, "body": "<html>slow down</html>"}, errors.GitHubRateLimited, None),
        ({"status": 403, "body": SECONDARY, "headers": {"Retry-After": "60"}}, errors.GitHubRateLimited, 60),
        ({"status": 403, "body": SECONDARY}, errors.GitHubRateLimited, None),
        ({"status": 403, "body": ABUSE}, errors.GitHubRateLimited, None),
        ({"status": 403, "headers": {"Retry-After": "5"}}, errors.GitHubRateLimited, 5),
        (
            {
                "status": 403,
                "body": PRIMARY,
                "headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": AN_HOUR_AGO},
            },
            errors.GitHubRateLimited,
            0,
        ),
        ({"status": 500}, errors.GitHubUnavailable, None),
        ({"status": 502, "body": "<html>Bad gateway</html>"}, errors.GitHubUnavailable, None),
        ({"status": 503}, errors.GitHubUnavailable, None),
        ({"status": 504}, errors.GitHubUnavailable, None),
        ({"drop": True}, errors.GitHubUnavailable, None),
        ({"drop": True, "execute": True}, errors.GitHubUnavailable, None),
        ({"status": 200, "body": "[1", "headers": {"Content-Length": "99"}}, errors.GitHubUnavailable, None),
        ({"status": 200, "body": "<html>a proxy</html>"}, errors.GitHubAnswerInvalid, None),
        ({"status": 200, "body": "[" * 200_000}, errors.GitHubAnswerInvalid, None),
        ({"status": 418}, errors.GitHubAnswerInvalid, None),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else None,
)
def test_each_fault_is_one_typed_error(
    gh: GhCli,
    github: FakeGitHub,
    repo: Repository,
    fault: dict[str, Any],
    error: type[GitHubError],
    seconds: float | None,
) -> None:
    github.fail("GET", "^/repos/octo/sample$", **fault)
    with pytest.raises(GitHubError) as caught:
        gh.api("GET", "repos/octo/sample")
    assert type(caught.value) is error
    passing = {errors.GitHubRateLimited, errors.GitHubUnavailable, errors.GitHubAnswerInvalid}
    assert caught.value.retryable is (error in passing)
    assert TOKEN not in f"{caught.value}{caught.value!r}"
    if isinstance(caught.value, errors.GitHubRateLimited):
        assert caught.value.retry_after_seconds == seconds


def test_time_out_is_unavailable(make_gh: Callable[..., GhCli], github: FakeGitHub, repo: Repository) -> None:
    github.fail("GET", "sample", delay_seconds=3)
    started = time.monotonic()
    with pytest.raises(errors.GitHubUnavailable, match=r"within 0\.5 seconds"):
        make_gh(timeout_seconds=0.5).api("GET", "repos/octo/sample")
    assert time.monotonic() - started < 2.8


def test_wrong_token(make_gh: Callable[..., GhCli], repo: Repository) -> None:
    with pytest.raises(errors.GitHubTokenInvalid, match="Bad credentials"):
        make_gh(token="ghp_wrong").api("GET", "repos/octo/sample")


def test_nobody_listens(make_gh: Callable[..., GhCli], tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("http_unix_socket: /tmp/nobody-listens-here\n")
    with pytest.raises(errors.GitHubUnavailable):
        make_gh(config_dir=tmp_path).api("GET", "user")


def test_gh_missing(make_gh: Callable[..., GhCli], tmp_path: Path) -> None:
    cli = make_gh(search_path=str(tmp_path), token="")
    for call in (lambda: cli.api("GET", "user"), cli.auth_token):
        with pytest.raises(errors.GhMissing):
            call()


@pytest.mark.parametrize("path", ["user", "repos/octo/hidden"])
def test_nobody_logged_in(make_gh: Callable[..., GhCli], github: FakeGitHub, path: str) -> None:
    github.add_repository("octo", "hidden", is_private=True)
    cli = make_gh(token="")
    assert cli.auth_token() == ""
    with pytest.raises(errors.GhNotLoggedIn):
        cli.api("GET", path)


def test_newer_gh_says_so_by_its_exit_code(make_gh: Callable[..., GhCli], tmp_path: Path) -> None:
    program = tmp_path / "gh"
    program.write_text("#!/bin/sh\necho 'To get started, please run: gh auth login' >&2\nexit 4\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(errors.GhNotLoggedIn):
        make_gh(search_path=f"{tmp_path}:/bin").api("GET", "user")


def test_ghs_own_login_is_used_where_no_token_is_set(
    make_gh: Callable[..., GhCli], github: FakeGitHub, repo: Repository
) -> None:
    hosts = f"github.com:\n    user: robot\n    oauth_token: {TOKEN}\n    git_protocol: https\n"
    (github.gh_config_dir / "hosts.yml").write_text(hosts)
    cli = make_gh(token="")
    assert cli.auth_token() == TOKEN
    assert cli.api("GET", "user")["login"] == "robot"


def test_enterprise_host_has_its_own_address_and_token(
    make_gh: Callable[..., GhCli], github: FakeGitHub, repo: Repository
) -> None:
    cli = make_gh(host="ghe.example.com")
    assert cli.api("GET", "repos/octo/sample")["name"] == "sample"
    assert github.requests[0].headers["Host"] == "ghe.example.com"
    assert github.requests[0].token == TOKEN
    assert "GH_TOKEN" not in cli.environment()


def test_environment_is_only_what_is_named(
    gh: GhCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GH_DEBUG", "api")
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    assert set(gh.environment()) == {
        *("PATH", "HOME", "GH_HOST", "GH_CONFIG_DIR", "GH_TOKEN", "GH_NO_UPDATE_NOTIFIER"),
        *("GH_PROMPT_DISABLED", "GH_PAGER", "PAGER", "NO_COLOR"),
    }
    assert gh.environment()["HOME"] == str(tmp_path)


def test_the_running_gh_has_no_secret_in_its_arguments_and_none_of_the_servers_environment(
    gh: GhCli, github: FakeGitHub, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    github.add_issue(repo, "Broken")
    github.fail("POST", "comments", delay_seconds=1)
    done = Event()

    def post() -> None:
        gh.api("POST", "repos/octo/sample/issues/1/comments", fields={"body": "the user's text"})
        done.set()

    Thread(target=post, daemon=True).start()
    seen = b""
    environ = b""
    while not done.is_set() and not environ:
        for entry in children_of(os.getpid()):
            line = read(entry / "cmdline")
            if b"\0api\0" in line:
                seen, environ = line, read(entry / "environ")
        time.sleep(0.02)
    assert done.wait(10)
    assert b"issues/1/comments" in seen
    assert TOKEN.encode() not in seen
    assert b"the user's text" not in seen
    assert b"SECRET_OF_THE_SERVER" not in environ
    assert f"GH_TOKEN={TOKEN}".encode() in environ


def children_of(pid: int) -> list[Path]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and f"PPid:\t{pid}\n".encode() in read(entry / "status"):
            found.append(entry)
    return found


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process ended meanwhile
        return b""


def test_token_that_a_server_repeats_is_not_shown(gh: GhCli, github: FakeGitHub) -> None:
    github.fail("GET", "user", status=422, body={"message": f"no {TOKEN} \x1b[31m"})
    with pytest.raises(errors.GitHubRejected, match=r"no \[token\]") as caught:
        gh.api("GET", "user")
    assert "\x1b" not in str(caught.value)
    assert TOKEN not in repr(gh._settings)


def test_pages_end_at_the_first_that_is_not_full_and_are_bounded(
    gh: GhCli, github: FakeGitHub, repo: Repository
) -> None:
    for number in range(230):
        github.add_issue(repo, f"Issue {number}")
    path = "repos/octo/sample/issues"
    assert [len(page) for page in gh.pages(path)] == [100, 100, 30]
    assert [len(page) for page in gh.pages(path, max_pages=2)] == [100, 100]


def test_answer_larger_than_accepted(gh: GhCli, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("github_app.gh._OUTPUT_BYTES", 10_000)
    github.fail("GET", "user", status=200, body={"x": "y" * 20_000})
    with pytest.raises(errors.GitHubAnswerInvalid, match="larger"):
        gh.api("GET", "user")


@pytest.mark.parametrize(
    "output", [b"", b"\n\n", b"oops", b"HTTP/1.1", b"HTTP/1.1 xx OK\n\n", b"HTTP/1.1 20 x\n\n"]
)
def test_no_answer(output: bytes) -> None:
    assert parse_answer(output) is None


def test_answer_without_headers_and_with_odd_ones() -> None:
    answer = parse_answer(b"HTTP/2.0 200 OK\n\r\n{}")
    assert answer is not None
    assert (answer.status, answer.headers, answer.value) == (200, {}, {})
    answer = parse_answer(b"HTTP/2.0 200 OK\nX-A: b: c\r\nnonsense\r\n\r\n[1]")
    assert answer is not None
    assert answer.headers == {"x-a": "b: c", "nonsense": ""}


def test_wait_is_counted_by_githubs_clock() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225690"}
    assert retry_after_seconds({**headers, "date": "Thu, 01 Jan 2026 00:00:00 GMT"}) == 90
    assert retry_after_seconds({**headers, "x-ratelimit-remaining": "12"}) is None
    assert retry_after_seconds({"retry-after": "9" * 400}) == 24 * 3600
    assert retry_after_seconds({"retry-after": "soon"}) is None
    assert retry_after_seconds({}) is None


def test_table_has_advice_and_a_category_of_its_own_for_each_error() -> None:
    assert all(row.error.advice and row.error.category != GitHubError.category for row in REFUSALS)
