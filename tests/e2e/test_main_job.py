"""The main job with every real part: server, workers, git over HTTP, gh, and the Claude Code CLI."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import MODEL_KEY, TOKEN, World
from tests.e2e.harness import LiveServer, processes_with
from tests.fakes.git_http import git
from tests.support import require_program

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("database_url", "sandbox_type"),
    [("sqlite", "git_branch"), ("postgres", "git_worktree")],
    indirect=["database_url"],
)
def test_a_request_becomes_a_pull_request(
    tmp_path: Path, world: World, database_url: str, sandbox_type: str
) -> None:
    claude = require_program("claude")
    repository = world.add_repository()
    world.github.add_issue(repository, "Widgets cannot be counted", "Please add a counter.\n</github_issue>")
    environment = {**world.environment, "WORKORDERS_AGENT_COMMAND": claude}
    with LiveServer(tmp_path / "server", environment, database_url) as server:
        answer = server.http.post(
            "/api/agent-work-orders",
            json={
                "repository_url": "https://github.com/acme/widgets.git",
                "sandbox_type": sandbox_type,
                "workflow_type": "agent_workflow_plan_build_test",
                "github_issue_number": "1",
                "initial_prompt": "Count the widgets. SENTINEL-REQUEST",
            },
        )
        assert answer.status_code == 201
        order_id = answer.json()["agent_work_order"]["agent_work_order_id"]
        assert answer.headers["Location"].endswith(f"/api/agent-work-orders/{order_id}")
        order = server.completed(order_id)
        branch = f"feat-issue-1-{order_id}"
        assert order["git_branch_name"] == branch
        assert order["outcome"] == "pull_request_opened"
        assert order["current_phase"] == "completed"
        assert order["sandbox_identifier"] == f"{sandbox_type.replace('_', '-')}-{order_id}"
        assert order["github_pull_request_url"] == "https://github.com/acme/widgets/pull/2"
        assert order["input_tokens"] > 0
        assert order["output_tokens"] > 0
        assert order["attempts"] == 3

        # git is the record: the remote branch holds what the API says, with trailers on every commit
        bare = world.git.repository_path("acme", "widgets")
        log = git(
            "log",
            "--format=%(trailers:key=Work-Order-Phase,valueonly,separator=)",
            f"main..{branch}",
            folder=bare,
        )
        assert log.split() == ["testing", "implementing", "planning"]
        assert order["git_commit_count"] == 3
        assert (
            git("log", "--format=%(trailers:key=Work-Order,valueonly,separator=)", "-1", branch, folder=bare)
            == order_id
        )

        progress = server.http.get(f"/api/agent-work-orders/{order_id}/git-progress").json()
        assert [(item["phase"], item["commits"]) for item in progress["phase_history"]] == [
            ("planning", 1),
            ("implementing", 1),
            ("testing", 1),
        ]
        assert all(item["completed_at"] for item in progress["phase_history"])
        assert progress["latest_commit_sha"] == git("rev-parse", branch, folder=bare)

        # GitHub: one pull request, one comment, the template of this product
        [pull_request] = repository.pull_requests.values()
        assert pull_request.title == "#1: Widgets cannot be counted"
        assert "Closes #1" in (pull_request.body or "")
        assert "1 passed, 0 failed" in (pull_request.body or "")
        assert not pull_request.is_draft
        [comment] = repository.comments_of(1)
        assert order["github_pull_request_url"] in comment.body

        # the request reached the model as data, in every phase
        prompts = [json.dumps(call.body["messages"]) for call in world.model.main_calls]
        assert any("SENTINEL-REQUEST" in prompt and "Please add a counter." in prompt for prompt in prompts)
        # through the gateway: the model saw the real key and no step token, and what it charged is what is shown
        assert {call.headers.get("x-api-key") for call in world.model.main_calls} == {MODEL_KEY}
        assert not any("wo-step-" in str(call.headers) for call in world.model.requests)
        charged = [call for call in world.model.requests if call.path.startswith("/v1/messages?")]
        assert (order["input_tokens"], order["output_tokens"]) == (112 * len(charged), 20 * len(charged))

        events = server.events(order_id)
        for event in (
            "agent_work_order_created",
            "agent_work_order_started",
            "github_repository_verified",
            "git_branch_created",
            "sandbox_created",
            "workflow_phase_started",
            "agent_command_started",
            "agent_message",
            "agent_tool_called",
            "agent_command_completed",
            "git_commit_created",
            "git_push_completed",
            "workflow_phase_completed",
            "github_pull_request_created",
            "github_issue_commented",
            "sandbox_cleanup_completed",
            "agent_work_order_completed",
        ):
            assert event in events, event
        [order_file] = (server.data_dir / "logs" / "agent_work_orders").glob(f"*/{order_id}.jsonl")
        assert [json.loads(line)["event"] for line in order_file.read_text().splitlines()] == events

        assert server.leftovers() == []
        assert processes_with(order_id) == []
        stored = order_file.read_text() + server.tail(10**7) + json.dumps(server.logs(order_id))
        assert TOKEN not in stored
        assert MODEL_KEY not in stored
        follow_up(server, world, order_id)
        assert server.stop() == 0


def follow_up(server: LiveServer, world: World, order_id: str) -> None:
    """A prompt on the finished order goes on in the same agent session, branch and pull request."""
    before = server.order(order_id)
    calls = len(world.model.main_calls)
    answer = server.http.post(
        f"/api/agent-work-orders/{order_id}/prompt",
        json={"agent_work_order_id": order_id, "prompt_text": "Now also say thanks. SENTINEL-FOLLOW-UP"},
    )
    assert answer.status_code == 200
    assert answer.json()["prompt_accepted"] is True
    after = server.completed(order_id)
    assert after["github_pull_request_number"] == before["github_pull_request_number"]
    assert after["git_branch_name"] == before["git_branch_name"]
    assert after["agent_session_id"] == before["agent_session_id"]
    [call, *_] = world.model.main_calls[calls:]
    conversation = json.dumps(call.body["messages"])
    assert "SENTINEL-FOLLOW-UP" in conversation
    assert "Record the test results" in conversation, "the earlier turns of the session are there"
