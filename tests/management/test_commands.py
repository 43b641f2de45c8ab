"""The work order commands: same path as the API, same JSON, errors with advice."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from tests.factories import SHA, make_order, make_run
from workorders.models import AgentWorkOrder

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_create_with_defaults() -> None:
    text = run("create_work_order", "--repository", "octo/spoon")
    order = AgentWorkOrder.objects.get()
    assert str(order) in text
    assert (order.sandbox_type, order.workflow_type) == ("git_branch", "agent_workflow_plan_build_test")
    transition = order.transitions.get()
    assert transition.by == "command"


def test_create_with_everything_prints_the_apis_json(client: Client) -> None:
    text = run(
        *("create_work_order", "--repository", "https://github.com/octo/spoon.git", "--issue", "#42"),
        *("--workflow", "agent_workflow_implement", "--sandbox", "git_worktree", "--prompt", "Do it"),
        *("--base-branch", "develop", "--model", "opus", "--json"),
    )
    body = json.loads(text)
    order = body["agent_work_order"]
    assert client.get(f"/api/agent-work-orders/{order['agent_work_order_id']}").json() == body
    assert order["workflow_type"] == "agent_workflow_build"
    assert (order["github_issue_number"], order["base_branch"], order["model"]) == ("42", "develop", "opus")


def test_create_resolves_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run("create_work_order", "--repository", ".")
    assert AgentWorkOrder.objects.get().repository_url == str(tmp_path)
    settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES = False
    with pytest.raises(CommandError):
        run("create_work_order", "--repository", ".")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--repository", "https://gitlab.com/o/r"], "gitlab.com"),
        (["--repository", "o/r", "--sandbox", "e2b"], "E2B_API_KEY"),
        (["--repository", "o/r", "--sandbox", "moon"], "sandbox_type"),
        (["--repository", "o/r", "--workflow", "dance"], "workflow_type"),
        (["--repository", "o/r", "--issue", "x"], "github_issue_number"),
        (["--repository", "o/r", "--base-branch=-x"], "base_branch"),
        (["--repository", "a\x00b"], "repository"),
        (["--repository", "o/r", "--prompt", "a\udc80b"], "initial_prompt"),
    ],
)
def test_create_refuses_with_advice(arguments: list[str], named: str) -> None:
    with pytest.raises(CommandError) as caught:
        run("create_work_order", *arguments)
    assert named in str(caught.value)
    assert "Correct" in str(caught.value)
    assert AgentWorkOrder.objects.count() == 0


class Worker:
    """Takes the place of `time.sleep` while a command waits: each poll, the next change happens."""

    def __init__(self, *changes: dict[str, Any] | BaseException) -> None:
        self.changes = list(changes)

    def __call__(self, _seconds: float) -> None:
        change = self.changes.pop(0)
        if isinstance(change, BaseException):
            raise change
        AgentWorkOrder.objects.update(**change)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*changes: dict[str, Any] | BaseException) -> None:
        monkeypatch.setattr("workorders.management.waiting.time.sleep", Worker(*changes))

    return use


DONE = {"status": "completed", "outcome": "branch_pushed", "head_sha": SHA, "claimable_at": None}
FAILED = {
    "status": "failed",
    "error_message": "The agent\x1b[31m gave up.",
    "error_category": "x",
    "error_advice": "Ask again.",
    "claimable_at": None,
}


def test_wait_shows_changes_until_completed(worker: Callable[..., None]) -> None:
    worker(
        {"status": "running", "current_phase": "planning"},
        {},
        {"git_commit_count": 1},
        {**DONE, "current_phase": "completed"},
    )
    lines = [line.strip() for line in run("create_work_order", "--repository", "o/r", "--wait").splitlines()]
    shown = [line for line in lines if line.startswith(("status:", "phase:", "commits:"))]
    assert shown == [
        "status: pending",
        "status: running",
        "phase: planning",
        "commits: 1",
        "status: completed",
        "phase: completed",
    ]


def test_wait_with_json_prints_only_json_on_standard_output(worker: Callable[..., None]) -> None:
    worker(DONE)
    body = json.loads(run("create_work_order", "--repository", "o/r", "--wait", "--json"))
    assert body["agent_work_order"]["status"] == "completed"


def test_wait_ends_with_the_reason_where_the_order_fails(worker: Callable[..., None]) -> None:
    worker(FAILED)
    with pytest.raises(CommandError) as caught:
        run("create_work_order", "--repository", "o/r", "--wait")
    text = str(caught.value)
    assert "gave up." in text
    assert "\x1b" not in text
    assert "Ask again." in text
    assert "retry_work_order" in text


@pytest.mark.parametrize(
    ("change", "options", "status", "code"),
    [(FAILED, [], "failed", 1), ({}, ["--wait-timeout", "0"], "pending", 3)],
)
def test_wait_with_json_prints_it_however_the_order_ends(
    worker: Callable[..., None], change: dict[str, Any], options: list[str], status: str, code: int
) -> None:
    worker(change)
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(
            *("create_work_order", "--repository", "o/r", "--wait", "--json", *options),
            stdout=out,
            stderr=StringIO(),
        )
    assert caught.value.returncode == code
    assert json.loads(out.getvalue())["agent_work_order"]["status"] == status


def test_wait_has_a_time_out(worker: Callable[..., None]) -> None:
    worker({})
    with pytest.raises(CommandError, match="goes on") as caught:
        run("create_work_order", "--repository", "o/r", "--wait", "--wait-timeout", "0")
    assert caught.value.returncode == 3


def test_interrupting_the_wait_leaves_the_order_alone(worker: Callable[..., None]) -> None:
    worker(KeyboardInterrupt())
    with pytest.raises(CommandError, match="goes on") as caught:
        run("create_work_order", "--repository", "o/r", "--wait")
    assert caught.value.returncode == 130
    assert AgentWorkOrder.objects.get().status == "pending"


def test_show(client: Client) -> None:
    order = make_order(git_commit_count=2, latest_commit_message="x")
    make_run(order, commits=2)
    text = run("show_work_order", str(order))
    assert order.git_branch_name in text
    assert "planning" in text
    body = json.loads(run("show_work_order", str(order), "--json"))
    assert body == client.get(f"/api/agent-work-orders/{order}").json()


def test_list(client: Client) -> None:
    one, other = make_order(), make_order(repository="octo/fork", status="failed")
    text = run("list_work_orders")
    assert text.index(str(other)) < text.index(str(one))
    assert "2 of 2" in text
    assert str(one) not in run("list_work_orders", "--status", "failed")
    assert str(other) not in run("list_work_orders", "--repository", "OCTO/spoon")
    body = json.loads(run("list_work_orders", "--json", "--limit", "1"))
    assert body == client.get("/api/agent-work-orders?limit=1").json()
    with pytest.raises(CommandError):
        run("list_work_orders", "--repository", "nonsense")


def test_cancel_and_retry() -> None:
    order = make_order()
    assert "cancelled" in run("cancel_work_order", str(order))
    with pytest.raises(CommandError, match="already cancelled"):
        run("cancel_work_order", str(order))
    body = json.loads(run("retry_work_order", str(order), "--json"))
    assert body["agent_work_order"]["status"] == "pending"
    with pytest.raises(CommandError, match="only failed or cancelled"):
        run("retry_work_order", str(order))


@pytest.mark.parametrize("command", ["show_work_order", "cancel_work_order", "retry_work_order"])
@pytest.mark.parametrize("order_id", ["wo-aaaaaaaa", "nothing", "a\x00b"])
def test_unknown_orders(command: str, order_id: str) -> None:
    with pytest.raises(CommandError, match="no work order"):
        run(command, order_id)
