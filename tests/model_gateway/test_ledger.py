"""The books: a token is worth nothing once its step has ended in any way, and what was spent is on run and order."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from sandboxes.errors import ExpectedError
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.providers import ProviderSettings
from tests.workflow_engine.rows import begun, expire, placed, take_over
from workorders.agents.base import AgentRunResult
from workorders.domain.states import UsageSource
from workorders.model_gateway.access import CredentialKind
from workorders.model_gateway.ledger import DatabaseLedger, Denial, Grant, Spending
from workorders.model_gateway.usage import Usage
from workorders.models import AgentWorkOrder, ModelAccess, ModelUsage, PhaseRun, WorkOrderLog
from workorders.models.clock import database_now
from workorders.models.model_access import token_hash
from workorders.workflow_engine.planning.step_plan import StepPlan
from workorders.workflow_engine.record.journal import StepJournal
from workorders.workflow_engine.record.usage import ModelError
from workorders.workflow_engine.upkeep.recovery import recover

pytestmark = pytest.mark.django_db

LEDGER = DatabaseLedger()
USAGE = Usage(input=100, output=20, cache_read=7, cache_write=5, cache_write_1h=1)
SPENDING = Spending("claude-sonnet-5", USAGE, Decimal("0.25"))
RESULT = AgentRunResult(
    succeeded=True,
    failure=None,
    session_id="s",
    result_text="Done.",
    cost_usd=Decimal(9),
    input_tokens=900,
    output_tokens=90,
    cache_read_tokens=0,
    cache_creation_tokens=0,
    turns=1,
    permission_denials=0,
    exit_code=0,
    duration_seconds=1.0,
    stderr_tail="",
    output_truncated=False,
)


def granted(**values: Any) -> tuple[StepJournal, StepPlan, str]:
    journal, plan = begun()
    return journal, plan, placed(journal, **values)


def grant_of(token: str) -> Grant:
    found = LEDGER.find(token_hash(token))
    assert isinstance(found, Grant), found
    return found


def order_of(journal: StepJournal) -> AgentWorkOrder:
    return AgentWorkOrder.objects.get(pk=journal.claim.pk)


def figures(row: AgentWorkOrder | PhaseRun) -> tuple[Decimal, int, int]:
    return row.cost_usd, row.input_tokens, row.output_tokens


def test_a_token_stands_for_its_step_and_is_stored_hashed(tmp_path: Any) -> None:
    journal, _plan, token = granted(budget_usd=Decimal("1.5"))
    found = grant_of(token)
    run = PhaseRun.objects.get()
    assert (found.run_pk, found.order_pk, found.budget_usd, found.spent_usd) == (
        run.pk,
        journal.claim.pk,
        Decimal("1.5"),
        Decimal(0),
    )
    assert found.agent_work_order_id == journal.claim.agent_work_order_id
    assert run.model_credential == "gateway_token"
    stored = ModelAccess.objects.get()
    assert token not in {str(value) for value in vars(stored).values()}
    assert LEDGER.still_valid([found.access_pk]) == {found.access_pk}


@pytest.mark.parametrize("kind", [CredentialKind.NONE, CredentialKind.PROVIDER_KEY])
def test_other_credentials_need_no_token(kind: CredentialKind) -> None:
    journal, _plan = begun()
    assert placed(journal, kind) == ""
    assert PhaseRun.objects.get().model_credential == kind
    assert not ModelAccess.objects.exists()


def _cancel_and_recover(journal: StepJournal, tmp_path: Any) -> None:
    AgentWorkOrder.objects.filter(pk=journal.claim.pk).update(cancel_requested_at=timezone.now())
    expire(order_of(journal))
    recover(tmp_path, IsolationSettings("none"), ProviderSettings(), may_remove=lambda _identifier: True)


ENDINGS: dict[str, Callable[[StepJournal, StepPlan], object]] = {
    "the agent has ended": lambda journal, _plan: journal.record_agent_run(RESULT),
    "put back": lambda journal, _plan: journal.put_back("Stopped."),
    "failed": lambda journal, plan: journal.fail_step(plan, ExpectedError("Broken.")),
    "cancelled": lambda journal, _plan: journal.finish_cancelled(),
    "taken over": lambda journal, _plan: take_over(journal.claim.pk),
    "lease ran out": lambda journal, _plan: expire(order_of(journal)),
    "token expired": lambda _journal, _plan: ModelAccess.objects.update(
        expires_at=database_now() - timedelta(seconds=1)
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_makes_the_token_useless(ending: str) -> None:
    journal, plan, token = granted()
    found = grant_of(token)
    ENDINGS[ending](journal, plan)
    denial = LEDGER.find(token_hash(token))
    assert isinstance(denial, Denial)
    assert denial.known
    assert LEDGER.still_valid([found.access_pk]) == set()


def test_recovery_makes_the_token_useless(tmp_path: Any) -> None:
    journal, _plan, token = granted()
    found = grant_of(token)
    _cancel_and_recover(journal, tmp_path)
    assert isinstance(LEDGER.find(token_hash(token)), Denial)
    assert LEDGER.still_valid([found.access_pk]) == set()


def test_a_foreign_token_is_none() -> None:
    _journal, _plan, token = granted()
    assert LEDGER.find(token_hash(token + "x")) == Denial("this is no token of a step", known=False)


def test_what_was_metered_is_shown_and_not_what_the_agent_says() -> None:
    journal, _plan, token = granted()
    before = order_of(journal).version
    LEDGER.record(grant_of(token), SPENDING)
    assert order_of(journal).version > before, "readers see it while the step runs"
    assert grant_of(token).spent_usd == Decimal("0.25")
    LEDGER.record(grant_of(token), replace(SPENDING, model="unknown", cost_usd=None, estimated=True))
    usage = journal.record_agent_run(RESULT)
    assert (usage.source, usage.cost_usd, usage.cost_is_complete) == (
        UsageSource.GATEWAY,
        Decimal("0.25"),
        False,
    )
    for row in (order_of(journal), PhaseRun.objects.get()):
        assert figures(row) == (Decimal("0.25"), 226, 40)
        assert not row.cost_is_complete
    rows = ModelUsage.objects.values_list("model", "requests", "unpriced_requests", "estimated_requests")
    assert set(rows) == {("claude-sonnet-5", 1, 0, 0), ("unknown", 1, 1, 1)}
    one = ModelUsage.objects.get(model="claude-sonnet-5")
    assert (one.input_tokens, one.cache_read_tokens, one.cache_write_tokens) == (100, 7, 6)


def test_an_agent_that_never_asked_the_gateway_speaks_for_itself_until_the_gateway_knows_better() -> None:
    journal, _plan, token = granted()
    found = grant_of(token)
    usage = journal.record_agent_run(RESULT)
    assert (usage.source, usage.cost_usd) == (UsageSource.AGENT, Decimal(9))
    assert journal.record_agent_run(RESULT) == usage, "asked twice, counted once"
    assert figures(order_of(journal)) == (Decimal(9), 900, 90)
    assert order_of(journal).usage_is_reported
    LEDGER.record(found, SPENDING)  # the books were away when the agent ended
    for row in (order_of(journal), PhaseRun.objects.get()):
        assert figures(row) == (Decimal("0.25"), 113, 20)


def test_what_was_spent_counts_also_after_a_takeover() -> None:
    journal, _plan, token = granted()
    found = grant_of(token)
    take_over(journal.claim.pk)
    LEDGER.record(found, SPENDING)
    assert figures(order_of(journal)) == (Decimal("0.25"), 113, 20)


def test_a_refusal_for_the_budget_reaches_the_worker_and_the_log_once() -> None:
    journal, _plan, token = granted(budget_usd=Decimal("0.2"))
    assert not journal.budget_refused()
    for _ in range(2):
        LEDGER.refuse_for_budget(grant_of(token))
    assert journal.budget_refused()
    assert journal.record_agent_run(RESULT).budget_refused
    assert WorkOrderLog.objects.filter(event="model_budget_exceeded").count() == 1


def test_the_models_last_error_reaches_the_worker_until_an_answer_follows_it() -> None:
    journal, _plan, token = granted()
    assert journal.last_model_error() is None
    LEDGER.note_error(grant_of(token), 529, None)
    assert journal.last_model_error() == ModelError(529, None)
    LEDGER.note_error(grant_of(token), 429, 3600)
    error = journal.last_model_error()
    assert error is not None
    assert error.status == 429
    assert 3590 < (error.resets_in_seconds or 0) <= 3600
    LEDGER.record(grant_of(token), SPENDING)
    assert journal.last_model_error() is None
