"""Fixtures of the end-to-end tests: two databases, GitHub and git over the wire, a scripted model."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.fakes.git_http import FakeGitServer
from tests.fakes.github import FakeGitHub, Repository
from tests.fakes.messages_api import MessagesApi, work_order_script
from tests.support import require_program

TOKEN = "ghp_endToEndTestToken0123456789abcdefghij"
MODEL_KEY = "sk-ant-end-to-end-test-key"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every end-to-end test that asks for it runs on both databases."""
    if request.param == "sqlite":
        yield ""
        return
    with fresh_postgres(request.getfixturevalue("postgres_url")) as url:
        yield url


@contextmanager
def fresh_postgres(server_url: str) -> Iterator[str]:
    """A database of its own on that server, gone afterwards."""
    name = f"wo_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield server_url.rsplit("/", 1)[0] + f"/{name}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@dataclass
class World:
    """Everything outside the server: GitHub's API, its git, the model."""

    github: FakeGitHub
    git: FakeGitServer
    model: MessagesApi
    environment: dict[str, str]

    def add_repository(self, owner: str = "acme", name: str = "widgets", **values: object) -> Repository:
        self.git.create_repository(owner, name, {"README.md": "# Widgets\n"})
        return self.github.add_repository(owner, name, **values)


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """All of it at work; the bare repositories are below `folder`."""
    require_program("gh")
    require_program("bwrap")
    with ExitStack() as stack:
        git = stack.enter_context(FakeGitServer(folder / "remotes"))
        github = stack.enter_context(FakeGitHub(branch_sha=git.branch_sha))
        model = stack.enter_context(MessagesApi(work_order_script()))
        git.add_token(TOKEN)
        github.add_token(TOKEN)
        environment = {
            "GH_TOKEN": TOKEN,
            "GH_CONFIG_DIR": str(github.gh_config_dir),
            "WORKORDERS_GITHUB_GIT_BASE_URL": git.base_url,
            "ANTHROPIC_API_KEY": MODEL_KEY,
            "ANTHROPIC_BASE_URL": model.url,
        }
        yield World(github, git, model, environment)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path) as found:
        yield found
