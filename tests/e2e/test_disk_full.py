"""A disk that is really full: the data folder is a small file system, which the test fills and frees again.

bubblewrap makes it: as root or not, it is seen by the server's processes alone and gone with them. The test reaches it
through the server's `/proc/<pid>/root`.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.harness import FINISHED, ROOT, Json, LiveServer, wait_for
from tests.e2e.test_control import SCRIPTED
from tests.fakes.git_http import branches, create_bare_repository
from tests.support import require_program

pytestmark = pytest.mark.e2e
SIZE = 64_000_000
FLOOR = 10_000_000
LEASE = 5


class SmallDiskServer(LiveServer):
    def command(self) -> list[str]:
        """Migrates inside, where the database is; the harness has migrated one that is then hidden."""
        manage = f"{sys.executable} {ROOT / 'manage.py'}"
        script = f"{manage} migrate --verbosity=0 && exec {manage} serve --port={self.port}"
        return [
            *(require_program("bwrap"), "--dev-bind", "/", "/", "--size", str(SIZE)),
            *("--tmpfs", str(self.data_dir), "--die-with-parent", "--", "sh", "-c", script),
        ]

    @property
    def inside(self) -> int:
        """bubblewrap waits outside for the process that sees the small disk."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        with suppress(IndexError, OSError):
            os.kill(self.inside, number)
            wait_for(lambda: self._process is None or self._process.poll() is not None, seconds, "the stop")
        return super().stop(number=number, seconds=seconds)

    @property
    def disk(self) -> Path:
        return Path(f"/proc/{self.inside}/root{self.data_dir}")

    @property
    def free(self) -> int:
        seen = os.statvfs(self.disk)
        return seen.f_bavail * seen.f_frsize

    def fill(self, *, leave: int = 0) -> None:
        assert self.free < SIZE, "this must never be the machine's own disk"
        with (self.disk / "filler").open("ab") as file:
            try:
                while self.free > leave:
                    file.write(b"\0" * min(1_000_000, max(4096, self.free - leave)))
                    file.flush()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def make_space(self) -> None:
        (self.disk / "filler").unlink()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmallDiskServer]:
    create_bare_repository(tmp_path / "remote.git")
    environment = {
        "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
        "WORKORDERS_AGENT_COMMAND": SCRIPTED,
        "WORKORDERS_AGENT_ISOLATION": "none",
        "WORKORDERS_LEASE_SECONDS": str(LEASE),
        "WORKORDERS_DISK_FLOOR_MB": str(FLOOR // 1_000_000),
    }
    with SmallDiskServer(tmp_path / "server", environment) as live:
        yield live


def ask(server: SmallDiskServer, request: str = "", workflow: str = "agent_workflow_plan") -> str:
    order = server.create(
        repository_url=str(server.folder.parent / "remote.git"),
        initial_prompt=request,
        workflow_type=workflow,
    )
    return str(order["agent_work_order_id"])


def completed(server: SmallDiskServer, order_id: str) -> Json:
    """With a person who does not wait for the next look at the disk."""

    def look() -> Json | None:
        if server.order(order_id)["waiting_reason"]:
            server.http.post(f"/api/agent-work-orders/{order_id}/continue")
        found = server.order(order_id)
        return found if found["status"] in FINISHED else None

    order = wait_for(look, 150, f"the end of {order_id}")
    assert order["status"] == "completed", order
    return order


@pytest.mark.timeout(600)
def test_a_full_disk_stops_nothing_for_good(server: SmallDiskServer, tmp_path: Path) -> None:
    first = server.completed(ask(server))
    running = ask(server, "agent: say here I am\nagent: sleep 3", "agent_workflow_plan_build")
    wait_for(lambda: "agent_message" in server.events(running), 60, "the agent at work")

    server.fill()
    for _ in range(LEASE + 2):  # nothing can be written down meanwhile
        assert server.http.get("/healthz").status_code == 200
        assert server.order(running)["status"] == "running"
        time.sleep(1)
    try:
        told = server.http.post("/api/agent-work-orders/wo-aaaaaaaa/cancel").status_code
        assert told in (404, 500, 503)
    except httpx.TransportError as error:  # answered or not, the server must be there afterwards
        print(error)
    assert server.http.get("/healthz").status_code == 200

    server.make_space()
    done = completed(server, running)
    assert done["git_commit_count"] >= 2
    assert server.order(first["agent_work_order_id"]) == first
    ends = [event for event in server.events(running) if event == "agent_work_order_completed"]
    assert len(ends) == 1

    server.fill(leave=FLOOR // 2)
    waiting = ask(server)

    def waits() -> bool:
        return bool(server.order(waiting)["waiting_reason"] == "disk_full")

    wait_for(waits, 90, "the wait for disk space")
    assert "waits" in server.http.get(f"/work-orders/{waiting}/").text.lower() or "disk space" in (
        server.http.get(f"/work-orders/{waiting}/").text
    )
    server.make_space()
    completed(server, waiting)

    heads = branches(tmp_path / "remote.git")
    assert len(heads) == 4, "main and one branch for each order"
    assert sorted(path.name for path in (server.disk / "sandboxes").iterdir()) == []
