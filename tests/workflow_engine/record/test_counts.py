"""Each step's number of commits is its own, wherever it is shown."""

from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps

from tests.factories import make_order, make_run
from tests.workflow_engine.engine import finished, local_order, running_engine
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentPrompt, AgentWorkOrder, PhaseRun
from workorders.reading import progress
from workorders.services import work_orders as services
from workorders.workflow_engine.handlers.delivery import _phases
from workorders.workflow_engine.planning.step_plan import plan_step

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]


def numbers(order: AgentWorkOrder) -> list[int]:
    return list(
        order.phase_runs.exclude(kind="delivery").order_by("sequence").values_list("commits", flat=True)
    )


def test_each_follow_up_counts_its_own(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    with running_engine():
        finished(order)
        for number in range(3):
            services.prompt_agent_work_order(
                agent_work_order_id=str(order),
                prompt_text=f"agent: commit f{number}.txt\nagent: nothing",
                by="ann",
            )
            finished(order)
    assert order.status == "completed", order.error_message
    assert numbers(order) == [1, 1, 1, 1]
    assert [phase.commits for phase in _phases(plan_step(order))] == numbers(order)
    assert sum(numbers(order)) == order.git_commit_count
    [entry] = progress.git_progress(str(order)).phase_history
    assert entry.commits == order.git_commit_count


def test_attempts_of_a_step_count_together(tmp_path: Path) -> None:
    order = local_order(
        tmp_path,
        "agent[implementing#1]: commit a.txt\nagent[implementing#1]: exit 3\nagent[implementing]: commit b.txt",
        workflow_type=AgentWorkflowType.PLAN_BUILD,
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert numbers(order) == [1, 1, 3]


def test_numbers_of_an_earlier_release_are_taken_apart() -> None:
    order = make_order(status="completed", head_sha="a" * 40)
    prompts = [
        AgentPrompt.objects.create(agent_work_order=order, prompt_text="x", by="ann") for _ in range(3)
    ]
    make_run(order, commits=1)
    for prompt, commits in zip(prompts, (2, 3, 5), strict=True):
        make_run(order, kind="follow_up", prompt=prompt, commits=commits)
    other = make_run(make_order(), commits=4)
    import_module("workorders.migrations.0016_commits_of_a_step").count_apart(apps, None)
    assert numbers(order) == [1, 1, 1, 2]
    assert PhaseRun.objects.get(pk=other.pk).commits == 4
