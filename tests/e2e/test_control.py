"""Cancel, retry, prompts, restarts: what a person does to a running order.

One server on Postgres for all of it, which outlives its stops; the engine's own tests do the same on both databases.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.clusters import command_of
from tests.e2e.conftest import World, fresh_postgres, running_world
from tests.e2e.harness import Json, LiveServer, processes_with, wait_for
from tests.fakes.git_http import git
from tests.fakes.github import PullRequest
from tests.support import require_program

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("control")]
SCRIPTED = f"{sys.executable} {Path(__file__).with_name('scripted_agent.py')}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("control")) as found:
        found.add_repository()
        yield found


@pytest.fixture(scope="module")
def scripted(
    tmp_path_factory: pytest.TempPathFactory, world: World, postgres_url: str
) -> Iterator[LiveServer]:
    environment = {**world.environment, "WORKORDERS_AGENT_COMMAND": SCRIPTED, "WORKORDERS_LEASE_SECONDS": "6"}
    folder = tmp_path_factory.mktemp("scripted")
    with fresh_postgres(postgres_url) as url, LiveServer(folder, environment, url) as live:
        yield live


def until_event(server: LiveServer, order_id: str, event: str, times: int = 1, seconds: float = 30) -> None:
    wait_for(lambda: server.events(order_id).count(event) >= times, seconds, f"{event} of {order_id}")


def branch_of(world: World, order: Json) -> str:
    found = git(
        "branch", "--list", order["git_branch_name"], folder=world.git.repository_path("acme", "widgets")
    )
    return found.strip()


def pull_requests_of(world: World, order: Json) -> list[PullRequest]:
    [repository] = world.github.repositories.values()
    found = repository.pull_requests.values()
    return [item for item in found if item.head_branch == order["git_branch_name"]]


def test_cancel_ends_the_agent_and_everything_it_started(scripted: LiveServer, world: World) -> None:
    marker = f"marker-{time.monotonic_ns()}"
    request = f"agent: say started\nagent: run setsid sleep 300 {marker} & sleep 300; true"
    order_id = scripted.create(repository_url="acme/widgets", initial_prompt=request)["agent_work_order_id"]
    until_event(scripted, order_id, "agent_message")
    started = time.monotonic()
    answer = scripted.http.post(f"/api/agent-work-orders/{order_id}/cancel")
    assert answer.status_code == 202
    order = scripted.finished(order_id, 15)
    assert time.monotonic() - started < 8
    assert order["status"] == "cancelled"
    assert processes_with(order_id) == []
    assert [path for path in scripted.leftovers() if order_id in path] == []
    assert order["github_pull_request_url"] is None
    assert branch_of(world, order) == ""
    assert scripted.http.post(f"/api/agent-work-orders/{order_id}/cancel").status_code == 409
    time.sleep(1)
    assert pull_requests_of(world, order) == []


def test_cancel_of_a_waiting_order_is_immediate(scripted: LiveServer) -> None:
    busy = [
        scripted.create(repository_url="acme/widgets", initial_prompt="agent: sleep 60")[
            "agent_work_order_id"
        ]
        for _ in range(4)
    ]
    for order_id in busy:
        until_event(scripted, order_id, "agent_session_started")
    waiting = scripted.create(repository_url="acme/widgets")["agent_work_order_id"]
    answer = scripted.http.post(f"/api/agent-work-orders/{waiting}/cancel")
    assert answer.status_code == 202
    assert scripted.order(waiting)["status"] == "cancelled"
    for order_id in busy:
        scripted.http.post(f"/api/agent-work-orders/{order_id}/cancel")
    for order_id in busy:
        assert scripted.finished(order_id, 15)["status"] == "cancelled"


def test_retry_goes_on_from_the_first_unfinished_phase(scripted: LiveServer, world: World) -> None:
    lines = (
        "run [ ! -e half.txt ] || touch .git/half",
        "commit half.txt",
        "need .git/half I lost my way",
    )
    request = "\n".join(f"agent[implementing]: {line}" for line in lines)
    order_id = scripted.create(repository_url="acme/widgets", initial_prompt=request)["agent_work_order_id"]
    failed = scripted.finished(order_id)
    assert failed["status"] == "failed"
    assert failed["error_category"] == "agent_reported_error"
    assert "I lost my way" in failed["error_message"]
    assert failed["git_commit_count"] == 2, "the failed attempt's commit is kept"
    before = git("rev-parse", failed["git_branch_name"], folder=world.git.repository_path("acme", "widgets"))

    answer = scripted.http.post(f"/api/agent-work-orders/{order_id}/retry")
    assert answer.status_code == 202, answer.text
    order = scripted.completed(order_id)
    runs = [entry for entry in scripted.logs(order_id) if entry["event"] == "workflow_phase_started"]
    assert [run["phase"] for run in runs].count("planning") == 1, "no finished phase runs again"
    bare = world.git.repository_path("acme", "widgets")
    assert git("merge-base", "--is-ancestor", before, order["git_branch_name"], folder=bare) == ""


def test_a_failing_step_is_tried_again_with_its_commits(scripted: LiveServer) -> None:
    request = "agent[planning#1]: commit early.txt\nagent[planning#1]: exit 0"
    order_id = scripted.create(
        repository_url="acme/widgets", initial_prompt=request, workflow_type="agent_workflow_plan"
    )["agent_work_order_id"]
    order = scripted.completed(order_id)
    assert order["attempts"] == 2
    assert order["git_commit_count"] == 2
    assert "workflow_phase_retry_scheduled" in scripted.events(order_id)


def test_what_the_agent_left_uncommitted_is_kept(scripted: LiveServer, world: World) -> None:
    order_id = scripted.create(
        repository_url="acme/widgets",
        initial_prompt="agent: leave notes.txt",
        workflow_type="agent_workflow_build",
    )["agent_work_order_id"]
    order = scripted.completed(order_id)
    bare = world.git.repository_path("acme", "widgets")
    assert git("show", f"{order['git_branch_name']}:notes.txt", folder=bare) == "left uncommitted"
    trailers = git(
        "log", "-1", "--format=%(trailers:key=Work-Order-Phase)", order["git_branch_name"], folder=bare
    )
    assert "implementing" in trailers


@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_a_merge_nobody_finished_is_a_draft_without_it_that_says_so(
    scripted: LiveServer, world: World, sandbox_type: str
) -> None:
    script = (
        "git checkout -q -b side; echo theirs > README.md; git commit -q -a -m theirs; git checkout -q -; "
        "echo ours > README.md; git commit -q -a -m 'feat: ours'; git config commit.gpgsign true; "
        "mkdir node_modules; touch node_modules/a; git merge side"
    )
    order_id = scripted.create(
        repository_url="acme/widgets",
        initial_prompt=f"agent: run {script}\nagent: nothing",
        workflow_type="agent_workflow_build",
        sandbox_type=sandbox_type,
    )["agent_work_order_id"]
    order = scripted.completed(order_id)
    assert order["attempts"] == 1
    bare = world.git.repository_path("acme", "widgets")
    assert git("show", f"{order['git_branch_name']}:README.md", folder=bare) == "ours"
    [pull_request] = pull_requests_of(world, order)
    assert pull_request.is_draft
    said = "a merge \\(in conflict: README.md\\) was begun and not finished; nothing of it was committed"
    assert said in (pull_request.body or "")
    progress = scripted.http.get(f"/api/agent-work-orders/{order_id}/git-progress").json()
    found = {item["rule"] for phase in progress["phase_history"] for item in phase["left_out"]}
    assert found == {"unfinished_operation", "commits_elsewhere"}
    assert "was begun and not finished" in scripted.http.get(f"/work-orders/{order_id}/").text
    assert {"sandbox_work_left_out", "sandbox_kept"} <= set(scripted.events(order_id))


def test_no_evidence_is_no_success(scripted: LiveServer, world: World) -> None:
    order_id = scripted.create(
        repository_url="acme/widgets", initial_prompt="agent: nothing", workflow_type="agent_workflow_plan"
    )["agent_work_order_id"]
    order = scripted.finished(order_id)
    assert (order["status"], order["error_category"]) == ("failed", "evidence_missing")
    assert order["attempts"] == 2, "one more try, then a person decides"
    assert pull_requests_of(world, order) == []


def test_live_statistics_while_a_step_runs(scripted: LiveServer) -> None:
    request = "agent: commit first.txt\nagent: sleep 20"
    order_id = scripted.create(repository_url="acme/widgets", initial_prompt=request)["agent_work_order_id"]

    def counted() -> Json | None:
        found: Json = scripted.http.get(f"/api/agent-work-orders/{order_id}/git-progress").json()
        return found if found["git_commit_count"] == 1 else None

    progress = wait_for(counted, 15, "the first commit in the statistics")
    assert progress["current_phase"] == "planning"
    assert progress["git_files_changed"] == 1
    assert progress["latest_commit_message"].startswith("Add first.txt")
    assert scripted.order(order_id)["status"] == "running"
    scripted.http.post(f"/api/agent-work-orders/{order_id}/cancel")
    assert scripted.finished(order_id, 15)["status"] == "cancelled"


def test_a_prompt_while_a_step_runs_waits_for_its_end(scripted: LiveServer, world: World) -> None:
    order_id = scripted.create(
        repository_url="acme/widgets",
        initial_prompt="agent[planning]: sleep 2",
        workflow_type="agent_workflow_plan_build",
    )["agent_work_order_id"]
    until_event(scripted, order_id, "agent_session_started")
    answer = scripted.http.post(
        f"/api/agent-work-orders/{order_id}/prompt", json={"prompt_text": "agent: commit asked-for.txt"}
    )
    assert answer.json()["prompt_accepted"] is True
    order = scripted.completed(order_id)
    kinds = [
        (entry["kind"], entry["phase"])
        for entry in scripted.logs(order_id)
        if entry["event"] == "workflow_phase_started"
    ]
    assert kinds == [("phase", "planning"), ("follow_up", "implementing"), ("phase", "implementing")]
    bare = world.git.repository_path("acme", "widgets")
    assert git("show", f"{order['git_branch_name']}:asked-for.txt", folder=bare) == "by request"


def test_failing_tests_give_a_draft_that_says_so(scripted: LiveServer, world: World) -> None:
    results = json.dumps({"passed": 2, "failed": 1, "tests": [{"name": "one", "status": "failed"}]})
    order_id = scripted.create(
        repository_url="acme/widgets",
        initial_prompt="agent: nothing\n"
        f"agent: run echo '{results}' > test_results.json; git add -f test_results.json; git commit -qm 'Test it'",
        workflow_type="agent_workflow_test",
    )["agent_work_order_id"]
    order = scripted.completed(order_id)
    assert order["outcome"] == "tests_failed"
    [pull_request] = pull_requests_of(world, order)
    assert pull_request.is_draft
    assert "1 test" in (pull_request.body or "")


def test_a_stopped_server_puts_the_step_back_and_goes_on_after_restart(
    scripted: LiveServer, world: World
) -> None:
    order_id = scripted.create(
        repository_url="acme/widgets",
        initial_prompt="agent: run git log --format=%s | grep -q 'Add kept' && touch .git/again; true\n"
        "agent: commit kept.txt\nagent: say committed\nagent: run test -e .git/again || sleep 60",
        workflow_type="agent_workflow_plan",
    )["agent_work_order_id"]
    until_event(scripted, order_id, "agent_message")
    started = time.monotonic()
    assert scripted.stop(number=signal.SIGTERM) == 0
    assert time.monotonic() - started < 20
    assert processes_with(order_id) == []
    scripted.start()
    order = scripted.completed(order_id, 60)
    assert order["git_commit_count"] >= 2
    assert len(pull_requests_of(world, order)) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_worker_or_a_stopped_sentinel_loses_nothing(
    scripted: LiveServer, world: World, number: int
) -> None:
    """A sentinel that stands still would start no worker any more; it is exchanged with all its workers."""
    order_id = scripted.create(
        repository_url="acme/widgets",
        initial_prompt="agent[planning#1]: sleep 60",
        workflow_type="agent_workflow_plan",
    )["agent_work_order_id"]
    until_event(scripted, order_id, "agent_session_started")
    agents = processes_with(order_id)
    assert agents
    workers = worker_pids(scripted)
    assert workers
    for pid in {parent_of(pid) for pid in workers} if number == signal.SIGSTOP else workers:
        assert b"qcluster" in command_of(pid)
        os.kill(pid, number)
    order = scripted.completed(order_id, 60)
    assert processes_with(order_id) == []
    assert len(pull_requests_of(world, order)) == 1


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def worker_pids(server: LiveServer) -> list[int]:
    """The processes that supervise agents: parents of bwrap; never another's, should bwrap be an orphan."""
    found = set()
    for pid in processes_with(str(server.data_dir)):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap":
                found.add(parent_of(pid))
        except OSError:
            continue
    return sorted(pid for pid in found if b"qcluster" in command_of(pid))


def test_commands_drive_the_same_orders(scripted: LiveServer) -> None:
    created = scripted.manage(
        "create_work_order",
        "--repository=acme/widgets",
        "--workflow=agent_workflow_plan",
        "--sandbox=git_worktree",
        "--prompt=agent: say hello",
        "--wait",
    )
    assert created.returncode == 0, created.stdout + created.stderr
    listed = scripted.manage("list_work_orders", "--json")
    order, *_ = json.loads(listed.stdout)["agent_work_orders"]
    shown = json.loads(scripted.manage("show_work_order", order["agent_work_order_id"], "--json").stdout)
    assert shown["agent_work_order"]["status"] == "completed"
    refused = scripted.manage("cancel_work_order", order["agent_work_order_id"])
    assert refused.returncode != 0
    assert "completed" in refused.stderr
    recovered = scripted.manage("recover_work_orders", "--dry-run")
    assert recovered.returncode == 0, recovered.stderr


def test_doctor_finds_nothing_missing(scripted: LiveServer) -> None:
    require_program("bwrap")
    checked = scripted.manage("doctor")
    assert checked.returncode == 0, checked.stdout + checked.stderr
