"""The rows of a claimed step: each method whole or not at all, and nothing once the lease is lost."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from github_app.types import GitHubRepository
from sandboxes.errors import ExpectedError, PushRejected
from tests.factories import SHA, make_order, make_run
from tests.workflow_engine.rows import (
    HEAD,
    OWNER,
    again,
    all_rows,
    begun,
    claim,
    expire,
    placed,
    progress,
    take_over,
)
from workorders.agents.base import AgentFailure, AgentFailureCategory, AgentRunResult
from workorders.domain.errors import LeaseLost
from workorders.domain.states import (
    AgentWorkOrderOutcome,
    AgentWorkOrderStatus,
    EffectState,
    PhaseRunStatus,
    PromptStatus,
    Wait,
    WaitingReason,
)
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType, StepKind
from workorders.model_gateway.access import CredentialKind
from workorders.models import AgentPrompt, AgentWorkOrder
from workorders.models.clock import database_now
from workorders.models.logs import LogEvent
from workorders.models.phase_run import WORKER_LOST
from workorders.workflow_engine.handlers.agent import AgentRunFailed
from workorders.workflow_engine.planning.step_plan import StepPlan
from workorders.workflow_engine.record import journal as journal_module
from workorders.workflow_engine.record.journal import StepJournal
from workorders.workflow_engine.record.recorder import InlineDatabase, LogBuffer
from workorders.workflow_engine.record.usage import ModelGrant
from workorders.workflow_engine.results_file.results import AgentTestResults

pytestmark = pytest.mark.django_db
Status, Run, Outcome = AgentWorkOrderStatus, PhaseRunStatus, AgentWorkOrderOutcome
PUSHED = Outcome.BRANCH_PUSHED
RESULT = AgentRunResult(
    succeeded=True,
    failure=None,
    session_id="session",
    result_text="done",
    cost_usd=Decimal("0.25"),
    input_tokens=10,
    output_tokens=5,
    cache_read_tokens=0,
    cache_creation_tokens=0,
    turns=1,
    permission_denials=0,
    exit_code=0,
    duration_seconds=1.0,
    stderr_tail="",
    output_truncated=False,
)
TESTS = AgentTestResults.model_validate(
    {"passed": 2, "failed": 1, "tests": [{"name": "one", "status": "failed"}]}
)


class Passing(ExpectedError):
    """Goes away by itself."""

    category = "database_unavailable"
    retryable = True
    advice = "Wait."


def fresh(journal: StepJournal) -> AgentWorkOrder:
    return AgentWorkOrder.objects.get(pk=journal.claim.pk)


def events(journal: StepJournal) -> list[str]:
    return list(fresh(journal).log_entries.values_list("event", flat=True))


def want_cancel(journal: StepJournal) -> None:
    AgentWorkOrder.objects.filter(pk=journal.claim.pk).update(cancel_requested_at=timezone.now())


def prompt(order: AgentWorkOrder) -> AgentPrompt:
    return AgentPrompt.objects.create(agent_work_order=order, prompt_text="More", by="ann")


def finish(journal: StepJournal, plan: StepPlan) -> None:
    journal.record_statistics(plan.phase, progress("one", "two"), patches=())
    end(journal, plan)


def end(journal: StepJournal, plan: StepPlan) -> None:
    journal.finish_step(
        plan,
        Run.SUCCEEDED,
        head_sha=HEAD,
        plan_path="specs/plan.md",
        test_results=TESTS,
    )


def delivering() -> tuple[StepJournal, StepPlan]:
    """A step whose phases are done, with its delivery begun."""
    order = make_order(workflow_type=AgentWorkflowType.PLAN, status=Status.RUNNING, head_sha=SHA)
    make_run(order, started_at=timezone.now(), start_sha=SHA, end_sha=SHA)
    journal, plan = begun(order)
    assert plan.kind is StepKind.DELIVERY
    return journal, plan


# --- begin ---


def test_begin_opens_a_run_and_starts_the_order() -> None:
    journal, _plan = begun(session_id="session")
    order = fresh(journal)
    assert (order.status, order.current_phase) == (Status.RUNNING, "planning")
    assert order.execution_started_at is not None
    assert order.version > 1
    run = order.phase_runs.get()
    assert (run.sequence, run.kind, run.phase, run.status) == (1, "phase", "planning", "running")
    assert (run.attempt, run.claim_epoch, run.worker, run.agent_session_id) == (1, 1, OWNER, "session")
    assert abs((timezone.now() - run.started_at).total_seconds()) < 60
    moves = order.transitions.values_list("from_status", "to_status", "by")
    assert list(moves) == [("", "pending", "test"), ("pending", "running", OWNER)]


def test_begin_moves_a_pending_order_once_and_keeps_its_start() -> None:
    journal, plan = begun()
    started = fresh(journal).execution_started_at
    finish(journal, plan)
    second, plan = again(fresh(journal))
    assert plan.phase is AgentWorkflowPhase.IMPLEMENTING
    order = fresh(second)
    assert order.execution_started_at == started
    assert order.current_phase == "implementing"
    assert order.transitions.filter(to_status="running").count() == 1


def test_begin_closes_what_a_dead_worker_left_open() -> None:
    first, _plan = begun()
    journal, plan = again(fresh(first), "other:2:2")
    assert (plan.attempt, plan.workers_lost) == (2, 1)
    stale, current = fresh(journal).phase_runs.order_by("sequence")
    assert (stale.status, stale.error_category) == (Run.INTERRUPTED, WORKER_LOST)
    assert stale.completed_at is not None
    assert (current.status, current.attempt, current.sequence) == (Run.RUNNING, 2, 2)


def test_begin_of_a_delivery_keeps_the_phase_on_show() -> None:
    journal, _plan = delivering()
    assert fresh(journal).current_phase is None
    assert fresh(journal).phase_runs.last().kind == StepKind.DELIVERY  # type: ignore[union-attr]  # there is one


def test_begin_takes_the_prompt_up() -> None:
    order = make_order(status=Status.RUNNING, head_sha=SHA)
    asked = prompt(order)
    journal, _plan = begun(order)
    asked.refresh_from_db()
    assert asked.status == PromptStatus.RUNNING
    assert fresh(journal).phase_runs.get().prompt_id == asked.pk


# --- while it runs ---


def test_what_a_step_sees_reaches_its_own_run() -> None:
    order = make_order()
    other = make_run(order, AgentWorkflowPhase.TESTING, Run.FAILED, started_at=timezone.now())
    journal, _plan = begun(order)
    journal.record_place(
        start_seconds=0.1,
        start_sha=SHA,
        session_id="s-1",
        access=ModelGrant(CredentialKind.NONE, budget_usd=None, lifetime_seconds=60),
        base_sha=SHA,
        sandbox_identifier="box",
        base_branch="main",
    )
    journal.update_run(planned_sha=HEAD)
    for _ in range(2):  # as when a commit's acknowledgement came too late: it is counted once
        journal.record_agent_run(RESULT)
    journal.record_statistics(AgentWorkflowPhase.PLANNING, progress("one", "two\x00"))
    order.refresh_from_db()
    run = order.phase_runs.get(status=Run.RUNNING)
    assert (run.start_sha, run.planned_sha, run.agent_session_id, run.result_text) == (
        SHA,
        HEAD,
        "session",
        "done",
    )
    assert (run.cost_usd, run.input_tokens, run.output_tokens) == (Decimal("0.25"), 10, 5)
    assert (order.base_sha, order.sandbox_identifier, order.attempts) == (SHA, "box", 1)
    assert (order.cost_usd, order.input_tokens, order.output_tokens) == (Decimal("0.25"), 10, 5)
    assert (order.git_commit_count, order.git_files_changed, order.git_lines_added) == (2, 1, 3)
    assert order.latest_commit_message == "two\ufffd"
    before = other.started_at
    other.refresh_from_db()
    assert (other.start_sha, other.planned_sha, other.result_text, other.started_at) == ("", "", "", before)


# --- the end of a step ---


def test_a_finished_step_is_released_with_a_ticket_for_the_next() -> None:
    journal, plan = begun()
    OrmQ.objects.all().delete()
    before = fresh(journal)
    finish(journal, plan)
    order = fresh(journal)
    run = order.phase_runs.get()
    assert (run.status, run.end_sha, run.commits, run.plan_path) == (Run.SUCCEEDED, HEAD, 2, "specs/plan.md")
    assert (run.tests_passed, run.tests_failed) == (2, 1)
    assert run.test_results is not None
    assert run.test_results["tests"][0]["name"] == "one"
    assert (order.status, order.head_sha, order.git_commit_count) == (Status.RUNNING, HEAD, 2)
    assert (order.claim_owner, order.lease_expires_at, order.claim_epoch) == ("", None, journal.claim.epoch)
    assert order.claimable_at is not None
    assert order.claimable_at <= database_now()
    assert order.version > before.version
    assert OrmQ.objects.count() == 1
    assert claim(order).epoch == plan.order.claim_epoch + 1


@pytest.mark.parametrize("place", ["queue.issue_ticket", "_test_columns"])
def test_a_step_is_finished_whole_or_not_at_all(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, plan = begun()
    before = all_rows()

    def fail(*_arguments: object, **_names: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(f"{journal_module.__name__}.{place}", fail)
        with pytest.raises(RuntimeError, match="disk"):
            end(journal, plan)
    assert all_rows() == before
    finish(journal, plan)
    assert fresh(journal).phase_runs.get().status == Run.SUCCEEDED


def test_a_finished_follow_up_is_done() -> None:
    order = make_order(status=Status.RUNNING, head_sha=SHA)
    asked = prompt(order)
    journal, plan = begun(order)
    finish(journal, plan)
    asked.refresh_from_db()
    assert asked.status == PromptStatus.DONE


def test_a_failure_that_may_pass_is_tried_again_after_a_pause() -> None:
    journal, plan = begun()
    OrmQ.objects.all().delete()
    journal.fail_step(plan, Passing("The database is away.\x00"))
    order = fresh(journal)
    run = order.phase_runs.get()
    assert (run.status, run.error_category, run.error_message) == (
        Run.FAILED,
        "database_unavailable",
        "The database is away.\ufffd",
    )
    assert (order.status, order.claim_owner, order.error_message) == (Status.RUNNING, "", None)
    assert order.claimable_at is not None
    assert 0 < (order.claimable_at - database_now()).total_seconds() <= 2.5
    assert events(journal)[-1] == "workflow_phase_retry_scheduled"
    assert 2 <= order.log_entries.last().fields["delay_seconds"] <= 2.5  # type: ignore[union-attr]  # there is one
    assert OrmQ.objects.count() == 1


def test_the_pauses_grow_and_end_in_a_failed_order() -> None:
    journal, plan = begun()
    pauses = []
    while True:
        journal.fail_step(plan, Passing(f"Attempt {plan.attempt} failed."))
        order = fresh(journal)
        if order.status != Status.RUNNING:
            break
        assert order.claimable_at is not None
        pauses.append((order.claimable_at - database_now()).total_seconds())
        journal, plan = again(order)
    for pause, row in zip(pauses, (2, 10, 30, 30), strict=True):
        assert row - 1 < pause <= row * 1.25
    assert order.status == Status.FAILED
    assert (order.error_message, order.error_category, order.error_advice) == (
        "Attempt 5 failed.",
        "database_unavailable",
        "Wait.",
    )
    assert (order.claimable_at, order.claim_owner, order.lease_expires_at) == (None, "", None)
    assert order.execution_completed_at is not None
    assert events(journal)[-1] == "agent_work_order_failed"
    last = order.transitions.last()
    assert last is not None
    assert (last.from_status, last.to_status, last.reason) == ("running", "failed", "database_unavailable")


def test_a_model_out_of_quota_is_a_wait_and_burns_no_attempt() -> None:
    order = make_order()
    for number in range(3):
        AgentWorkOrder.objects.filter(pk=order.pk).update(claimable_at=database_now())
        journal, plan = begun(order)
        assert (plan.attempt, plan.waited) == (1, ("model_quota",) * number)
        category = AgentFailureCategory.RATE_LIMITED
        limit = AgentFailure(category, "You've hit your limit.", "Wait.", True, 2 * 3600.0)
        result = replace(RESULT, succeeded=False, failure=limit, cost_usd=None)
        journal.record_agent_run(result)
        journal.fail_step(plan, AgentRunFailed(result))
        order.refresh_from_db()
        assert (order.status, order.waiting_reason, order.attempts) == (Status.RUNNING, "model_quota", 0)
        assert order.waiting_until is not None
        assert 7190 < (order.waiting_until - database_now()).total_seconds() <= 7215
    assert set(order.phase_runs.values_list("status", "error_category")) == {("interrupted", "model_quota")}


def test_a_failure_somebody_must_act_on_fails_the_order_at_once() -> None:
    journal, plan = begun()
    OrmQ.objects.all().delete()
    journal.fail_step(plan, PushRejected("The branch is protected.", advice="Ask its owner."))
    order = fresh(journal)
    assert (order.status, order.error_category, order.error_advice) == (
        Status.FAILED,
        "push_rejected",
        "Ask its owner.",
    )
    assert not OrmQ.objects.exists(), "no ticket"


def test_failures_of_a_step_are_counted_one_by_one() -> None:
    order = make_order()
    for attempt in (1, 2, 3, 4, 5):
        AgentWorkOrder.objects.filter(pk=order.pk).update(claimable_at=database_now())
        journal = StepJournal(claim(order), InlineDatabase())
        plan = journal.begin()
        assert plan.attempt == attempt
        journal.fail_step(plan, Passing("Not even begun."))
    assert fresh(journal).status == Status.FAILED
    assert list(order.phase_runs.values_list("status", "attempt")) == [("failed", n) for n in (1, 2, 3, 4, 5)]


def test_a_failed_follow_up_drops_its_prompt_with_the_order() -> None:
    order = make_order(status=Status.RUNNING, head_sha=SHA)
    asked, later = prompt(order), prompt(order)
    journal, plan = begun(order)
    journal.fail_step(plan, Passing("It may pass."))
    asked.refresh_from_db()
    assert asked.status == PromptStatus.RUNNING
    journal, plan = again(order)
    assert plan.follow_up is not None
    assert plan.follow_up.pk == asked.pk
    journal.fail_step(plan, PushRejected("No."))
    asked.refresh_from_db()
    later.refresh_from_db()
    assert (asked.status, later.status) == (PromptStatus.DROPPED, PromptStatus.QUEUED)


def test_putting_back_counts_no_attempt_and_lets_another_go_on_at_once() -> None:
    journal, _plan = begun()
    OrmQ.objects.all().delete()
    journal.put_back("The worker was stopped.")
    order = fresh(journal)
    run = order.phase_runs.get()
    assert (run.status, run.error_category, run.error_message) == (
        Run.INTERRUPTED,
        "",
        "The worker was stopped.",
    )
    assert order.status == Status.RUNNING
    assert OrmQ.objects.count() == 1
    second = StepJournal(claim(order, owner="other:2:2"), InlineDatabase())
    plan = second.begin()
    assert (plan.attempt, plan.workers_lost) == (1, 0)


def test_putting_back_before_the_run_was_opened_leaves_the_dead_workers_run_counted() -> None:
    first, _plan = begun()
    expire(fresh(first))
    journal = StepJournal(claim(fresh(first), owner="other:2:2"), InlineDatabase())
    journal.put_back("The worker was stopped.")
    third, plan = again(fresh(first), "third:3:3")
    assert (plan.attempt, plan.workers_lost) == (2, 1)
    assert list(fresh(third).phase_runs.values_list("status", flat=True)) == ["interrupted", "running"]


# --- the end of an order ---


def test_a_delivered_order_is_completed() -> None:
    journal, _plan = delivering()
    journal.finish_order(PUSHED)
    order = fresh(journal)
    assert (order.status, order.outcome, order.current_phase) == (Status.COMPLETED, PUSHED, "completed")
    assert (order.claimable_at, order.claim_owner, order.lease_expires_at) == (None, "", None)
    assert order.execution_completed_at is not None
    assert order.phase_runs.last().status == Run.SUCCEEDED  # type: ignore[union-attr]  # there is one
    assert events(journal)[-1] == "agent_work_order_completed"


def test_an_order_with_a_waiting_prompt_goes_on_after_its_delivery() -> None:
    journal, _plan = delivering()
    asked = prompt(fresh(journal))
    OrmQ.objects.all().delete()
    journal.finish_order(PUSHED)
    order = fresh(journal)
    assert (order.status, order.outcome, order.claim_owner) == (Status.RUNNING, None, "")
    assert OrmQ.objects.count() == 1
    second, plan = again(order)
    assert plan.follow_up is not None
    assert plan.follow_up.pk == asked.pk
    finish(second, plan)
    third, plan = again(order)
    assert (plan.kind, plan.attempt) == (StepKind.DELIVERY, 1)
    third.finish_order(PUSHED)
    assert fresh(third).status == Status.COMPLETED


def test_a_cancel_that_was_acknowledged_before_the_end_wins() -> None:
    journal, _plan = delivering()
    want_cancel(journal)
    assert journal.finish_order(PUSHED) is False
    assert fresh(journal).status == Status.RUNNING
    journal.finish_cancelled()
    order = fresh(journal)
    assert (order.status, order.cancel_requested_at) == (Status.CANCELLED, None)
    assert order.transitions.filter(to_status__in=["completed", "cancelled"]).count() == 1


# --- cancelling ---

ENDINGS: dict[str, tuple[Callable[[StepJournal, StepPlan], None], PhaseRunStatus]] = {
    "finish_step": (finish, Run.SUCCEEDED),
    "fail_step": (lambda journal, plan: journal.fail_step(plan, Passing("Away.")), Run.FAILED),
    "fail_step for good": (lambda journal, plan: journal.fail_step(plan, PushRejected("No.")), Run.FAILED),
    "put_back": (lambda journal, _plan: journal.put_back("Stopped."), Run.INTERRUPTED),
    "finish_cancelled": (lambda journal, _plan: journal.finish_cancelled(), Run.CANCELLED),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_cancel_that_came_meanwhile_wins(name: str) -> None:
    ending, run_status = ENDINGS[name]
    journal, plan = begun()
    asked = prompt(fresh(journal))
    want_cancel(journal)
    OrmQ.objects.all().delete()
    ending(journal, plan)
    order = fresh(journal)
    assert (order.status, order.cancel_requested_at, order.error_message) == (Status.CANCELLED, None, None)
    assert (order.claimable_at, order.claim_owner) == (None, "")
    assert order.claim_epoch > journal.claim.epoch
    assert order.phase_runs.get().status == run_status
    asked.refresh_from_db()
    assert asked.status == PromptStatus.DROPPED
    assert events(journal).count("agent_work_order_cancelled") == 1
    assert OrmQ.objects.count() == 0
    with pytest.raises(LeaseLost):
        journal.update_order(base_branch="late")


def test_a_cancel_also_closes_what_a_dead_worker_left_open() -> None:
    first, _plan = begun()
    want_cancel(first)
    expire(fresh(first))
    journal = StepJournal(claim(fresh(first), owner="other:2:2"), InlineDatabase())
    assert journal.begin().cancel_requested
    assert fresh(journal).phase_runs.count() == 1
    journal.finish_cancelled()
    assert fresh(journal).phase_runs.get().status == Run.CANCELLED


def test_what_a_step_logged_is_stored_with_its_end_or_not_lost() -> None:
    order = make_order()
    buffer = LogBuffer(InlineDatabase())
    buffer.close()  # only the journal writes here
    journal = StepJournal(claim(order), InlineDatabase(), buffer)
    plan = journal.begin()
    buffer.add(order.pk, LogEvent(timezone.now(), "info", "sandbox_created", {}))
    take_over(order.pk)
    with pytest.raises(LeaseLost):
        finish(journal, plan)
    assert "sandbox_created" not in events(journal)
    AgentWorkOrder.objects.filter(pk=order.pk).update(claim_epoch=journal.claim.epoch, claim_owner=OWNER)
    finish(journal, plan)
    assert events(journal).count("sandbox_created") == 1


# --- the fence ---

METHODS: dict[str, Callable[[StepJournal, StepPlan], object]] = {
    "begin": lambda journal, _plan: journal.begin(),
    "update_run": lambda journal, _plan: journal.update_run(planned_sha=HEAD),
    "update_order": lambda journal, _plan: journal.update_order(head_sha=HEAD),
    "record_place": lambda journal, _plan: placed(journal),
    "update_repository": lambda journal, plan: journal.update_repository(plan.repository.pk, can_push=True),
    "record_repository": lambda journal, plan: journal.record_repository(
        plan.repository.reference,
        GitHubRepository(
            github_id=7, repository_owner="o", repository_name="n", repository_url="https://github.com/o/n"
        ),
    ),
    "lose_repository_name": lambda journal, plan: journal.lose_repository_name(plan.repository.pk),
    "record_statistics": lambda journal, plan: journal.record_statistics(plan.phase, progress("one")),
    "is_connected": lambda journal, _plan: journal.is_connected("github.com", "o", "n"),
    "budget_refused": lambda journal, _plan: journal.budget_refused(),
    "last_model_error": lambda journal, _plan: journal.last_model_error(),
    "record_agent_run": lambda journal, _plan: journal.record_agent_run(RESULT),
    "note_warning": lambda journal, _plan: journal.note_warning("It ended badly.", "agent_exit_code"),
    "plan_push": lambda journal, _plan: journal.plan_push(HEAD),
    "end_push": lambda journal, _plan: journal.end_push(HEAD, EffectState.UNKNOWN),
    "fenced": lambda journal, _plan: journal.fenced(lambda order: order.pk),
    "finish_step": finish,
    "finish_order": lambda journal, _plan: journal.finish_order(PUSHED),
    "fail_step": lambda journal, plan: journal.fail_step(plan, Passing("Away.")),
    "request_approval": lambda journal, _plan: journal.request_approval(HEAD, [], progress("one"), []),
    "finish_cancelled": lambda journal, _plan: journal.finish_cancelled(),
    "wait": lambda journal, plan: journal.wait(plan, Wait(WaitingReason.DISK_FULL, "Full.")),
    "postpone": lambda journal, _plan: journal.postpone(Wait(WaitingReason.DISK_FULL, "Full.")),
    "put_back": lambda journal, _plan: journal.put_back("Stopped."),
    "excuse": lambda journal, _plan: journal.excuse(),
}


def test_every_method_is_in_the_table() -> None:
    public = {name for name in vars(StepJournal) if not name.startswith("_")}
    assert set(METHODS) == public


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("how", ["taken over", "taken over and begun", "cancelled", "released"])
def test_after_the_lease_was_lost_nothing_is_written(name: str, how: str) -> None:
    journal, plan = begun()
    prompt(fresh(journal))
    order = fresh(journal)
    if how == "taken over":
        take_over(order.pk)
    elif how == "taken over and begun":
        again(order, "other:2:2")
    elif how == "cancelled":
        order.finish_cancelled(by="recovery")
    else:
        journal.put_back("The worker was stopped.")
    before = all_rows()
    with pytest.raises(LeaseLost):
        METHODS[name](journal, plan)
    assert all_rows() == before


def test_an_expired_lease_nobody_took_still_holds() -> None:
    journal, plan = begun()
    AgentWorkOrder.objects.filter(pk=journal.claim.pk).update(
        lease_expires_at=database_now() - timedelta(seconds=60)
    )
    finish(journal, plan)
    assert fresh(journal).phase_runs.get().status == Run.SUCCEEDED
