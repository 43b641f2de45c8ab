"""The real gh against a fake GitHub; nothing of the developer's own login or environment is in reach."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from github_app.gh import GhCli, GhSettings
from github_app.references import RepositoryReference
from tests.fakes.github import FakeGitHub, Repository
from tests.support import require_program

TOKEN = "ghp_thisIsTheTokenOfTheTests0123456789"
REFERENCE = RepositoryReference("github.com", "octo", "sample")


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    with FakeGitHub() as fake:
        fake.add_token(TOKEN)
        yield fake


@pytest.fixture
def repo(github: FakeGitHub) -> Repository:
    return github.add_repository("octo", "sample", branches={"main": "1" * 40, "feat-wo-1": "2" * 40})


@pytest.fixture
def make_gh(github: FakeGitHub, tmp_path: Path) -> Callable[..., GhCli]:
    gh = Path(require_program("gh"))
    settings = GhSettings(
        host="github.com",
        token=TOKEN,
        home=tmp_path,
        search_path=str(gh.parent),
        config_dir=github.gh_config_dir,
    )

    def make(**changes: object) -> GhCli:
        return GhCli(replace(settings, **changes))  # type: ignore[arg-type]  # a test names fields freely

    return make


@pytest.fixture
def gh(make_gh: Callable[..., GhCli]) -> GhCli:
    return make_gh()
