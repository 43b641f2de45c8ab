"""A step that waits: put back without an attempt, shown everywhere, ended by time, by a person or by the end."""

import json
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from tests.factories import make_order
from tests.workflow_engine.rows import again, begun
from workorders.domain.errors import ConflictError
from workorders.domain.states import PhaseRunStatus, Wait, WaitingReason
from workorders.models import AgentWorkOrder
from workorders.models.clock import database_now
from workorders.services import work_orders as services
from workorders.workflow_engine.claims.lease import claim_steps
from workorders.workflow_engine.planning.step_plan import plan_step
from workorders.workflow_engine.record.journal import StepJournal
from workorders.workflow_engine.record.recorder import InlineDatabase

pytestmark = pytest.mark.django_db
QUOTA = Wait(WaitingReason.MODEL_QUOTA, "You've hit your limit; resets 3:45pm.", 900)
DISK = Wait(WaitingReason.DISK_FULL, "2 GB are free; an order needs 5 GB.")
APPROVAL = Wait(WaitingReason.APPROVAL_REQUIRED, "It changes .github/workflows/ci.yml.")


def waiting(wait: Wait = QUOTA) -> AgentWorkOrder:
    journal, plan = begun()
    journal.wait(plan, wait)
    return AgentWorkOrder.objects.get(pk=journal.claim.pk)


def go_on(order: AgentWorkOrder) -> AgentWorkOrder:
    return services.continue_agent_work_order(agent_work_order_id=str(order), by="ann")


def command(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


def test_a_wait_with_a_time() -> None:
    order = waiting()
    assert (order.status, order.claim_owner, order.lease_expires_at) == ("running", "", None)
    assert order.waiting_until == order.claimable_at
    assert order.waiting_until is not None
    assert 890 < (order.waiting_until - database_now()).total_seconds() <= 900
    run = order.phase_runs.get()
    assert (run.status, run.error_category) == (PhaseRunStatus.INTERRUPTED, "model_quota")
    assert order.log_entries.filter(event="workflow_step_waiting").exists()
    assert claim_steps(owner="w", lease_seconds=30, limit=5) == []
    _journal, plan = again(order)
    assert (plan.attempt, plan.workers_lost) == (1, 0)
    order.refresh_from_db()
    assert (order.waiting_reason, order.waiting_message) == ("", "")
    assert not order.waiting_until


def test_a_wait_for_a_person_is_claimed_by_nobody() -> None:
    order = waiting(DISK)
    assert (order.claimable_at, order.waiting_until) == (None, None)
    assert claim_steps(owner="w", lease_seconds=30, limit=5) == []


def test_a_wait_leaves_a_run_that_does_not_count() -> None:
    order = make_order()
    (claim,) = claim_steps(owner="w", lease_seconds=30, limit=5)
    journal = StepJournal(claim, InlineDatabase())
    journal.wait(journal.begin(), DISK)
    order.refresh_from_db()
    assert order.waiting_reason == "disk_full"
    assert order.phase_runs.get().status == "interrupted"
    assert plan_step(order).attempt == 1


def test_going_on_now() -> None:
    order = waiting()
    OrmQ.objects.all().delete()
    order = go_on(order)
    assert (order.waiting_reason, order.waiting_message) == ("", "")
    assert not order.waiting_until
    assert OrmQ.objects.count() == 1
    assert len(claim_steps(owner="w", lease_seconds=30, limit=5)) == 1
    with pytest.raises(ConflictError, match="not waiting"):
        go_on(order)


def test_a_decision_is_no_impatience() -> None:
    with pytest.raises(ConflictError, match="decision"):
        go_on(waiting(APPROVAL))


def test_cancel_ends_a_wait_at_once_and_wins_over_a_new_one() -> None:
    order = services.cancel_agent_work_order(agent_work_order_id=str(waiting()), by="ann")
    assert (order.status, order.waiting_reason, order.claimable_at) == ("cancelled", "", None)
    journal, plan = begun()
    AgentWorkOrder.objects.filter(pk=journal.claim.pk).update(cancel_requested_at=timezone.now())
    journal.wait(plan, QUOTA)
    order = AgentWorkOrder.objects.get(pk=journal.claim.pk)
    assert (order.status, order.waiting_reason) == ("cancelled", "")


def test_it_is_seen_and_ended_on_the_page(client: Client) -> None:
    order = waiting()
    page = client.get(reverse("work-order", args=[order])).content.decode()
    assert "usage limit to reset" in page
    assert f"{order.waiting_until:%H:%M:%S} UTC" in page
    assert "resets 3:45pm" in page
    address = reverse("work-order-continue", args=[order])
    assert address in page
    assert "Waiting to try again" not in page
    assert "usage limit to reset until" in client.get("/").content.decode()
    assert Client(enforce_csrf_checks=True).post(address).status_code == 403
    after = client.post(address, follow=True).content.decode()
    assert "goes on" in after
    assert "usage limit" not in after.split('id="activity"')[0]


def test_a_decision_has_no_button_to_go_on(client: Client) -> None:
    order = waiting(APPROVAL)
    page = client.get(reverse("work-order", args=[order])).content.decode()
    assert "Approve commit" in page
    assert reverse("work-order-continue", args=[order]) not in page


def test_it_is_seen_and_ended_by_api(client: Client) -> None:
    order = waiting()
    address = f"/api/agent-work-orders/{order}"
    shown = client.get(address).json()["agent_work_order"]
    assert shown["waiting_reason"] == "model_quota"
    assert shown["waiting_until"].endswith("Z")
    assert "3:45pm" in shown["waiting_message"]
    (listed,) = client.get("/api/agent-work-orders").json()["agent_work_orders"]
    assert listed["waiting_reason"] == "model_quota"
    answer = client.post(f"{address}/continue")
    assert answer.status_code == 202
    assert answer.json()["agent_work_order"]["waiting_reason"] is None
    assert client.post(f"{address}/continue").status_code == 409
    assert client.post("/api/agent-work-orders/wo-aaaaaaaa/continue").status_code == 404


def test_it_is_seen_and_ended_by_commands() -> None:
    order = waiting()
    assert "Waiting:       for the model's usage limit to reset, until 2" in command(
        "show_work_order", str(order)
    )
    assert "(waiting for the model's usage limit to reset)" in command("list_work_orders")
    body = json.loads(command("continue_work_order", str(order), "--json"))
    assert body["agent_work_order"]["waiting_reason"] is None
    with pytest.raises(CommandError, match="not waiting"):
        command("continue_work_order", str(order))


def test_the_admin_ends_it(client: Client) -> None:
    order = waiting()
    client.force_login(User.objects.create_superuser("root"))
    client.post(
        reverse("admin:workorders_agentworkorder_changelist"),
        {"action": "go_on", "_selected_action": [order.pk]},
    )
    order.refresh_from_db()
    assert order.waiting_reason == ""
