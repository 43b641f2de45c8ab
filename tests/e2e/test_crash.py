"""Nothing is lost: workers and whole clusters are killed, stopped and signalled while orders run; then the law.

Each test drives many orders at once through one server, because waiting for leases is what costs time here.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests import lifeline
from tests.chaos.clusters import command_of, descendants
from tests.e2e.conftest import World
from tests.e2e.harness import ROOT, Json, LiveServer, processes_with, wait_for
from tests.e2e.law import Law, agent_processes
from tests.e2e.test_control import parent_of
from tests.fakes.git_http import branches
from workorders.workflow_engine.parts.crash_points import POINTS

pytestmark = pytest.mark.e2e
SCRIPTED = f"{sys.executable} {Path(__file__).with_name('scripted_agent.py')}"
LEASE = 6
TAKEOVER_SECONDS = LEASE + 10
# Two places for each order, in different steps where possible: a step that loses its worker three times has failed.
PLACES = (
    ("claimed", "pull_request_posted"),
    ("sandbox_opened", "pull_request_stored"),
    ("agent_running", "commented"),
    ("agent_done", "cleaning"),
    ("committed", "pushed"),
    ("fetched", "recorded"),
)
assert sorted(name for pair in PLACES for name in pair) == sorted(POINTS)


def crash_environment(folder: Path) -> dict[str, str]:
    """Each place kills once, the order of its own issue only."""
    folder.mkdir()
    places = [(number, name) for number, pair in enumerate(PLACES, start=1) for name in pair]
    return {
        "WORKORDERS_CRASH_AT": ",".join(f"{name}/issue-{number}-@{folder / name}" for number, name in places)
    }


@pytest.fixture
def launch(tmp_path: Path, world: World, database_url: str) -> Iterator[Callable[..., LiveServer]]:
    """Servers on the test's database; `world` has a repository with six issues."""
    repository = world.add_repository()
    for number in range(len(PLACES)):
        world.github.add_issue(repository, f"Issue {number + 1}")
    started: list[LiveServer] = []

    def start(**environment: str) -> LiveServer:
        values = {
            **world.environment,
            "WORKORDERS_AGENT_COMMAND": SCRIPTED,
            "WORKORDERS_LEASE_SECONDS": str(LEASE),
            "WORKORDERS_DRAIN_SECONDS": "2",
            "WORKORDERS_AGENT_READ_PATHS": str(tmp_path / "shared"),
            **environment,
        }
        server = LiveServer(tmp_path / f"server{len(started)}", values, database_url)
        started.append(server.__enter__())
        return server

    yield start
    for server in started:
        server.__exit__(None, None, None)


def shared_flag(folder: Path) -> Path:
    """A file that isolated agents can see, not there yet."""
    (folder / "shared").mkdir(exist_ok=True)
    return folder / "shared" / "go"


def law_of(server: LiveServer, world: World) -> Law:
    return Law(
        server, list(world.github.repositories.values()), [world.git.repository_path("acme", "widgets")]
    )


def ids_of(orders: list[Json]) -> list[str]:
    return [order["agent_work_order_id"] for order in orders]


def starts_of(server: LiveServer, order_id: str) -> Counter[str]:
    """How often the agent was started for each phase."""
    entries = server.logs(order_id)
    return Counter(entry["phase"] for entry in entries if entry["event"] == "workflow_phase_started")


def until_running(server: LiveServer, order_id: str, times: int = 1) -> None:
    wait_for(lambda: server.events(order_id).count("agent_message") >= times, 60, f"the agent of {order_id}")


def test_a_worker_killed_at_any_place_loses_and_doubles_nothing(
    launch: Callable[..., LiveServer], world: World, tmp_path: Path
) -> None:
    markers = tmp_path / "markers"
    server = launch(
        **crash_environment(markers),
        WORKORDERS_WORKERS=str(len(PLACES)),
        WORKORDERS_WORKER_PROCESSES=str(len(PLACES)),  # so that a death takes no other order along
    )
    orders = [
        server.create(
            repository_url="acme/widgets",
            github_issue_number=str(number),
            workflow_type="agent_workflow_plan",
            sandbox_type="git_worktree" if number % 2 else "git_branch",
            initial_prompt="agent: say started",
        )
        for number in range(1, len(PLACES) + 1)
    ]
    for order_id in ids_of(orders):
        server.completed(order_id, 150)
    assert server.manage("recover_work_orders").returncode == 0  # as each cluster sweeps once a minute
    died = {path.name: path.stat().st_mtime for path in markers.iterdir()}
    assert sorted(died) == sorted(POINTS)
    law_of(server, world).check(ids_of(orders), completed=True)
    for order, places in zip(orders, PLACES, strict=True):
        starts = starts_of(server, order["agent_work_order_id"])
        if "pushed" in places:  # found in git, recorded and not run again
            assert "workflow_step_adopted" in server.events(order["agent_work_order_id"])
        assert set(starts) == {"planning"}
        assert starts["planning"] <= 3


def cluster_of(server: LiveServer) -> list[int]:
    """The processes of its workers: main process, sentinel and those below it."""
    [main] = [
        pid
        for pid in descendants(server.pid)
        if b"qcluster" in command_of(pid) and parent_of(pid) == server.pid
    ]
    return [main, *(pid for pid in descendants(main) if b"qcluster" in command_of(pid))]


def pause(pids: list[int], database_url: str) -> None:
    """Stop them at a moment when none is in a transaction: what that locks would stay locked for everybody."""
    for _ in range(50):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        with psycopg.connect(database_url) as connection:
            rows = connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
            ).fetchall()
        if not rows:
            return
        wake(pids)
    raise AssertionError("they are always in a transaction")


def wake(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # replaced meanwhile
            os.kill(pid, signal.SIGCONT)


@contextmanager
def another_cluster(server: LiveServer) -> Iterator[None]:
    with (server.folder / "other.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "qcluster"],
            env=server.environment,
            cwd=server.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    lifeline.hold(process)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_cluster_killed_whole_and_one_stopped_beyond_its_lease(
    launch: Callable[..., LiveServer], world: World, tmp_path: Path, database_url: str
) -> None:
    """One server run: first everything dies at once, then after a restart the cluster sleeps while another works."""
    server = launch(WORKORDERS_WORKERS="4", WORKORDERS_WORKER_PROCESSES="2")
    flag = shared_flag(tmp_path)
    request = (
        f"agent: say started\nagent: commit early.txt\nagent: run while [ ! -e {flag} ]; do sleep 0.1; done"
    )
    environment = {"workflow_type": "agent_workflow_plan", "initial_prompt": request}
    orders = [server.create(repository_url="acme/widgets", **environment) for _ in range(4)]
    for order_id in ids_of(orders):
        until_running(server, order_id)

    os.kill(server.pid, signal.SIGKILL)  # web and workers are asked to stop by the kernel then
    for pid in processes_with(str(server.data_dir)):
        with suppress(ProcessLookupError):  # its parent's death took it along
            os.kill(pid, signal.SIGKILL)
    server.wait_killed()
    wait_for(lambda: not agent_processes(server.data_dir), 10, "the end of all agents")
    killed_at = time.monotonic()
    server.start()
    for order_id in ids_of(orders):
        until_running(server, order_id, times=2)
    takeover = time.monotonic() - killed_at

    stopped = cluster_of(server)
    assert len(stopped) > 3
    remote = world.git.repository_path("acme", "widgets")
    pause(stopped, database_url)
    try:
        # their guards end the agents before anybody else could start one
        wait_for(lambda: not agent_processes(server.data_dir), LEASE + 3, "the end of the agents")
        before = branches(remote)
        flag.touch()
        with another_cluster(server):
            for order_id in ids_of(orders):
                server.completed(order_id, 150)
            after = branches(remote)
            rows = [server.order(order_id) for order_id in ids_of(orders)]
            logs = [server.logs(order_id) for order_id in ids_of(orders)]
            wake(stopped[1:])
            time.sleep(1)  # what the losers do when they wake
    finally:
        wake(stopped)
    assert [server.order(order_id) for order_id in ids_of(orders)] == rows
    assert [server.logs(order_id) for order_id in ids_of(orders)] == logs
    assert branches(remote) == after != before
    law_of(server, world).check(ids_of(orders), completed=True)
    assert takeover < TAKEOVER_SECONDS + 10, "the server's start included"


@pytest.mark.parametrize(
    ("database_url", "isolation"),
    [("sqlite", "bubblewrap"), ("postgres", "none")],
    indirect=["database_url"],
)
def test_signals_and_hostile_agents(
    launch: Callable[..., LiveServer], world: World, tmp_path: Path, isolation: str
) -> None:
    """SIGTERM to the whole process group under load, cancel of an agent that resists, a second signal at once."""
    server = launch(WORKORDERS_WORKERS="4", WORKORDERS_AGENT_ISOLATION=isolation)
    flag, slept = shared_flag(tmp_path), tmp_path / "slept"
    resist = "trap '' TERM; (trap '' TERM; exec setsid sleep 300) & sleep 300; true"
    short = server.create(
        repository_url="acme/widgets",
        workflow_type="agent_workflow_plan",
        initial_prompt="agent: say started\nagent: sleep 1.5",
    )
    long = server.create(
        repository_url="acme/widgets",
        workflow_type="agent_workflow_plan",
        initial_prompt=f"agent: say started\nagent: run while [ ! -e {flag} ]; do sleep 0.1; done",
    )
    hostile = server.create(
        repository_url="acme/widgets",
        workflow_type="agent_workflow_plan",
        initial_prompt=f"agent: say started\nagent: run {resist}",
    )
    ids = ids_of([short, long, hostile])
    for order_id in ids[1:]:
        until_running(server, order_id)
    asked = time.monotonic()
    assert server.http.post(f"/api/agent-work-orders/{ids[2]}/cancel").status_code == 202
    assert server.finished(ids[2], 15)["status"] == "cancelled"
    cancelled_in = time.monotonic() - asked
    wait_for(lambda: not agent_processes(server.data_dir, ids[2]), 10, "the end of the hostile agent")
    assert cancelled_in < 10

    slept.touch()
    assert server.stop_group(signal.SIGTERM) == 0
    assert agent_processes(server.data_dir) == []
    flag.touch()
    server.start()
    assert server.completed(ids[1], 60)["attempts"] <= 2
    server.completed(ids[0], 60)
    assert all(
        entry["attempt"] == 1 for entry in server.logs(ids[1]) if entry["event"] == "workflow_phase_started"
    )
    assert starts_of(server, ids[0])["planning"] <= 2

    flag.unlink()
    last = server.create(
        repository_url="acme/widgets",
        workflow_type="agent_workflow_plan",
        initial_prompt=f"agent: say started\nagent: run while [ ! -e {flag} ]; do sleep 0.1; done",
    )["agent_work_order_id"]
    until_running(server, last)
    started = time.monotonic()
    server.signal(signal.SIGTERM)
    time.sleep(0.3)
    assert server.stop(number=signal.SIGTERM) == 0
    assert time.monotonic() - started < 6
    wait_for(lambda: not agent_processes(server.data_dir), 10, "the end of all agents")
    flag.touch()
    server.start()
    server.completed(last, 60)
    law_of(server, world).check([*ids, last])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("processes", ["1", "8"])
def test_an_order_that_kills_its_worker_each_time_fails_alone(
    launch: Callable[..., LiveServer], world: World, processes: str
) -> None:
    """With one process for all the others die with it until no two suspects share it; by default none does."""
    server = launch(
        WORKORDERS_CRASH_AT="agent_running/issue-1-",
        WORKORDERS_WORKERS="3",
        WORKORDERS_WORKER_PROCESSES=processes,
    )
    poison, *innocent = ids_of(
        [
            server.create(
                repository_url="acme/widgets",
                github_issue_number=str(number),
                workflow_type="agent_workflow_plan",
                initial_prompt=f"agent: sleep {pause}\nagent: say started",
            )
            for number, pause in ((1, 1), (2, 2), (3, 2))
        ]
    )
    failed = server.finished(poison, 150)
    assert (failed["status"], failed["error_category"]) == ("failed", "worker_lost")
    assert "died 3 times" in failed["error_message"]
    for order_id in innocent:
        server.completed(order_id, 150)
        # what a killed worker had to log may be lost with it; the attempt's number is not
        attempts = {entry["attempt"] for entry in server.logs(order_id) if "attempt" in entry}
        assert (attempts == {1}) is (processes == "8"), (
            "aboard with the other in one process, and in no other case"
        )
    law_of(server, world).check([poison, *innocent])
