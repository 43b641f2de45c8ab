"""GitHub's rate limit is one for all workers: with the real gh, two of them and a fake GitHub on the wire."""

from datetime import timedelta
from pathlib import Path

import pytest

from github_app.errors import GitHubRateLimited
from github_app.gh import GhCli, GhSettings
from github_app.models import GitHubRateLimit
from tests.fakes.github import FakeGitHub
from tests.github_app.conftest import TOKEN, github, repo  # noqa: F401  # fixtures
from tests.support import require_program
from workorders.models.clock import database_now
from workorders.repositories import github_limits
from workorders.repositories.github_limits import SharedRateLimit

pytestmark = pytest.mark.django_db


def worker(github: FakeGitHub, tmp_path: Path, token: str = TOKEN) -> GhCli:  # noqa: F811  # the fixture's name
    """A worker of its own host: it shares nothing with others but the database."""
    gh = Path(require_program("gh"))
    settings = GhSettings("github.com", token, tmp_path, str(gh.parent), github.gh_config_dir)
    return GhCli(settings, SharedRateLimit("github.com", token))


@pytest.mark.usefixtures("repo")
def test_what_one_worker_is_told_all_respect(github: FakeGitHub, tmp_path: Path) -> None:  # noqa: F811  # the fixture's name
    first, second = worker(github, tmp_path), worker(github, tmp_path)
    second.api("GET", "repos/octo/sample")
    github.fail("GET", "sample", status=429, headers={"Retry-After": "120"})
    with pytest.raises(GitHubRateLimited):
        first.api("GET", "repos/octo/sample")
    second._gate._free_until = 0  # type: ignore[union-attr]  # the second that it believes in has passed
    asked = len(github.requests)
    for cli in (first, second):
        with pytest.raises(GitHubRateLimited) as caught:
            cli.api("GET", "repos/octo/sample")
        assert 110 < (caught.value.retry_after_seconds or 0) <= 120
    assert len(github.requests) == asked, "nobody asked GitHub again"
    github.add_token("ghp_other")
    assert worker(github, tmp_path, "ghp_other").api("GET", "repos/octo/sample"), "another token is free"
    row = GitHubRateLimit.objects.get()
    assert TOKEN not in f"{row.token_fingerprint} {row.message}"
    github_limits.forget("github.com")
    assert second.api("GET", "repos/octo/sample")


@pytest.mark.usefixtures("repo")
def test_the_hours_last_request_closes_the_gate_before_a_refusal(
    github: FakeGitHub,  # noqa: F811  # the fixture's name
    tmp_path: Path,
) -> None:
    cli = worker(github, tmp_path)
    reset = str(int(database_now().timestamp()) + 300)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    github.fail("GET", "sample", headers=headers)
    assert cli.api("GET", "repos/octo/sample")
    with pytest.raises(GitHubRateLimited):
        cli.api("GET", "repos/octo/sample")
    assert len(github.requests) == 1


def test_without_a_time_the_pauses_grow_and_are_forgiven() -> None:
    gate = SharedRateLimit("github.com", TOKEN)
    rows = GitHubRateLimit.objects.all()
    pauses = []
    for _ in range(6):
        pauses.append(round(gate.close(None, "Slow down.")))
        assert round(gate.close(None, "Told to another worker at the same moment.")) == pauses[-1]
        rows.update(not_before=database_now() - timedelta(seconds=1))
    assert pauses == [60, 120, 240, 480, 900, 900]
    rows.update(not_before=database_now() - timedelta(hours=2))
    assert round(gate.close(None, "Slow down.")) == 60
    assert round(gate.close(10, "Shorter than what is known.")) == 60
    assert round(gate.close(500, "Longer.")) == 500
