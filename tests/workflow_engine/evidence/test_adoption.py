"""A worker dies between bringing a step into git and recording it: the next one adopts it, without an agent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxes.trusted_git.mirror import RepositoryMirror
from tests.e2e.harness import wait_for
from tests.fakes.git_http import branches
from tests.workflow_engine.engine import finished, local_order, running_engine, starts
from tests.workflow_engine.rows import expire
from workorders.domain.errors import LeaseLost
from workorders.domain.states import AgentWorkOrderStatus
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.workflow_engine.place.workplace import Workplace
from workorders.workflow_engine.record.journal import StepJournal

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]


def dies(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool = False
) -> Callable[[], bool]:
    """The first call ends the step as a killed process would: nothing more is written. Tells whether it did."""
    real, calls = getattr(owner, name), []

    def call(self: Any, *arguments: Any, **names: Any) -> Any:
        calls.append(name)
        if len(calls) > 1:
            return real(self, *arguments, **names)
        if after:
            real(self, *arguments, **names)
        raise LeaseLost(name)

    monkeypatch.setattr(owner, name, call)
    return lambda: bool(calls)


def adoptions(order: AgentWorkOrder) -> int:
    return order.log_entries.filter(event="workflow_step_adopted").count()


@pytest.mark.parametrize(
    ("owner", "name", "after", "pushed"),
    [
        (StepJournal, "finish_step", False, True),
        (RepositoryMirror, "push", True, True),
        (RepositoryMirror, "push", False, False),
    ],
    ids=["pushed, not recorded", "died right after the push", "only in the mirror"],
)
def test_a_finished_step_found_in_git_is_adopted(
    owner: type, name: str, after: bool, pushed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = dies(monkeypatch, owner, name, after=after)
    order = local_order(tmp_path)
    with running_engine() as engine:
        wait_for(lambda: died() and not engine.supervisor._steps, 20, "the death of the first worker")
        remote = branches(tmp_path / "remote.git")
        run = order.phase_runs.get()
        assert run.planned_sha
        assert remote.get(order.git_branch_name, "") == (run.planned_sha if pushed else "")
        expire(order)
        finished(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert order.head_sha == run.planned_sha == branches(tmp_path / "remote.git")[order.git_branch_name]
    assert starts(tmp_path) == ["planning"]
    assert adoptions(order) == 1
    statuses = list(order.phase_runs.order_by("sequence").values_list("status", "commits"))
    assert statuses[:2] == [("interrupted", 1), ("succeeded", 1)]


def test_it_is_still_adopted_after_a_second_worker_died_before_it_came_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = local_order(tmp_path)
    first = dies(monkeypatch, StepJournal, "finish_step")
    with running_engine() as engine:
        wait_for(lambda: first() and not engine.supervisor._steps, 20, "the first death")
        second = dies(monkeypatch, Workplace, "open")
        expire(order)
        wait_for(lambda: second() and not engine.supervisor._steps, 20, "the second death")
        expire(order)
        finished(order)
    assert order.status == AgentWorkOrderStatus.COMPLETED
    assert starts(tmp_path) == ["planning"]
    assert adoptions(order) == 1


def test_unfinished_work_is_not_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits without the evidence stay on the branch, and the agent is asked again."""
    order = local_order(
        tmp_path,
        "agent[implementing#1]: commit specs/more.md\nagent[implementing#1]: nothing",
        workflow_type=AgentWorkflowType.BUILD,
    )
    with running_engine():
        finished(order)
    assert order.status == AgentWorkOrderStatus.COMPLETED
    assert starts(tmp_path) == ["implementing", "implementing"]
    assert adoptions(order) == 0
    failed = order.phase_runs.order_by("sequence").first()
    assert failed is not None
    assert failed.error_category == "evidence_missing"
    assert order.git_commit_count == 2
