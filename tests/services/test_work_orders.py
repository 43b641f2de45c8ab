"""The write path: create, prompt, retry, cancel, answer_once, and the table of legal moves."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import OrmQ

from github_app.models import Repository
from github_app.references import RepositoryReference
from sandboxes.kinds import SandboxType
from tests.factories import SHA, make_order, make_repository
from workorders.api.problems import problem_of
from workorders.domain.errors import (
    ConflictError,
    IdempotencyConflict,
    InvalidInput,
    RepositoryNotFound,
    WorkOrderNotFound,
)
from workorders.domain.states import LEGAL_MOVES, AgentWorkOrderStatus, is_legal
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentPrompt, AgentWorkOrder, IdempotencyRecord, WorkOrderTransition
from workorders.services import api_keys
from workorders.services import work_orders as services
from workorders.services.work_orders import Answer, NewWorkOrder

pytestmark = pytest.mark.django_db
Status = AgentWorkOrderStatus


def request(**changes: Any) -> NewWorkOrder:
    values: dict[str, Any] = {
        "repository": RepositoryReference("github.com", "octo", "spoon"),
        "sandbox_type": SandboxType.GIT_BRANCH,
        "workflow_type": AgentWorkflowType.PLAN,
        **changes,
    }
    return NewWorkOrder(**values)


def events(order: AgentWorkOrder) -> list[str]:
    return list(order.log_entries.values_list("event", flat=True))


def test_create_writes_order_history_log_and_ticket_together() -> None:
    order = services.create_agent_work_order(request=request(github_issue_number="7"), by="ann")
    order.refresh_from_db()
    assert order.status == Status.PENDING
    assert order.git_branch_name == f"feat-issue-7-{order.agent_work_order_id}"
    assert order.claimable_at is not None
    assert order.log_sequence == 1
    assert events(order) == ["agent_work_order_created"]
    transition = order.transitions.get()
    assert (transition.from_status, transition.to_status, transition.by) == ("", "pending", "ann")
    assert OrmQ.objects.count() == 1


def test_create_takes_the_repositorys_defaults() -> None:
    make_repository("octo/spoon", default_base_branch="develop", default_model="opus")
    order = services.create_agent_work_order(request=request(), by="ann")
    assert (order.base_branch, order.model) == ("develop", "opus")
    order = services.create_agent_work_order(request=request(base_branch="main", model="haiku"), by="ann")
    assert (order.base_branch, order.model) == ("main", "haiku")


def test_one_repository_row_for_every_spelling() -> None:
    for owner, name in (("octo", "spoon"), ("Octo", "SPOON")):
        services.create_agent_work_order(
            request=request(repository=RepositoryReference("github.com", owner, name)), by="ann"
        )
    assert Repository.objects.count() == 1


def test_create_refuses_what_the_server_cannot_do() -> None:
    with pytest.raises(InvalidInput, match="DAGGER") as caught:
        services.create_agent_work_order(request=request(sandbox_type=SandboxType.DAGGER), by="ann")
    assert caught.value.field == "sandbox_type"
    local = services.parse_repository("/srv/spoon")
    with pytest.raises(InvalidInput) as caught:
        services.create_agent_work_order(request=request(repository=local, github_issue_number="7"), by="ann")
    assert caught.value.field == "github_issue_number"
    assert AgentWorkOrder.objects.count() == 0


@pytest.mark.parametrize(
    ("current", "target"), [(current, target) for current in Status for target in Status if current != target]
)
def test_every_move_is_as_the_table_says(current: Status, target: Status) -> None:
    order = make_order(status=current)
    needed = {
        Status.COMPLETED: {"outcome": "pull_request_opened", "head_sha": SHA},
        Status.FAILED: {"error_message": "x", "error_category": "y"},
    }
    changes: dict[str, Any] = {"claimable_at": None, **needed.get(target, {})}
    moves_before = order.transitions.count()
    if is_legal(current, target):
        version = order.version
        order.move(target, by="test", **changes)
        assert (order.status, order.version) == (target, version + 1)
        last = order.transitions.last()
        assert last is not None
        assert (last.from_status, last.to_status) == (current, target)
    else:
        with pytest.raises(ConflictError):
            order.move(target, by="test", **changes)
        assert order.transitions.count() == moves_before


def test_finished_orders_only_reopen() -> None:
    assert all(LEGAL_MOVES[status] == {Status.PENDING} for status in (Status.FAILED, Status.CANCELLED))


def test_move_loses_against_a_concurrent_one() -> None:
    order = make_order()
    stale = AgentWorkOrder.objects.get(pk=order.pk)
    order.move(Status.RUNNING, by="worker")
    with pytest.raises(ConflictError):
        stale.move(Status.CANCELLED, by="ann")
    order.refresh_from_db()
    assert order.status == Status.RUNNING


def test_cancel_of_a_pending_order_is_immediate() -> None:
    order = make_order()
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="x", by="ann")
    order = services.cancel_agent_work_order(agent_work_order_id=str(order), by="ann")
    assert (order.status, order.claimable_at, order.cancel_requested_at) == (Status.CANCELLED, None, None)
    assert order.execution_completed_at is not None
    assert AgentPrompt.objects.get().status == "dropped"


def test_cancel_of_a_claimed_order_only_asks_the_worker() -> None:
    order = make_order(status="running", claim_owner="w1", claim_epoch=1, lease_expires_at=timezone.now())
    for _ in range(2):
        cancelled = services.cancel_agent_work_order(agent_work_order_id=str(order), by="ann")
        assert cancelled.status == Status.RUNNING
        assert cancelled.cancel_requested_at is not None
    assert cancelled.version == order.version + 1
    assert events(order).count("agent_work_order_cancel_requested") == 1
    with pytest.raises(ConflictError, match="being cancelled"):
        services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="x", by="ann")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_cancel_of_a_finished_order_is_a_conflict(status: str) -> None:
    order = make_order(status=status)
    with pytest.raises(ConflictError, match=status):
        services.cancel_agent_work_order(agent_work_order_id=str(order), by="ann")


def test_prompt_waits_on_an_active_order() -> None:
    order = make_order()
    tickets = OrmQ.objects.count()
    prompt = services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="more", by="ann")
    assert (prompt.status, prompt.by) == ("queued", "ann")
    assert OrmQ.objects.count() == tickets


def test_prompt_reopens_a_finished_order_with_a_ticket() -> None:
    order = make_order(status="completed")
    tickets = OrmQ.objects.count()
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="more", by="ann")
    order.refresh_from_db()
    assert (order.status, order.outcome, order.execution_completed_at) == (Status.PENDING, None, None)
    assert OrmQ.objects.count() == tickets + 1


def test_prompt_refuses_what_has_no_commit_or_no_text() -> None:
    order = make_order(status="failed")
    with pytest.raises(ConflictError, match="retry"):
        services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="more", by="ann")
    with pytest.raises(InvalidInput):
        services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text=" \n", by="ann")
    AgentWorkOrder.objects.filter(pk=order.pk).update(head_sha=SHA)
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="more", by="ann")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_retry_keeps_branch_and_commits(status: str) -> None:
    order = make_order(status=status, head_sha=SHA, git_commit_count=2)
    retried = services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    assert retried.status == Status.PENDING
    assert (retried.git_branch_name, retried.head_sha) == (order.git_branch_name, SHA)
    assert (retried.git_commit_count, retried.error_message, retried.error_category) == (2, None, None)
    assert retried.claimable_at is not None


@pytest.mark.parametrize("status", ["pending", "running", "completed"])
def test_retry_refuses(status: str) -> None:
    order = make_order(status=status)
    with pytest.raises(ConflictError):
        services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")


def test_unknown_orders() -> None:
    with pytest.raises(WorkOrderNotFound):
        services.get_agent_work_order("wo-aaaaaaaa")
    for act in (services.cancel_agent_work_order, services.retry_agent_work_order):
        with pytest.raises(WorkOrderNotFound):
            act(agent_work_order_id="wo-aaaaaaaa", by="ann")


def test_answer_once() -> None:
    calls: list[int] = []

    def produce() -> Answer:
        calls.append(1)
        return Answer(201, {"number": len(calls)})

    first = services.answer_once(endpoint="POST x", key="k", body={"a": 1}, produce=produce)
    again = services.answer_once(endpoint="POST x", key="k", body={"a": 1}, produce=produce)
    assert (first.body, again.body, again.repeated) == ({"number": 1}, {"number": 1}, True)
    assert services.answer_once(endpoint="POST y", key="k", body={}, produce=produce).body == {"number": 2}
    assert services.answer_once(endpoint="POST x", key="", body={}, produce=produce).body == {"number": 3}
    with pytest.raises(IdempotencyConflict):
        services.answer_once(endpoint="POST x", key="k", body={"a": 2}, produce=produce)


def test_answer_once_forgets_a_failure_and_what_it_wrote() -> None:
    def fail() -> Answer:
        make_order()
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        services.answer_once(endpoint="POST x", key="k", body={}, produce=fail)
    assert IdempotencyRecord.objects.count() == 0
    assert AgentWorkOrder.objects.count() == 0
    assert WorkOrderTransition.objects.count() == 0


def test_creating_costs_a_constant_number_of_queries() -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            services.create_agent_work_order(request=request(), by="ann")
        return len(captured)

    cost()
    first = cost()
    for _ in range(5):
        make_order()
    assert cost() == first


def test_what_is_missing_is_looked_for_in_its_own_place() -> None:
    """The advice of one kind of thing is none for another."""
    with pytest.raises(RepositoryNotFound) as repository:
        services.request_verification(repository_pk=999_999, by="ann")
    assert "repositories" in repository.value.advice
    assert "agent-work-orders" not in repository.value.advice
    with pytest.raises(WorkOrderNotFound) as order:
        services.get_agent_work_order("wo-aaaaaaaa")
    assert "GET /api/agent-work-orders" in order.value.advice
    with pytest.raises(api_keys.ApiKeyNotFound) as key:
        api_keys.revoke_api_key(prefix="wok_aaaaaaaa", by="ann")
    assert "list_api_keys" in key.value.advice
    for error in (repository.value, order.value):
        problem = problem_of(error)
        assert (problem.status, problem.code, problem.advice) == (404, "not_found", error.advice)
