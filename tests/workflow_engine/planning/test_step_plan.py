"""The decision table of the next step: what the rows say, what is done next, and what an attempt counts as."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.factories import SHA, make_order, make_run
from workorders.domain.states import AgentWorkOrderStatus, PhaseRunStatus, PromptStatus
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType, StepKind
from workorders.models import AgentPrompt, AgentWorkOrder, PhaseRun
from workorders.models.phase_run import WORKER_LOST, WORKER_REPLACED
from workorders.services import work_orders as services
from workorders.workflow_engine.planning.step_plan import StepPlan, plan_step

pytestmark = pytest.mark.django_db
PLANNING, IMPLEMENTING, TESTING = (
    AgentWorkflowPhase.PLANNING,
    AgentWorkflowPhase.IMPLEMENTING,
    AgentWorkflowPhase.TESTING,
)
PHASE, FOLLOW_UP, DELIVERY = StepKind.PHASE, StepKind.FOLLOW_UP, StepKind.DELIVERY
Run = PhaseRunStatus
Workflow = AgentWorkflowType


def planned(order: AgentWorkOrder) -> StepPlan:
    return plan_step(AgentWorkOrder.objects.select_related("repository").get(pk=order.pk))


def prompt(
    order: AgentWorkOrder, status: PromptStatus = PromptStatus.QUEUED, text: str = "More"
) -> AgentPrompt:
    return AgentPrompt.objects.create(agent_work_order=order, prompt_text=text, by="ann", status=status)


def lost(order: AgentWorkOrder, phase: AgentWorkflowPhase = PLANNING, **values: Any) -> PhaseRun:
    return make_run(order, phase, Run.INTERRUPTED, error_category=WORKER_LOST, **values)


@pytest.mark.parametrize(
    ("workflow", "done", "kind", "phase"),
    [
        (Workflow.PLAN_BUILD_TEST, [], PHASE, PLANNING),
        (Workflow.PLAN_BUILD_TEST, [PLANNING], PHASE, IMPLEMENTING),
        (Workflow.PLAN_BUILD_TEST, [PLANNING, IMPLEMENTING], PHASE, TESTING),
        (Workflow.PLAN_BUILD_TEST, [PLANNING, IMPLEMENTING, TESTING], DELIVERY, TESTING),
        (Workflow.PLAN_BUILD_TEST, [IMPLEMENTING], PHASE, PLANNING),
        (Workflow.PLAN_BUILD, [PLANNING, IMPLEMENTING], DELIVERY, IMPLEMENTING),
        (Workflow.PLAN, [], PHASE, PLANNING),
        (Workflow.PLAN, [PLANNING], DELIVERY, PLANNING),
        (Workflow.BUILD, [], PHASE, IMPLEMENTING),
        (Workflow.BUILD, [IMPLEMENTING], DELIVERY, IMPLEMENTING),
        (Workflow.TEST, [], PHASE, TESTING),
        (Workflow.TEST, [TESTING], DELIVERY, TESTING),
    ],
)
def test_the_first_unfinished_phase_then_delivery(
    workflow: Workflow, done: list[AgentWorkflowPhase], kind: StepKind, phase: AgentWorkflowPhase
) -> None:
    order = make_order(workflow_type=workflow)
    for finished in done:
        make_run(order, finished)
    plan = planned(order)
    assert (plan.kind, plan.phase, plan.attempt) == (kind, phase, 1)
    assert (plan.step.phase if plan.step else None) == (phase if kind is PHASE else None)
    assert plan.follow_up is None


@pytest.mark.parametrize("status", Run)
def test_only_a_phase_that_succeeded_or_needs_no_change_is_done(status: Run) -> None:
    order = make_order()
    make_run(order, PLANNING, status)
    finished = status in {Run.SUCCEEDED, Run.NO_CHANGE_NEEDED}
    assert planned(order).phase is (IMPLEMENTING if finished else PLANNING)


def test_a_phase_stays_done_when_an_older_attempt_failed() -> None:
    order = make_order()
    make_run(order, PLANNING, Run.FAILED)
    make_run(order, PLANNING)
    assert planned(order).phase is IMPLEMENTING


# --- follow-up prompts ---


def test_a_waiting_prompt_comes_first_once_there_is_a_commit() -> None:
    order = make_order()
    first = prompt(order, text="First")
    prompt(order, text="Second")
    assert planned(order).kind is PHASE
    AgentWorkOrder.objects.filter(pk=order.pk).update(head_sha=SHA)
    plan = planned(order)
    assert (plan.kind, plan.phase, plan.step) == (FOLLOW_UP, IMPLEMENTING, None)
    assert plan.follow_up is not None
    assert (plan.follow_up.pk, plan.follow_up.text) == (first.pk, "First")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (PromptStatus.QUEUED, FOLLOW_UP),
        (PromptStatus.RUNNING, FOLLOW_UP),
        (PromptStatus.DONE, DELIVERY),
        (PromptStatus.DROPPED, DELIVERY),
    ],
)
def test_prompts_that_are_dealt_with_do_not_come_again(status: PromptStatus, kind: StepKind) -> None:
    order = make_order(workflow_type=Workflow.PLAN, head_sha=SHA)
    make_run(order, PLANNING)
    prompt(order, status)
    assert planned(order).kind is kind


@pytest.mark.parametrize(
    ("workflow", "phase"),
    [
        (Workflow.PLAN, PLANNING),
        (Workflow.TEST, TESTING),
        (Workflow.BUILD, IMPLEMENTING),
        (Workflow.PLAN_BUILD_TEST, IMPLEMENTING),
    ],
)
def test_the_phase_a_prompt_works_in(workflow: Workflow, phase: AgentWorkflowPhase) -> None:
    order = make_order(workflow_type=workflow, head_sha=SHA)
    prompt(order)
    assert planned(order).phase is phase


def test_a_follow_up_counts_its_own_attempts_and_goes_on_with_the_orders_last_session() -> None:
    order = make_order(workflow_type=Workflow.PLAN, head_sha=SHA)
    make_run(order, PLANNING, Run.FAILED, agent_session_id="one", error_message="Old trouble.")
    make_run(order, PLANNING, agent_session_id="two")
    earlier = prompt(order, PromptStatus.DONE)
    run = make_run(
        order, PLANNING, kind=FOLLOW_UP, prompt=earlier, agent_session_id="three", start_sha="1" * 40
    )
    PhaseRun.objects.filter(pk=run.pk).update(worker="here:1:1")
    current = prompt(order)
    plan = planned(order)
    assert (plan.attempt, plan.previous_session_id, plan.previous_failure) == (1, "three", "")
    assert plan.session_host == "here"
    assert (plan.phase_start_sha, plan.planned_sha) == ("", "")
    make_run(order, PLANNING, Run.FAILED, kind=FOLLOW_UP, prompt=current, error_message="It broke.")
    plan = planned(order)
    assert (plan.attempt, plan.previous_session_id, plan.previous_failure) == (2, "three", "It broke.")


# --- attempts ---


def test_failures_and_lost_workers_count_interruptions_do_not() -> None:
    order = make_order()
    make_run(order, PLANNING, Run.FAILED)
    assert (planned(order).attempt, planned(order).workers_lost) == (2, 0)
    make_run(order, PLANNING, Run.INTERRUPTED)
    assert (planned(order).attempt, planned(order).workers_lost) == (2, 0)
    lost(order)
    assert (planned(order).attempt, planned(order).workers_lost) == (3, 1)
    make_run(order, PLANNING, Run.RUNNING)  # still open: its worker is gone as well
    assert (planned(order).attempt, planned(order).workers_lost) == (4, 2)


def test_an_order_that_hangs_its_workers_ends_on_a_machine_that_is_always_busy() -> None:
    order = make_order()
    counted = []
    for _ in range(6):
        make_run(order, PLANNING, Run.INTERRUPTED, error_category=WORKER_REPLACED, excused=True)
        counted.append(planned(order).workers_lost)
        assert planned(order).tries == 1, "it is no failure of the step"
    assert counted == [0, 1, 1, 2, 2, 3]


def test_another_phases_attempts_do_not_count() -> None:
    order = make_order()
    make_run(order, PLANNING, Run.FAILED)
    lost(order)
    make_run(order, PLANNING)
    assert (planned(order).attempt, planned(order).workers_lost) == (1, 0)


def test_a_retry_starts_counting_anew() -> None:
    order = make_order()
    earlier = timezone.now() - timedelta(hours=1)
    for number in (1, 2):
        make_run(order, PLANNING, Run.FAILED, started_at=earlier, attempt=number, error_message="It broke.")
    lost(order, started_at=earlier)
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        status=AgentWorkOrderStatus.FAILED, claimable_at=None, error_message="It broke.", error_category="x"
    )
    services.retry_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
    assert (planned(order).attempt, planned(order).workers_lost) == (1, 0)
    make_run(order, PLANNING, Run.FAILED)
    assert planned(order).attempt == 2


def test_deliveries_count_from_the_last_work() -> None:
    order = make_order(workflow_type=Workflow.PLAN, head_sha=SHA)
    make_run(order, PLANNING)
    make_run(order, PLANNING, Run.FAILED, kind=DELIVERY, error_message="GitHub is away.")
    assert (planned(order).kind, planned(order).attempt) == (DELIVERY, 2)
    assert planned(order).previous_failure == "GitHub is away."
    make_run(order, PLANNING, kind=FOLLOW_UP, prompt=prompt(order, PromptStatus.DONE))
    assert (planned(order).kind, planned(order).attempt) == (DELIVERY, 1)


# --- what an earlier attempt leaves to the next ---


def test_the_session_of_the_earlier_attempt_is_gone_on_with() -> None:
    order = make_order()
    assert planned(order).previous_session_id == ""
    make_run(order, PLANNING, Run.FAILED, agent_session_id="one", worker="here:1:1")
    make_run(order, PLANNING, Run.INTERRUPTED)
    assert (planned(order).previous_session_id, planned(order).session_host) == ("one", "")
    make_run(order, PLANNING, agent_session_id="two")
    assert planned(order).previous_session_id == ""  # another phase starts with a session of its own


def test_an_unusable_session_is_left() -> None:
    order = make_order()
    make_run(order, PLANNING, Run.FAILED, agent_session_id="one", error_category="agent_session_unusable")
    assert planned(order).previous_session_id == ""
    make_run(order, PLANNING, Run.FAILED, agent_session_id="two", error_category="agent_failed")
    assert planned(order).previous_session_id == "two"


def test_the_agent_hears_of_the_last_failure_only() -> None:
    order = make_order()
    make_run(order, PLANNING, Run.FAILED, error_message="First.")
    make_run(order, PLANNING, Run.FAILED, error_message="Second.")
    assert planned(order).previous_failure == "Second."
    make_run(order, PLANNING, Run.INTERRUPTED, error_message="The worker was stopped.")
    assert planned(order).previous_failure == ""


def test_an_inspected_commit_waits_for_its_push_also_when_later_workers_died() -> None:
    order = make_order()
    lost(order, planned_sha="1" * 40, start_sha="0" * 40)
    assert (planned(order).planned_sha, planned(order).phase_start_sha) == ("1" * 40, "0" * 40)
    lost(order)  # it died before it came to look
    make_run(order, PLANNING, Run.INTERRUPTED, start_sha="1" * 40)
    assert (planned(order).planned_sha, planned(order).phase_start_sha) == ("1" * 40, "0" * 40)
    make_run(order, PLANNING, Run.FAILED, planned_sha="2" * 40)
    assert planned(order).planned_sha == "2" * 40
    make_run(order, PLANNING, planned_sha="3" * 40)
    assert planned(order).planned_sha == ""


def test_spans_are_the_runs_that_ended_with_a_commit_without_deliveries() -> None:
    order = make_order()
    make_run(order, PLANNING, Run.FAILED, start_sha="0" * 40)
    make_run(order, PLANNING, start_sha="0" * 40, end_sha="1" * 40)
    make_run(order, IMPLEMENTING, start_sha="1" * 40, end_sha="2" * 40)
    make_run(order, IMPLEMENTING, kind=DELIVERY, start_sha="2" * 40, end_sha="2" * 40)
    spans = [(span.phase, span.start_sha[0], span.end_sha[0]) for span in planned(order).spans]
    assert spans == [(PLANNING, "0", "1"), (IMPLEMENTING, "1", "2")]


def test_a_wanted_cancel_is_told() -> None:
    assert planned(make_order()).cancel_requested is False
    assert planned(make_order(cancel_requested_at=timezone.now())).cancel_requested is True
