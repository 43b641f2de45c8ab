"""A process goes on with an order it has begun: it claims the next step as the one before it ends, if it may."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django_q.models import OrmQ

from tests.factories import make_order
from tests.workflow_engine.engine import finished, local_order, running_engine
from tests.workflow_engine.rows import HEAD, OWNER, claim, lost_workers
from workorders.domain.errors import LeaseLost
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.models.clock import database_now
from workorders.services import work_orders as services
from workorders.workflow_engine.claims.lease import claim_steps
from workorders.workflow_engine.record.journal import StepJournal
from workorders.workflow_engine.record.recorder import InlineDatabase

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]


def ended(order: AgentWorkOrder, *, keep_seconds: float) -> StepJournal:
    """The journal of the order's first step, which has just succeeded."""
    journal = StepJournal(claim(order), InlineDatabase(), keep_seconds=lambda: keep_seconds)
    plan = journal.begin()
    OrmQ.objects.all().delete()
    journal.finish_step(plan, PhaseRunStatus.SUCCEEDED, head_sha=HEAD)
    order.refresh_from_db()
    return journal


def other_claims() -> list[int]:
    return [found.pk for found in claim_steps(owner="other:2:2", lease_seconds=30, limit=5)]


def test_the_next_step_is_claimed_as_the_step_ends() -> None:
    order = make_order(workflow_type=AgentWorkflowType.PLAN_BUILD)
    journal = ended(order, keep_seconds=30)
    assert journal.following is not None
    following = journal.following.claim
    assert (following.pk, following.epoch, following.owner) == (order.pk, journal.claim.epoch + 1, OWNER)
    assert (order.claim_epoch, order.claim_owner) == (following.epoch, OWNER)
    assert order.lease_expires_at is not None
    assert 25 < (order.lease_expires_at - database_now()).total_seconds() <= 30
    assert other_claims() == []
    assert not OrmQ.objects.exists(), "nobody else is asked to come"
    with pytest.raises(LeaseLost):
        journal.update_order(git_commit_count=5)
    plan = StepJournal(following, InlineDatabase()).begin()
    assert plan.phase == "implementing"


def test_a_process_that_ends_lets_the_order_go() -> None:
    order = make_order(workflow_type=AgentWorkflowType.PLAN_BUILD)
    journal = ended(order, keep_seconds=0)
    assert journal.following is None
    assert (order.claim_owner, order.lease_expires_at) == ("", None)
    assert OrmQ.objects.count() == 1
    assert other_claims() == [order.pk]


def test_a_suspect_is_let_go() -> None:
    order = lost_workers(2, workflow_type=AgentWorkflowType.PLAN_BUILD)
    journal = ended(order, keep_seconds=30)
    assert journal.claim.is_suspect
    assert journal.following is None
    assert other_claims() == [order.pk]


def test_an_order_that_is_cancelled_meanwhile_is_let_go() -> None:
    order = make_order(workflow_type=AgentWorkflowType.PLAN_BUILD)
    journal = StepJournal(claim(order), InlineDatabase(), keep_seconds=lambda: 30.0)
    plan = journal.begin()
    services.cancel_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
    journal.finish_step(plan, PhaseRunStatus.SUCCEEDED, head_sha=HEAD)
    order.refresh_from_db()
    assert journal.following is None
    assert order.status == "cancelled"


def test_an_order_ends_before_another_begins(tmp_path: Path) -> None:
    said = tmp_path / "said"
    orders = [
        local_order(
            tmp_path,
            f"agent: run echo {number} >> {said}",
            workflow_type=AgentWorkflowType.PLAN_BUILD_TEST,
        )
        for number in range(3)
    ]
    with running_engine(share=1):
        for order in orders:
            assert finished(order, 60).status == "completed"
    assert said.read_text().split() == ["0"] * 3 + ["1"] * 3 + ["2"] * 3


def test_all_steps_of_an_order_run_in_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    begin = StepJournal.begin

    def begun(self: StepJournal) -> object:
        threads.append(threading.get_ident())
        return begin(self)

    monkeypatch.setattr(StepJournal, "begin", begun)
    order = local_order(tmp_path, workflow_type=AgentWorkflowType.PLAN_BUILD)
    with running_engine():
        finished(order)
    assert (order.status, order.claim_epoch, len(threads), len(set(threads))) == ("completed", 3, 3, 1)


def test_a_claim_that_was_rolled_back_is_none() -> None:
    """The database was away at the commit, and somebody cancelled before it was tried again."""
    order = make_order(workflow_type=AgentWorkflowType.PLAN_BUILD)

    class AwayOnce(InlineDatabase):
        def call(self, function: Callable[[], Any], **_more: Any) -> Any:
            with transaction.atomic():
                function()
                transaction.set_rollback(True)
            services.cancel_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
            return function()

    journal = StepJournal(claim(order), InlineDatabase(), keep_seconds=lambda: 30.0)
    plan = journal.begin()
    journal._database = AwayOnce()
    journal.finish_step(plan, PhaseRunStatus.SUCCEEDED, head_sha=HEAD)
    order.refresh_from_db()
    assert (order.status, journal.following) == ("cancelled", None)
