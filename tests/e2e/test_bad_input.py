"""Bad input ends in a clear message, category and advice, and leaves nothing behind."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import TOKEN, World, running_world
from tests.e2e.harness import Json, LiveServer
from tests.fakes.git_http import create_bare_repository, git
from tests.fakes.messages_api import Refusal, always
from tests.support import require_program

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("bad-input")]


@dataclass(frozen=True)
class Case:
    """`arrange` makes the bad situation for a repository of acme; `category` is what the order must end with."""

    name: str
    arrange: Callable[[World, str], object]
    category: str
    request: Json = field(default_factory=dict)
    words: str = ""


def nothing(_world: World, _name: str) -> None:
    """The repository is not there at all."""


def usual(world: World, name: str) -> None:
    world.add_repository(name=name)


def private_to_others(world: World, name: str) -> None:
    repository = world.add_repository(name=name, is_private=True)
    world.github.accounts[TOKEN].access[repository.full_name] = "none"


def read_only(world: World, name: str) -> None:
    repository = world.add_repository(name=name)
    world.github.accounts[TOKEN].access[repository.full_name] = "read"


def read_only_for_git(world: World, name: str) -> None:
    world.add_repository(name=name)
    world.git.add_token(TOKEN, "read")


def bad_token(world: World, name: str) -> None:
    world.add_repository(name=name)
    del world.github.accounts[TOKEN]
    world.git.remove_token(TOKEN)


def empty(world: World, name: str) -> None:
    world.github.add_repository("acme", name)
    git("init", "--quiet", "--bare", str(world.git.repository_path("acme", name)))


def head_points_nowhere(world: World, name: str) -> None:
    world.add_repository(name=name)
    git("symbolic-ref", "HEAD", "refs/heads/gone", folder=world.git.repository_path("acme", name))


CASES = [
    Case("unknown repository", nothing, "repository_not_found"),
    Case("no access", private_to_others, "repository_not_found"),
    Case("no push right", read_only, "push_permission_missing", words="may not push"),
    Case("token of git may only read", read_only_for_git, "repository_access_denied"),
    Case("bad token", bad_token, "github_token_invalid", words="token"),
    Case("empty repository", empty, "repository_empty", words="empty"),
    Case("no default branch", head_points_nowhere, "base_branch_missing"),
    Case("missing base branch", usual, "base_branch_missing", {"base_branch": "nope"}, "nope"),
    Case("missing issue", usual, "issue_not_found", {"github_issue_number": "77"}, "77"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, LiveServer]]:
    """One world and one server for all cases, which have a repository each."""
    with (
        running_world(tmp_path_factory.mktemp("world")) as world,
        LiveServer(tmp_path_factory.mktemp("server"), world.environment) as server,
    ):
        yield world, server


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_explained(shared: tuple[World, LiveServer], case: Case) -> None:
    world, server = shared
    world.github.add_token(TOKEN)
    world.git.add_token(TOKEN)
    name = case.name.replace(" ", "-")
    case.arrange(world, name)
    order = server.create(repository_url=f"acme/{name}", **case.request)
    expect_failure(server, world, order["agent_work_order_id"], case.category, case.words)


def test_an_agent_that_is_not_there(tmp_path: Path, world: World) -> None:
    world.add_repository()
    environment = {**world.environment, "WORKORDERS_AGENT_COMMAND": "no-such-agent"}
    with LiveServer(tmp_path / "server", environment) as server:
        order = server.create(repository_url="acme/widgets")
        expect_failure(server, world, order["agent_work_order_id"], "agent_missing", "")


def test_no_credential_for_the_model(tmp_path: Path, world: World) -> None:
    claude = require_program("claude")
    world.add_repository()
    environment = {**world.environment, "WORKORDERS_AGENT_COMMAND": claude}
    del environment["ANTHROPIC_API_KEY"]
    with LiveServer(tmp_path / "server", environment) as server:
        order = server.create(repository_url="acme/widgets")
        expect_failure(server, world, order["agent_work_order_id"], "agent_not_logged_in", "credential")


def test_refused_credential_for_the_model(tmp_path: Path, world: World) -> None:
    claude = require_program("claude")
    world.add_repository()
    world.model.script = always(Refusal(403, "permission_error", "Your account may not use this model."))
    with LiveServer(tmp_path / "server", {**world.environment, "WORKORDERS_AGENT_COMMAND": claude}) as server:
        order = server.create(repository_url="acme/widgets")
        expect_failure(server, world, order["agent_work_order_id"], "agent_request_rejected", "")


def test_bubblewrap_missing_refuses_the_agent(tmp_path: Path, world: World) -> None:
    """Without isolation the server refuses agents unless it is told otherwise."""
    world.add_repository()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "gh", "sh"):
        (programs / name).symlink_to(require_program(name))
    environment = {**world.environment, "PATH": f"{programs}:{Path(sys.executable).parent}"}
    with LiveServer(tmp_path / "server", environment) as server:
        order = server.create(repository_url="acme/widgets")
        expect_failure(server, world, order["agent_work_order_id"], "sandbox_unavailable", "bubblewrap")


def expect_failure(server: LiveServer, world: World, order_id: str, category: str, words: str) -> None:
    order = server.finished(order_id)
    assert order["status"] == "failed", order
    assert order["error_category"] == category, (order["error_message"], server.events(order_id))
    assert words.lower() in order["error_message"].lower()
    assert len(order["error_advice"]) > 15
    assert TOKEN not in order["error_message"]
    assert order["github_pull_request_url"] is None
    assert server.leftovers() == []
    bare = world.git.repository_path("acme", order["repository_url"].rpartition("/")[2])
    if (bare / "HEAD").exists():
        assert order_id not in git("branch", "--list", folder=bare)
    assert all(not repository.pull_requests for repository in world.github.repositories.values())


def test_local_repositories_are_refused_unless_allowed(
    tmp_path: Path, shared: tuple[World, LiveServer]
) -> None:
    local = tmp_path / "local.git"
    create_bare_repository(local, {"a.txt": "a"})
    for url in (str(local), f"file://{local}"):
        body = {
            "repository_url": url,
            "sandbox_type": "git_branch",
            "workflow_type": "agent_workflow_plan",
        }
        answer = shared[1].http.post("/api/agent-work-orders", json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == "repository_url"
