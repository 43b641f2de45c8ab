"""An installation of the last release goes on under this one: nothing is lost, and what was unfinished ends well."""

import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.e2e.harness import ROOT, Json, LiveServer, wait_for
from tests.fakes.git_http import branches, git
from tests.upgrade.installation import Installation, restore

pytestmark = pytest.mark.e2e
SCRIPTED = f"{sys.executable} {ROOT / 'tests' / 'e2e' / 'scripted_agent.py'}"
AT_REST = ("completed", "followed_up", "failed", "prompt_failed", "cancelled")
UNFINISHED = ("running_git_branch", "running_git_worktree", "pending", "waiting")
FOR_EVER = {f"WORKORDERS_KEEP_{name}_DAYS": "36500" for name in ("HOMES", "MIRRORS", "LOGS")}


@pytest.mark.timeout(300)
def test_orders_of_release_0_1_are_kept_and_finished(
    tmp_path: Path,
    world: World,
    database_url: str,
) -> None:
    server = LiveServer(
        tmp_path / "server",
        {
            **world.environment,
            **FOR_EVER,
            "WORKORDERS_AGENT_COMMAND": SCRIPTED,
            "WORKORDERS_LEASE_SECONDS": "6",
        },
        database_url,
    )
    (tmp_path / "server").mkdir()
    old = restore("release-0.1", database_url, world, server.data_dir)
    bare = world.git.repository_path("acme", "widgets")
    main = git("rev-parse", "main", folder=bare)
    with server:
        for name in AT_REST:
            _same(old.orders[name], server.order(old.id_of(name)))
        assert server.order(old.id_of("waiting"))["waiting_reason"]
        _finish(server, old)
        assert git("rev-parse", "main", folder=bare) == main
        _nothing_lost(old, bare)
        _pages_open(server, old)
        _keys_work(server, old)


def _same(before: Json, now: Json) -> None:
    """What the old release answered of an order at rest is still answered; a release may add to it."""
    changed = {
        name: (value, now.get(name, "gone"))
        for name, value in before.items()
        if now.get(name, "gone") != value
    }
    assert not changed


def _finish(server: LiveServer, old: Installation) -> None:
    waiting = old.id_of("waiting")
    answer = server.http.post(
        f"/api/agent-work-orders/{waiting}/approve",
        json={"git_commit_sha": server.order(waiting)["approval_sha"]},
    )
    assert answer.status_code == 202, answer.text
    for name in UNFINISHED:
        assert server.completed(old.id_of(name))["outcome"] in {"pull_request_opened", "branch_pushed"}
    for name in ("failed", "cancelled"):
        answer = server.http.post(f"/api/agent-work-orders/{old.id_of(name)}/retry")
        assert answer.status_code in {200, 202}, answer.text
    for name in ("completed", "followed_up"):
        answer = server.http.post(
            f"/api/agent-work-orders/{old.id_of(name)}/prompt",
            json={"prompt_text": "agent: commit asked.txt"},
        )
        assert answer.status_code in {200, 201, 202}, answer.text
        server.completed(old.id_of(name))
    assert server.finished(old.id_of("failed"))["status"] == "failed"  # its request asks the agent to fail
    cancelled = old.id_of("cancelled")  # its request asks for a long sleep
    wait_for(lambda: server.order(cancelled)["status"] == "running", 30, "the retried order to run")
    server.http.post(f"/api/agent-work-orders/{cancelled}/cancel")
    assert server.finished(cancelled)["status"] == "cancelled"


def _nothing_lost(old: Installation, bare: Path) -> None:
    """Commits nobody had pushed and files nobody had committed are on the branches; one pull request for each."""
    found = branches(bare)
    for kind in ("git_branch", "git_worktree"):
        order = old.orders[f"running_{kind}"]
        names = git("ls-tree", "--name-only", found[order["git_branch_name"]], folder=bare).split()
        assert {f"kept-{kind}.txt", f"left-{kind}.txt", "test_results.json"} <= set(names)
    heads = [item.head_branch for item in old.repository.pull_requests.values()]
    assert len(heads) == len(set(heads))
    assert {order["git_branch_name"] for name, order in old.orders.items() if name in UNFINISHED} <= set(
        heads
    )
    for name in ("completed", "followed_up"):
        branch = old.orders[name]["git_branch_name"]
        assert "asked.txt" in git("ls-tree", "--name-only", found[branch], folder=bare).split()


def _pages_open(server: LiveServer, old: Installation) -> None:
    for path in (
        "/",
        "/repositories/",
        *(f"/work-orders/{order['agent_work_order_id']}/" for order in old.orders.values()),
    ):
        assert server.http.get(path, follow_redirects=True).status_code == 200, path


def _keys_work(server: LiveServer, old: Installation) -> None:
    key = {"Authorization": f"Bearer {old.api_key}"}
    assert server.http.get("/api/agent-work-orders", headers=key).status_code == 200
    wrong = {"Authorization": f"Bearer {old.api_key[:-4]}AAAA"}
    assert server.http.get("/api/agent-work-orders", headers=wrong).status_code == 401
