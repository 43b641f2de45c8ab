"""Checks of the way to GitHub: the gh program and its login. Nothing is changed there."""

import re
import shutil

from github_app.errors import GhMissing, GitHubAccessDenied, GitHubError, GitHubUnavailable
from github_app.gh import GhCli
from sandboxes.findings import Finding, failed, ok, warning

_LOCAL_ONLY = "Only needed for repositories on GitHub; local ones work without."


def check_github(gh: GhCli, *, search_path: str, expected: bool) -> list[Finding]:
    """Whether gh starts and GitHub accepts its login, each within the client's time-out.

    `expected`: without it the server cannot do its job; else whatever is missing is a warning.
    """
    program = shutil.which("gh", path=search_path)
    if program is None:
        missing = GhMissing("GitHub's CLI, gh, is not on the server's PATH.")
        return [_problem("gh", missing, expected)]
    return [ok("gh", f"at {program}"), _check_login(gh, expected)]


def _check_login(gh: GhCli, expected: bool) -> Finding:
    try:
        who = _login(gh)
    except GitHubError as error:
        return _problem("GitHub login", error, expected)
    return ok("GitHub login", who)


def _login(gh: GhCli) -> str:
    """Who GitHub takes this server for. An app's token has no user, but everybody has a rate limit."""
    try:
        answer = gh.api("GET", "user")
    except GitHubAccessDenied:
        gh.api("GET", "rate_limit")
        return "an app's token, which GitHub accepts"
    login = answer.get("login") if isinstance(answer, dict) else None
    if isinstance(login, str) and re.fullmatch(r"[\w\[\].-]{1,100}", login):
        return f"logged in as {login}"
    return "GitHub accepts the token"


def _problem(name: str, error: GitHubError, expected: bool) -> Finding:
    advice = error.advice
    if isinstance(error, GitHubUnavailable):
        advice = "Check this machine's network and proxy settings, WORKORDERS_GITHUB_HOST, and GitHub's status page."
    if expected:
        return failed(name, str(error), advice)
    return warning(name, str(error), f"{_LOCAL_ONLY} {advice}")
