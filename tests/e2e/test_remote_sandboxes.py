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
from tests.fakes.dagger import FakeDagger
from tests.fakes.e2b import FakeE2B
from tests.fakes.git_http import git
from tests.fakes.machine import Template
from tests.support import require_program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]  # SDKs take seconds to import, in each worker
AGENT = Path(__file__).with_name("scripted_agent.py")


class Cloud:
    """What the tests ask of either service."""

    def __init__(self, service: FakeE2B | FakeDagger) -> None:
        self.service = service
        self.kind = "e2b" if isinstance(service, FakeE2B) else "dagger"

    @property
    def environment(self) -> dict[str, str]:
        return self.service.environment

    @property
    def running(self) -> int:
        return len(self.service.sandboxes) if isinstance(self.service, FakeE2B) else self.service.running

    def vanish(self) -> None:
        """As if the provider's host had died."""
        if isinstance(self.service, FakeDagger):
            self.service.kill_execs()
            return
        for sandbox_id in list(self.service.sandboxes):
            self.service.vanish(sandbox_id)


@pytest.fixture(params=["e2b", "dagger"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    """A service whose template has Python on its PATH."""
    require_program("bwrap")
    programs = tmp_path / "template"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    template = Template((programs,), f"{programs}:/usr/bin:/bin")
    made = FakeE2B(template=template) if request.param == "e2b" else FakeDagger(template=template)
    with made as service:
        yield Cloud(service)


@pytest.fixture
def live(tmp_path: Path, world: World, cloud: Cloud) -> Iterator[LiveServer]:
    world.add_repository()
    environment = {
        **world.environment,
        **cloud.environment,
        "WORKORDERS_AGENT_COMMAND": f"{sys.executable} {AGENT}",
        "WORKORDERS_LEASE_SECONDS": "6",
    }
    with LiveServer(tmp_path / "server", environment) as server:
        yield server


def ordered(server: LiveServer, cloud: Cloud, request: str, workflow: str = "build") -> str:
    asked = {"repository_url": "acme/widgets", "initial_prompt": request, "sandbox_type": cloud.kind}
    order_id: str = server.create(**asked, workflow_type=f"agent_workflow_{workflow}")["agent_work_order_id"]
    return order_id


def said(server: LiveServer, order_id: str, times: int = 1) -> None:
    def look() -> bool:
        return server.events(order_id).count("agent_message") >= times

    try:
        wait_for(look, 240, f"the agent of {order_id}")
    except AssertionError:
        print(server.tail())
        raise


def seen_by(service: FakeE2B | FakeDagger) -> tuple[bytes, bytes]:
    """All that reached the service, and that part of it which its logs may hold."""
    if isinstance(service, FakeDagger):
        return "\n".join(service.seen).encode(), repr(service.execs).encode()
    logged = [item.body for item in service.seen if not item.path.startswith("/files")]
    return b"".join(item.body for item in service.seen), b"".join(logged)


def test_an_order_elsewhere(live: LiveServer, world: World, cloud: Cloud) -> None:
    """All phases; then a cancel in the middle of a step, and a sandbox that vanishes in the middle of one."""
    order_id = ordered(live, cloud, "agent: say started", "plan_build_test")
    said(live, order_id)
    name = wait_for(lambda: live.order(order_id)["sandbox_handle"], 30, "the sandbox's name")
    order = live.completed(order_id, 200)
    if cloud.kind == "e2b":
        assert name == order["sandbox_handle"], "one machine for all phases"
    assert (order["sandbox_state"], order["git_commit_count"], cloud.running) == ("removed", 3, 0)
    history = live.http.get(f"/api/agent-work-orders/{order_id}/git-progress").json()["phase_history"]
    assert all(entry["sandbox_start_seconds"] > 0 for entry in history)
    assert order["sandbox_handle"] in live.http.get(f"/work-orders/{order_id}/").text
    everything, logged = seen_by(cloud.service)
    assert world.environment["GH_TOKEN"].encode() not in everything
    assert world.environment["ANTHROPIC_API_KEY"].encode() not in logged

    marker = f"marker-{time.monotonic_ns()}"
    request = f"agent: say started\nagent: run setsid sleep 300 {marker} & sleep 300; true"
    order_id = ordered(live, cloud, request)
    said(live, order_id)
    started = time.monotonic()
    live.http.post(f"/api/agent-work-orders/{order_id}/cancel")
    wait_for(lambda: not processes_with(f"300\0{marker}"), 10, "the end of the remote process")
    assert time.monotonic() - started < 5
    assert live.finished(order_id, 60)["status"] == "cancelled"
    assert cloud.running == 0

    order_id = ordered(live, cloud, "agent: say started\nagent[implementing#1]: sleep 60")
    said(live, order_id)
    cloud.vanish()
    live.completed(order_id, 150)
    failures = [entry for entry in live.logs(order_id) if entry["event"] == "workflow_phase_failed"]
    assert [entry["error_category"] for entry in failures] == ["sandbox_vanished"]
    assert cloud.running == 0


def test_a_killed_worker_leaves_no_sandbox_behind(live: LiveServer, world: World, cloud: Cloud) -> None:
    """And where there was a machine to connect to, no work in it either."""
    request = "agent[implementing#1]: leave notes.txt\nagent: say started\nagent[implementing#1]: sleep 60"
    order_id = ordered(live, cloud, request)
    said(live, order_id)
    before = live.order(order_id)["sandbox_handle"]
    for pid in processes_with(str(live.data_dir)):
        os.kill(pid, signal.SIGKILL)
    live.start()
    order = live.completed(order_id, 150)
    assert order["sandbox_handle"] != before
    assert cloud.running == 0
    assert live.leftovers() == []
    bare = world.git.repository_path("acme", "widgets")
    files = git("ls-tree", "--name-only", order["git_branch_name"], folder=bare).split()
    assert ("notes.txt" in files) == (cloud.kind == "e2b")
