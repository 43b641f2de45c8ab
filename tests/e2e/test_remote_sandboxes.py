"""Orders in sandboxes elsewhere, with the real server and SDK against stand-ins of the services."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.e2e.harness import LiveServer, processes_with, wait_for
from tests.fakes.e2b import FakeE2B
from tests.fakes.machine import Template
from tests.support import require_program

pytestmark = pytest.mark.e2e
AGENT = Path(__file__).with_name("scripted_agent.py")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[FakeE2B]:
    """E2B, whose template has Python on its PATH."""
    require_program("bwrap")
    programs = tmp_path / "template"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    with FakeE2B(template=Template((programs,), f"{programs}:/usr/bin:/bin")) as service:
        yield service


@pytest.fixture
def live(tmp_path: Path, world: World, cloud: FakeE2B) -> Iterator[LiveServer]:
    world.add_repository()
    environment = {
        **world.environment,
        **cloud.environment,
        "WORKORDERS_AGENT_COMMAND": f"{sys.executable} {AGENT}",
        "WORKORDERS_LEASE_SECONDS": "6",
    }
    with LiveServer(tmp_path / "server", environment) as server:
        yield server


def ordered(server: LiveServer, request: str, **fields: str) -> str:
    asked = {"sandbox_type": "e2b", "repository_url": "acme/widgets", "initial_prompt": request, **fields}
    order_id: str = server.create(**asked)["agent_work_order_id"]
    return order_id


def said(server: LiveServer, order_id: str, times: int = 1) -> None:
    def look() -> bool:
        return server.events(order_id).count("agent_message") >= times

    try:
        wait_for(look, 150, f"the agent of {order_id}")
    except AssertionError:
        print(server.tail())
        raise


def test_an_order_in_a_cloud_sandbox(live: LiveServer, world: World, cloud: FakeE2B) -> None:
    """All phases in one machine; then, with no machine left, a cancel and a machine that vanishes."""
    order_id = ordered(live, "agent: say started\nagent[implementing]: sleep 2")
    said(live, order_id)
    seen = wait_for(lambda: live.order(order_id)["sandbox_handle"], 30, "the sandbox's name")
    order = live.completed(order_id, 120)
    assert cloud.killed == [seen]
    assert (order["sandbox_state"], order["sandbox_handle"], order["git_commit_count"]) == (
        "removed",
        seen,
        3,
    )
    history = live.http.get(f"/api/agent-work-orders/{order_id}/git-progress").json()["phase_history"]
    assert history[0]["sandbox_start_seconds"] > 0
    assert seen in live.http.get(f"/work-orders/{order_id}/").text
    (created,) = [item for item in cloud.seen if item.method == "POST" and item.path == "/v2/sandboxes"]
    assert order_id.encode() in created.body
    assert b'"dnsServers":[]' in created.body
    logged = b"".join(item.body for item in cloud.seen if not item.path.startswith("/files"))
    everything = b"".join(item.body for item in cloud.seen)
    assert world.environment["ANTHROPIC_API_KEY"].encode() not in logged
    assert world.environment["GH_TOKEN"].encode() not in everything

    marker = f"marker-{time.monotonic_ns()}"
    order_id = ordered(live, f"agent: say started\nagent: run setsid sleep 300 {marker} & sleep 300; true")
    said(live, order_id)
    started = time.monotonic()
    live.http.post(f"/api/agent-work-orders/{order_id}/cancel")
    wait_for(lambda: not processes_with(f"300\0{marker}"), 10, "the end of the remote process")
    assert time.monotonic() - started < 5
    assert live.finished(order_id, 30)["status"] == "cancelled"
    assert not cloud.sandboxes

    order_id = ordered(
        live, "agent: say started\nagent[implementing#1]: sleep 60", workflow_type="agent_workflow_build"
    )
    said(live, order_id)
    cloud.vanish(next(iter(cloud.sandboxes)))
    order = live.completed(order_id, 120)
    runs = [entry for entry in live.logs(order_id) if entry["event"] == "workflow_phase_failed"]
    assert [entry["error_category"] for entry in runs] == ["sandbox_vanished"]
    assert not cloud.sandboxes


def test_a_killed_worker_leaves_no_sandbox_behind(live: LiveServer, cloud: FakeE2B) -> None:
    order_id = ordered(
        live, "agent: say started\nagent[implementing#1]: sleep 60", workflow_type="agent_workflow_build"
    )
    said(live, order_id)
    (first,) = cloud.sandboxes
    for pid in processes_with(str(live.data_dir)):
        os.kill(pid, signal.SIGKILL)
    live.start()
    live.completed(order_id, 120)
    assert first in cloud.killed
    assert not cloud.sandboxes
    assert live.leftovers() == []
