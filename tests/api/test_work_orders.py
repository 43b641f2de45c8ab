"""The endpoints of the contract: shapes, filters, ETags, prompts, cancel and retry."""

from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_q.models import OrmQ

from tests.api.conftest import BODY, Api, problem
from tests.factories import SHA, make_log, make_order, make_run
from workorders.domain.states import AgentWorkOrderStatus, PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase
from workorders.models import AgentPrompt, AgentWorkOrder, WorkOrderTransition

pytestmark = pytest.mark.django_db

# The PRD's own lists ("Data Models", "API Specification"); none may be missing.
ORDER_FIELDS = {
    "agent_work_order_id",
    "repository_url",
    "git_branch_name",
    "agent_session_id",
    "workflow_type",
    "sandbox_type",
    "github_issue_number",
    "status",
    "current_phase",
    "created_at",
    "updated_at",
    "github_pull_request_url",
    "git_commit_count",
    "git_files_changed",
    "git_lines_added",
    "git_lines_removed",
    "error_message",
    "execution_started_at",
    "execution_completed_at",
}
ADDED_FIELDS = {
    "sandbox_identifier",
    "base_branch",
    "github_pull_request_number",
    "outcome",
    "cost_usd",
    "cost_is_complete",
    "usage_is_reported",
    "input_tokens",
    "output_tokens",
    "attempts",
    "error_category",
    "error_advice",
    "cancel_requested_at",
    "model",
    "initial_prompt",
}
PROGRESS_FIELDS = {
    "agent_work_order_id",
    "current_phase",
    "git_commit_count",
    "git_files_changed",
    "git_lines_added",
    "git_lines_removed",
    "latest_commit_message",
    "latest_commit_sha",
    "snapshot_timestamp",
    "phase_history",
}


def utc(text: str) -> datetime:
    assert text.endswith("Z"), text
    return datetime.fromisoformat(text)


def test_create_answers_the_order_and_where_its_log_is(api: Api) -> None:
    response = api.create(
        github_issue_number="42", initial_prompt="Build it", base_branch="main", model="opus"
    )
    assert response.status_code == 201
    body = response.json()
    assert set(body) == {"agent_work_order", "logs_url"}
    order = body["agent_work_order"]
    assert set(order) >= ORDER_FIELDS | ADDED_FIELDS
    order_id = order["agent_work_order_id"]
    assert order["git_branch_name"] == f"feat-issue-42-{order_id}"
    assert order["status"] == "pending"
    assert order["repository_url"] == BODY["repository_url"]
    assert (order["initial_prompt"], order["base_branch"], order["model"]) == ("Build it", "main", "opus")
    assert order["cost_usd"] == 0
    assert body["logs_url"] == f"/api/agent-work-orders/{order_id}/logs"
    assert response["Location"] == f"/api/agent-work-orders/{order_id}"
    utc(order["created_at"])
    read = api.client.get(response["Location"])
    assert read["ETag"] == response["ETag"]
    assert read.json() == body
    assert OrmQ.objects.count() == 1


@pytest.mark.parametrize("number", ["42", "#42", 42])
def test_issue_number_in_every_spelling(api: Api, number: Any) -> None:
    assert api.create(github_issue_number=number).json()["agent_work_order"]["github_issue_number"] == "42"


def test_optional_fields_may_be_null_or_empty(api: Api) -> None:
    for empty in (None, ""):
        changes = dict.fromkeys(("github_issue_number", "initial_prompt", "base_branch", "model"), empty)
        order = api.create(**changes).json()["agent_work_order"]
        assert order["github_issue_number"] is order["initial_prompt"] is order["base_branch"] is None


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("agent_workflow_implement", "agent_workflow_build"),
        ("agent_workflow_validate", "agent_workflow_test"),
    ],
)
def test_workflow_aliases(api: Api, name: str, stored: str) -> None:
    assert api.create(workflow_type=name).json()["agent_work_order"]["workflow_type"] == stored


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://github.com/Octo/Spoon/", "https://github.com/Octo/Spoon"),
        ("https://github.com/octo/spoon.git", "https://github.com/octo/spoon.git"),
        ("git@github.com:octo/spoon.git", "https://github.com/octo/spoon"),
        ("octo/spoon", "https://github.com/octo/spoon"),
        ("/srv/git/spoon.git", "/srv/git/spoon.git"),
    ],
)
def test_repository_url_is_shown_as_written_where_it_is_a_url(api: Api, given: str, shown: str) -> None:
    assert api.create(repository_url=given).json()["agent_work_order"]["repository_url"] == shown


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"repository_url": "https://gitlab.com/o/r"}, "repository_url"),
        ({"repository_url": "ftp://github.com/o/r"}, "repository_url"),
        ({"repository_url": "https://x:y@github.com/o/r"}, "repository_url"),
        ({"repository_url": "https://github.com:444/o/r"}, "repository_url"),
        ({"repository_url": "o/r\n"}, "repository_url"),
        ({"repository_url": "o" * 600}, "repository_url"),
        ({"sandbox_type": "e2b"}, "sandbox_type"),
        ({"sandbox_type": "moon"}, "sandbox_type"),
        ({"workflow_type": "agent_workflow_dance"}, "workflow_type"),
        ({"workflow_type": ["agent_workflow_plan"]}, "workflow_type"),
        ({"github_issue_number": "forty"}, "github_issue_number"),
        ({"github_issue_number": -1}, "github_issue_number"),
        ({"github_issue_number": 4.5}, "github_issue_number"),
        ({"github_issue_number": True}, "github_issue_number"),
        ({"github_issue_number": 10**30}, "github_issue_number"),
        ({"base_branch": "--upload-pack=x"}, "base_branch"),
        ({"base_branch": "a..b"}, "base_branch"),
        ({"model": "-x"}, "model"),
        ({"model": "sonnet\n"}, "model"),
        ({"initial_prompt": "x" * 100_001}, "initial_prompt"),
        ({"initial_prompt": "a\x00b"}, "initial_prompt"),
        ({"initial_prompt": 7}, "initial_prompt"),
        ({"initail_prompt": "typo"}, "initail_prompt"),
    ],
)
def test_what_is_not_acceptable_is_a_422_that_names_the_field(
    api: Api, changes: dict[str, Any], field: str
) -> None:
    document = problem(api.create(**changes), 422)
    assert [error["field"] for error in document["errors"]] == [field]
    assert AgentWorkOrder.objects.count() == 0


def test_sandbox_that_is_not_configured_names_the_setting(api: Api) -> None:
    assert "E2B_API_KEY" in problem(api.create(sandbox_type="e2b"), 422)["detail"]


def test_missing_fields_are_named(api: Api) -> None:
    document = problem(api.post("/agent-work-orders", {}), 422)
    fields = {error["field"] for error in document["errors"]}
    assert fields == {"repository_url", "sandbox_type", "workflow_type"}


def test_control_characters_are_dropped_from_a_prompt(api: Api) -> None:
    order = api.create(initial_prompt="a\x1b[31m\tb\nc\x85").json()["agent_work_order"]
    assert order["initial_prompt"] == "a[31m\tb\nc"


def test_an_order_lists_its_prompts_and_what_became_of_them(api: Api) -> None:
    order = make_order(head_sha=SHA)
    path = f"/agent-work-orders/{order}"
    assert api.get(path).json()["agent_work_order"]["prompts"] == []
    seen = api.get(path)["ETag"]
    for text in ("One", "Two"):
        api.post(f"{path}/prompt", {"prompt_text": text})
    assert api.get(path, headers={"If-None-Match": seen}).status_code == 200

    def prompts() -> list[tuple[str, str, str | None]]:
        shown = api.get(path).json()["agent_work_order"]["prompts"]
        assert all(item["by"] == "api" and item["created_at"] for item in shown)
        assert all(bool(item["note"]) == (item["status"] == "dropped") for item in shown)
        return [(item["prompt_text"], item["status"], item["dropped_because"]) for item in shown]

    assert prompts() == [("One", "queued", None), ("Two", "queued", None)]
    answer = api.post(f"{path}/cancel").json()["agent_work_order"]
    assert [item["status"] for item in answer["prompts"]] == ["dropped", "dropped"]
    assert prompts() == [("One", "dropped", "cancelled"), ("Two", "dropped", "cancelled")]
    api.post(f"{path}/retry")
    assert prompts() == [("One", "queued", None), ("Two", "queued", None)]
    api.post(f"{path}/cancel")
    api.post(f"{path}/prompt", {"prompt_text": "Three"})
    assert prompts() == [
        ("One", "dropped", "replaced"),
        ("Two", "dropped", "replaced"),
        ("Three", "queued", None),
    ]
    names = [entry["event"] for entry in api.get(f"{path}/logs").json()["log_entries"]]
    assert [names.count(f"agent_prompt_{end}") for end in ("queued", "dropped", "requeued")] == [3, 6, 2]
    listed = api.get("/agent-work-orders").json()["agent_work_orders"]
    assert "prompts" not in listed[0]


def test_get_of_an_unknown_order_is_a_problem(api: Api) -> None:
    for path in ("", "/git-progress", "/logs"):
        for order_id in ("wo-aaaaaaaa", "nothing", "wo-AAAAAAAA"):
            document = problem(api.get(f"/agent-work-orders/{order_id}{path}"), 404)
            assert document["code"] == "not_found"
            assert document["advice"]


def test_etag_answers_304_until_the_order_changes(api: Api) -> None:
    order = make_order()
    for path in (f"/agent-work-orders/{order}", f"/agent-work-orders/{order}/git-progress"):
        first = api.get(path)
        tag = first["ETag"]
        for header in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
            again = api.get(path, {"If-None-Match": header})
            assert (again.status_code, again.content) == (304, b""), header
            assert again["ETag"] == tag
        assert api.get(path, {"If-None-Match": '"other"'}).json() == first.json()
        assert api.get(path, {"If-None-Match": "rubbish ,,"}).status_code == 200
    tag = api.get(f"/agent-work-orders/{order}")["ETag"]
    api.post(f"/agent-work-orders/{order}/cancel")
    changed = api.get(f"/agent-work-orders/{order}", {"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed["ETag"] != tag


def test_head_answers_like_get_without_a_body(api: Api) -> None:
    order = make_order()
    response = api.client.head(f"/api/agent-work-orders/{order}")
    assert response.status_code == 200
    assert response["ETag"]
    assert response.content == b""


def test_git_progress_before_the_start(api: Api) -> None:
    order = make_order(workflow_type="agent_workflow_build")
    body = api.get(f"/agent-work-orders/{order}/git-progress").json()
    assert set(body) >= PROGRESS_FIELDS
    assert body["current_phase"] == "implementing"
    assert body["latest_commit_sha"] is None
    assert body["phase_history"] == []
    assert (
        body["snapshot_timestamp"]
        == api.get(f"/agent-work-orders/{order}").json()["agent_work_order"]["updated_at"]
    )


def test_git_progress_with_history(api: Api) -> None:
    order = make_order(current_phase="implementing", git_commit_count=3, latest_commit_sha=SHA)
    make_run(order, AgentWorkflowPhase.PLANNING, commits=1)
    make_run(order, AgentWorkflowPhase.IMPLEMENTING, PhaseRunStatus.RUNNING, commits=2)
    body = api.get(f"/agent-work-orders/{order}/git-progress").json()
    history = body["phase_history"]
    assert [(item["phase"], item["commits"]) for item in history] == [("planning", 1), ("implementing", 2)]
    assert all({"phase", "started_at", "completed_at", "commits"} <= set(item) for item in history)
    assert utc(history[0]["completed_at"]) > utc(history[0]["started_at"])
    assert history[1]["completed_at"] is None
    assert body["latest_commit_sha"] == SHA


def test_logs_are_flat_and_fixed_fields_win(api: Api) -> None:
    order = make_order()
    make_log(order, "git_branch_created", git_branch_name="x", level_name="y", event="forged", copy=1, _x=2)
    body = api.get(f"/agent-work-orders/{order}/logs").json()
    assert set(body) == {"agent_work_order_id", "log_entries", "total_count", "has_more"}
    first, second = body["log_entries"]
    assert first["event"] == "agent_work_order_created"
    assert [first["sequence"], second["sequence"]] == [1, 2]
    assert second["event"] == "git_branch_created"
    assert (second["git_branch_name"], second["copy"], second["_x"]) == ("x", 1, 2)
    for name in (
        "agent_work_order_id",
        "workflow_type",
        "sandbox_type",
        "repository_url",
        "timestamp",
        "level",
    ):
        assert second[name]
    utc(second["timestamp"])


def test_logs_page_tail_and_level(api: Api) -> None:
    order = make_order()
    make_log(order, "a", "b", "c", level="debug")
    make_log(order, "d", level="warning")
    path = f"/agent-work-orders/{order}/logs"
    page = api.get(path, limit=2).json()
    assert ([entry["sequence"] for entry in page["log_entries"]], page["total_count"]) == ([1, 2], 5)
    assert page["has_more"] is True
    page = api.get(path, limit=2, offset=4).json()
    assert ([entry["sequence"] for entry in page["log_entries"]], page["has_more"]) == ([5], False)
    page = api.get(path, after=3).json()
    assert [entry["sequence"] for entry in page["log_entries"]] == [4, 5]
    page = api.get(path, level="info").json()
    assert [entry["event"] for entry in page["log_entries"]] == ["agent_work_order_created", "d"]
    assert page["total_count"] == 2
    assert api.get(path, after=5).json()["log_entries"] == []


def test_list_newest_first_with_paging(api: Api) -> None:
    ids = [make_order().agent_work_order_id for _ in range(5)][::-1]
    page = api.get("/agent-work-orders", limit=2).json()
    assert [order["agent_work_order_id"] for order in page["agent_work_orders"]] == ids[:2]
    assert (page["total_count"], page["has_more"]) == (5, True)
    page = api.get("/agent-work-orders", limit=2, offset=4).json()
    assert [order["agent_work_order_id"] for order in page["agent_work_orders"]] == ids[4:]
    assert page["has_more"] is False
    assert set(page["agent_work_orders"][0]) >= ORDER_FIELDS
    assert api.get("/agent-work-orders", offset=10**9).json()["agent_work_orders"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"status": "failed"},
        {"sandbox_type": "git_worktree"},
        {"workflow_type": "agent_workflow_test"},
        {"workflow_type": "agent_workflow_validate"},
        {"repository_url": "git@github.com:OTHER/Repo.git"},
        {"repository_url": "https://github.com/other/repo/"},
        {"github_issue_number": "#7"},
        {"q": "PURPLE"},
        {"q": "er/rep"},
        {"q": "issue-7-wo"},
        {"q": "a 100% sure title"},
    ],
)
def test_list_filters(api: Api, query: dict[str, Any]) -> None:
    make_order(initial_prompt="100 percent")
    wanted = make_order(
        repository="Other/repo",
        status="failed",
        sandbox_type="git_worktree",
        workflow_type="agent_workflow_test",
        github_issue_number="7",
        initial_prompt="Make it purple",
        github_issue_title="A 100% sure title",
    )
    page = api.get("/agent-work-orders", **query).json()
    assert [order["agent_work_order_id"] for order in page["agent_work_orders"]] == [
        wanted.agent_work_order_id
    ]
    assert page["total_count"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "open"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "9" * 20}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"offset": "-1"}, "offset"),
        ({"offset": str(2**63)}, "offset"),
        ({"repository_url": "nonsense"}, "repository_url"),
        ({"github_issue_number": "x"}, "github_issue_number"),
        ({"q": "a\x00"}, "q"),
        ({"q": "x" * 201}, "q"),
    ],
)
def test_list_refuses_bad_filters(api: Api, query: dict[str, Any], field: str) -> None:
    document = problem(api.get("/agent-work-orders", **query), 422)
    assert [error["field"] for error in document["errors"]] == [field]


def test_prompt_is_queued_while_the_order_is_active(api: Api) -> None:
    order = make_order()
    body = {"agent_work_order_id": str(order), "prompt_text": "And the tests"}
    response = api.post(f"/agent-work-orders/{order}/prompt", body)
    assert response.status_code == 200
    assert response.json()["agent_work_order_id"] == str(order)
    assert response.json()["prompt_accepted"] is True
    assert response.json()["message"]
    assert AgentPrompt.objects.get().prompt_text == "And the tests"


def test_prompt_on_a_finished_order_reopens_it(api: Api) -> None:
    order = make_order(status="completed")
    assert api.post(f"/agent-work-orders/{order}/prompt", {"prompt_text": "More"}).status_code == 200
    order.refresh_from_db()
    assert order.status == AgentWorkOrderStatus.PENDING


def test_prompt_that_is_impossible_says_why(api: Api) -> None:
    order = make_order(status="failed")
    document = problem(api.post(f"/agent-work-orders/{order}/prompt", {"prompt_text": "More"}), 409)
    assert "retry" in document["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt_text"),
        ({"prompt_text": "  \n"}, "prompt_text"),
        ({"prompt_text": "x", "agent_work_order_id": "wo-zzzzzzzz"}, "agent_work_order_id"),
        ({"prompt_text": "x" * 100_001}, "prompt_text"),
    ],
)
def test_prompt_refuses(api: Api, body: dict[str, str], field: str) -> None:
    order = make_order()
    document = problem(api.post(f"/agent-work-orders/{order}/prompt", body), 422)
    assert [error["field"] for error in document["errors"]] == [field]


def test_cancel_then_retry(api: Api) -> None:
    order = make_order()
    response = api.post(f"/agent-work-orders/{order}/cancel")
    assert response.status_code == 202
    assert response.json()["agent_work_order"]["status"] == "cancelled"
    assert "already cancelled" in problem(api.post(f"/agent-work-orders/{order}/cancel"), 409)["detail"]
    response = api.post(f"/agent-work-orders/{order}/retry")
    assert response.status_code == 202
    assert response.json()["agent_work_order"]["status"] == "pending"
    problem(api.post(f"/agent-work-orders/{order}/retry"), 409)
    moves = WorkOrderTransition.objects.values_list("to_status", "by")
    assert list(moves) == [("pending", "test"), ("cancelled", "api"), ("pending", "api")]


@pytest.mark.parametrize("verb", ["cancel", "retry", "continue", "prompt"])
def test_posts_to_unknown_orders(api: Api, verb: str) -> None:
    for order_id in ("wo-aaaaaaaa", "x%00y"):
        problem(api.post(f"/agent-work-orders/{order_id}/{verb}", {"prompt_text": "x"}), 404)


def queries_of(api: Api, path: str, **query: Any) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert api.get(path, **query).status_code == 200
    return len(captured)


def test_reading_costs_a_constant_number_of_queries(api: Api) -> None:
    order = make_order()
    paths = [
        "/agent-work-orders",
        *(f"/agent-work-orders/{order}{end}" for end in ("", "/git-progress", "/logs")),
    ]
    before = [queries_of(api, path) for path in paths]
    for _ in range(10):
        make_order(repository="other/repo")
        make_run(order)
        make_log(order, "a", "b", "c")
    assert [queries_of(api, path) for path in paths] == before == [2, 1, 2, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {"repository_url": "https://github.com/octo/spoon/issues/42"},
        {"repository_url": "octo/spoon#42", "github_issue_number": 42},
        {"repository_url": "octo/spoon", "github_issue_number": "https://github.com/octo/spoon/issues/42"},
    ],
    ids=range(3),
)
def test_a_pasted_issue_link_fills_repository_and_issue(api: Api, changes: dict[str, object]) -> None:
    answer = api.post("/agent-work-orders", {**BODY, **changes})
    assert answer.status_code == 201
    order = answer.json()["agent_work_order"] if "agent_work_order" in answer.json() else answer.json()
    row = AgentWorkOrder.objects.get(agent_work_order_id=order["agent_work_order_id"])
    assert (row.repository.full_name, row.github_issue_number) == ("octo/spoon", "42")
    assert row.repository_url == "https://github.com/octo/spoon"


def test_a_pull_requests_link_is_refused_in_words(api: Api) -> None:
    answer = api.post(
        "/agent-work-orders", {**BODY, "repository_url": "https://github.com/octo/spoon/pull/3"}
    )
    assert answer.status_code == 422
    assert "#3 is a pull request of octo/spoon" in answer.content.decode()
