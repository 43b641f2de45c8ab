"""Statements that are composed once read and write what Django's own queries do, on whichever database."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from tests.factories import make_order, make_run
from workorders.domain.states import EffectKind, EffectState, PhaseRunStatus, UsageSource
from workorders.domain.workflows import AgentWorkflowPhase
from workorders.models import (
    AgentWorkOrder,
    OutsideEffect,
    PhaseRun,
    WorkOrderCommit,
    WorkOrderFile,
    WorkOrderLog,
    statements,
)
from workorders.models.statements import Grown
from workorders.text.redaction import redact

pytestmark = pytest.mark.django_db
WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECRET = "ghp_" + "a1B2" * 9
MASK = redact(SECRET)


def order_columns(order: AgentWorkOrder) -> dict[str, object]:
    fields = AgentWorkOrder._meta.concrete_fields
    return {str(field.attname): getattr(order, str(field.attname)) for field in fields}


def test_an_object_is_what_django_reads() -> None:
    order = make_order(approval_paths=[{"path": "a", "rule": "b"}], cancel_requested_at=WHEN)
    AgentWorkOrder.objects.filter(pk=order.pk).update(cost_usd=Decimal("1.25"), cost_is_complete=False)
    expected = AgentWorkOrder.objects.select_related("repository").get(pk=order.pk)
    (found,) = statements.objects(AgentWorkOrder, {"pk": order.pk}, related="repository")
    assert order_columns(found) == order_columns(expected)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert (found.repository.pk, found.repository.mirror_key) == (
            expected.repository.pk,
            expected.repository.mirror_key,
        )
    assert not queries.captured_queries
    assert found._state.adding is False


def test_some_columns_are_read_in_any_order_and_the_rest_when_asked_for() -> None:
    order = make_order(model="opus")
    (found,) = statements.objects(AgentWorkOrder, {"pk": order.pk}, "status", "pk", "model", "base_sha")
    assert (found.model, found.status, found.base_sha) == ("opus", order.status, order.base_sha)
    assert found.get_deferred_fields() >= {"initial_prompt", "created_at"}
    assert found.git_branch_name == order.git_branch_name
    wanted = ("status", "model", "pk")
    assert statements.values(AgentWorkOrder, {"pk": order.pk}, *wanted) == [(order.status, "opus", order.pk)]


def test_a_row_is_changed_by_all_that_is_named() -> None:
    order, other = make_order(), make_order()
    run, others = (make_run(it, AgentWorkflowPhase.PLANNING, PhaseRunStatus.RUNNING) for it in (order, other))
    changes = {
        "status": PhaseRunStatus.FAILED,
        "completed_at": WHEN,
        "cost_usd": Grown(Decimal("0.25")),
        "input_tokens": Grown(7),
        "usage_source": UsageSource.AGENT,
        "test_results": {"passed": 1, "note": SECRET},
        "error_message": f"the key is {SECRET}",
        "tests_passed": None,
        "excused": True,
    }
    assert statements.update(PhaseRun, changes, {"pk": run.pk, "claim_epoch": run.claim_epoch}) == 1
    assert statements.update(PhaseRun, changes, {"pk": run.pk, "claim_epoch": run.claim_epoch + 1}) == 0
    before = (others.status, others.error_message)
    run.refresh_from_db()
    others.refresh_from_db()
    assert (run.status, run.completed_at, run.cost_usd, run.input_tokens) == (
        "failed",
        WHEN,
        Decimal("0.25"),
        7,
    )
    assert (run.usage_source, run.tests_passed, run.excused) == ("agent", None, True)
    assert (run.test_results, run.error_message) == ({"passed": 1, "note": MASK}, f"the key is {MASK}")
    assert (others.status, others.error_message) == before


def test_a_new_row_has_the_defaults_of_its_table() -> None:
    order = make_order()
    by_django = OutsideEffect.objects.create(agent_work_order=order, kind=EffectKind.PUSH, key="a" * 40)
    values = {"agent_work_order": order.pk, "kind": EffectKind.PUSH, "key": "b" * 40}
    found = OutsideEffect.objects.get(pk=statements.insert(OutsideEffect, values))
    same = ("agent_work_order_id", "kind", "state", "settled", "requests", "number", "as_draft", "address")
    assert [getattr(found, name) for name in same] == [getattr(by_django, name) for name in same]
    assert found.state == EffectState.PLANNED
    assert 0 <= (found.planned_at - by_django.planned_at).total_seconds() < 60


def test_defaults_that_are_made_anew_are_not_shared() -> None:
    order = make_order()
    columns = {"agent_work_order": order.pk, "kind": "phase", "phase": "planning", "attempt": 1}
    more = {"claim_epoch": 1, "worker": "w", "started_at": WHEN, "status": "failed", "completed_at": WHEN}
    for number in (1, 2):
        statements.insert(PhaseRun, {**columns, **more, "sequence": number})
    assert [run.left_out for run in PhaseRun.objects.filter(agent_work_order=order)] == [[], []]


def test_many_rows_come_and_go_at_once() -> None:
    order, other = make_order(), make_order()
    rows = [
        {"agent_work_order": it.pk, "position": position, "path": f"{position} {SECRET}", "status": "A"}
        for it in (order, other)
        for position in range(1500)
    ]
    statements.insert_all(WorkOrderFile, rows)
    paths = WorkOrderFile.objects.filter(agent_work_order=order).values_list("path", flat=True)
    assert list(paths) == [f"{position} {MASK}" for position in range(1500)]
    assert statements.delete(WorkOrderFile, {"agent_work_order": order.pk}) == 1500
    assert WorkOrderFile.objects.count() == 1500
    statements.insert_all(WorkOrderFile, [])


def test_rows_are_sorted_and_bounded() -> None:
    order = make_order()
    for position in (2, 3, 1):
        WorkOrderCommit.objects.create(
            agent_work_order=order, position=position, sha=f"{position}" * 40, message="m", committed_at=WHEN
        )
    which = {"agent_work_order": order.pk}
    assert statements.values(WorkOrderCommit, which, "position", order="position") == [(1,), (2,), (3,)]
    newest = statements.values(WorkOrderCommit, which, "position", "committed_at", order="-position", limit=2)
    assert newest == [(3, WHEN), (2, WHEN)]


def test_no_value_is_asked_for_by_none() -> None:
    order = make_order()
    assert statements.values(AgentWorkOrder, {"pk": order.pk, "outcome": None}, "pk") == [(order.pk,)]
    assert statements.values(AgentWorkOrder, {"pk": order.pk, "claimable_at": None}, "pk") == []
    logs = {"agent_work_order": order.pk, "event": None}
    assert statements.values(WorkOrderLog, logs, "pk") == []


@pytest.mark.django_db(transaction=True)
def test_a_row_is_locked_inside_a_transaction_only() -> None:
    order = make_order()
    with pytest.raises(TransactionManagementError):
        statements.values(AgentWorkOrder, {"pk": order.pk}, "pk", lock=True)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        statements.values(AgentWorkOrder, {"pk": order.pk}, "pk", lock=True)
    (said,) = [query["sql"] for query in queries.captured_queries if "SELECT" in query["sql"]]
    assert ("FOR UPDATE" in said) is connection.features.has_select_for_update


def test_a_name_that_is_no_column_is_refused() -> None:
    with pytest.raises(TypeError, match="phase_runs is no column"):
        statements.update(AgentWorkOrder, {"phase_runs": 1}, {"pk": 1})
