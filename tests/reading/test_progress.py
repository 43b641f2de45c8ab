"""The read model: phase histories, pages and counts."""

from datetime import datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from github_app.references import RepositoryReference
from tests.factories import make_log, make_order, make_run
from workorders.domain.errors import WorkOrderNotFound
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.models import AgentWorkOrder
from workorders.reading import progress
from workorders.reading.progress import WorkOrderQuery

pytestmark = pytest.mark.django_db

PLANNING, IMPLEMENTING = AgentWorkflowPhase.PLANNING, AgentWorkflowPhase.IMPLEMENTING
DONE, RUNNING, FAILED = PhaseRunStatus.SUCCEEDED, PhaseRunStatus.RUNNING, PhaseRunStatus.FAILED


def history(order: AgentWorkOrder) -> list[tuple[str, datetime, datetime | None, int, int, str]]:
    return [
        (item.phase, item.started_at, item.completed_at, item.commits, item.attempts, item.status)
        for item in progress.git_progress(order.agent_work_order_id).phase_history
    ]


def test_history_is_empty_before_the_first_run() -> None:
    assert history(make_order()) == []


def test_history_is_in_the_workflows_order_and_leaves_the_delivery_out() -> None:
    order = make_order()
    plan = make_run(order, PLANNING, commits=1)
    build = make_run(order, IMPLEMENTING, commits=2)
    make_run(order, AgentWorkflowPhase.COMPLETED, kind=StepKind.DELIVERY)
    assert history(order) == [
        ("planning", plan.started_at, plan.completed_at, 1, 1, "succeeded"),
        ("implementing", build.started_at, build.completed_at, 2, 1, "succeeded"),
    ]


def test_a_running_phase_is_not_completed_and_shows_its_commits() -> None:
    order = make_order()
    run = make_run(order, PLANNING, RUNNING, commits=2)
    assert history(order) == [("planning", run.started_at, None, 2, 1, "running")]


def test_attempts_count_failures_but_not_interruptions() -> None:
    order = make_order()
    first = make_run(order, PLANNING, PhaseRunStatus.INTERRUPTED)
    make_run(order, PLANNING, FAILED, commits=5)
    last = make_run(order, PLANNING, DONE, commits=6)
    assert history(order) == [("planning", first.started_at, last.completed_at, 6, 2, "succeeded")]


def test_a_failed_phase_is_not_completed() -> None:
    order = make_order()
    run = make_run(order, PLANNING, FAILED, commits=3)
    assert history(order) == [("planning", run.started_at, None, 3, 1, "failed")]


def test_a_follow_up_adds_to_its_phase_and_reopens_it_while_it_runs() -> None:
    order = make_order()
    first = make_run(order, IMPLEMENTING, commits=2)
    follow_up = make_run(order, IMPLEMENTING, RUNNING, kind=StepKind.FOLLOW_UP, commits=3)
    assert history(order) == [("implementing", first.started_at, None, 3, 2, "running")]
    order.phase_runs.filter(pk=follow_up.pk).update(status=DONE, completed_at=follow_up.started_at)
    assert history(order) == [("implementing", first.started_at, follow_up.started_at, 3, 2, "succeeded")]


def test_a_failed_follow_up_leaves_the_phase_completed() -> None:
    order = make_order()
    first = make_run(order, IMPLEMENTING, commits=2)
    make_run(order, IMPLEMENTING, FAILED, kind=StepKind.FOLLOW_UP)
    assert history(order) == [("implementing", first.started_at, first.completed_at, 2, 2, "failed")]


def test_snapshot_time_is_when_git_was_looked_at() -> None:
    order = make_order()
    assert progress.git_progress(str(order)).snapshot_timestamp == order.updated_at
    AgentWorkOrder.objects.filter(pk=order.pk).update(git_observed_at=order.created_at)
    assert progress.git_progress(str(order)).snapshot_timestamp == order.created_at


def test_values_are_frozen() -> None:
    view = progress.work_order(str(make_order()))
    with pytest.raises(ValidationError):
        view.status = "failed"  # type: ignore[misc, assignment]  # wrong on purpose


@pytest.mark.parametrize(
    "text", ["", "wo-1", "wo-aaaaaaaa\n", "wo-aaaaaaa\x00", "wo-ａａａａａａａａ", "x" * 10_000]
)
def test_what_cannot_be_an_id_is_not_found(text: str) -> None:
    with pytest.raises(WorkOrderNotFound):
        progress.work_order(text)


def test_status_counts() -> None:
    make_order()
    make_order()
    make_order(status="failed")
    counts = progress.status_counts()
    assert (counts.pending, counts.running, counts.failed, counts.total) == (2, 0, 1, 3)


def test_repositories_are_compared_by_row_whatever_the_spelling() -> None:
    order = make_order(repository="Octo/Spoon")
    make_order(repository="octo/fork")
    local = make_order(repository="/srv/spoon")
    query = WorkOrderQuery(repository=RepositoryReference("github.com", "octo", "SPOON"))
    assert [item.agent_work_order_id for item in progress.work_orders(query).agent_work_orders] == [
        str(order)
    ]
    query = WorkOrderQuery(repository=RepositoryReference("", "", "spoon", local_path=Path("/srv/spoon")))
    assert [item.agent_work_order_id for item in progress.work_orders(query).agent_work_orders] == [
        str(local)
    ]


def test_text_search_takes_wildcards_literally() -> None:
    make_order(initial_prompt="nothing special")
    for text in ("%", "_____", "\\", "'", '"'):
        assert progress.work_orders(WorkOrderQuery(q=text)).total_count == 0, text


def test_log_page_of_a_large_log_is_bounded() -> None:
    order = make_order()
    make_log(order, *(f"e{number}" for number in range(300)))
    page = progress.log_page(str(order), limit=100, offset=200)
    assert (len(page.log_entries), page.total_count, page.has_more) == (100, 301, True)
    page = progress.log_page(str(order), limit=100, after=201)
    assert (page.log_entries[0].sequence, page.has_more) == (202, False)
