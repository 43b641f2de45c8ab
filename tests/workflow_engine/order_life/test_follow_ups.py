"""Prompts that meet failures, cancels and each other: none is lost without a word."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.factories import make_order
from tests.workflow_engine.engine import finished, running_engine, wait_until
from tests.workflow_engine.order_life.life import COMMIT, Life, cancel, events, living, prompt, retry, run
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]


@pytest.fixture
def life(tmp_path: Path, engine_settings: LazySettings) -> Iterator[Life]:
    with living(tmp_path, engine_settings) as found:
        yield found


def statuses(order: AgentWorkOrder) -> list[tuple[str, str]]:
    return list(order.prompts.order_by("pk").values_list("status", "dropped_because"))


def commit(name: str, needs: str = "") -> str:
    need = f"agent: need {needs} It is beyond me\n" if needs else ""
    return f"{need}agent: commit {name}\nagent: nothing"


def order_of_additions(life: Life, order: AgentWorkOrder) -> list[str]:
    subjects = life.person("log", "--format=%s", f"origin/{order.git_branch_name}").splitlines()
    return [line.removeprefix("Add ") for line in reversed(subjects) if line.startswith("Add ")]


def test_those_behind_one_that_failed_wait_for_the_retry(life: Life) -> None:
    order, quick = life.delivered(), life.folder / "quick"
    prompt(order, commit("a.txt", str(quick)))
    prompt(order, commit("b.txt"))
    run(order)
    assert (order.status, statuses(order)) == ("failed", [("dropped", "failed"), ("queued", "")])
    quick.touch()
    retry(order)
    run(order)
    assert (order.status, statuses(order)) == ("completed", [("done", ""), ("done", "")])
    life.person("fetch", "-q", "origin")
    assert order_of_additions(life, order) == ["a.txt", "b.txt"]
    assert [row["prompt_id"] for row in events(order, "agent_prompt_completed")] == [
        item.pk for item in order.prompts.order_by("pk")
    ]


def test_a_new_prompt_instead_of_the_one_that_fails(life: Life) -> None:
    order = life.delivered()
    prompt(order, commit("a.txt", "/nowhere"))
    prompt(order, commit("b.txt"))
    run(order)
    prompt(order, commit("c.txt"))
    run(order)
    assert (order.status, statuses(order)) == (
        "completed",
        [("dropped", "replaced"), ("done", ""), ("done", "")],
    )
    assert [row["reason"] for row in events(order, "agent_prompt_dropped")] == ["failed", "replaced"]


def test_a_cancel_between_two(life: Life) -> None:
    order = life.delivered()
    prompt(order, commit("a.txt"))
    prompt(
        order,
        f"agent: say here\nagent: run until test -e {life.folder}/go; do sleep 0.05; done\n{commit('b.txt')}",
    )
    with running_engine():
        wait_until(order, lambda row: row.log_entries.filter(event="agent_message").exists())
        cancel(order)
        finished(order)
    assert (order.status, statuses(order)) == ("cancelled", [("done", ""), ("dropped", "cancelled")])
    assert "a.txt" in life.files(order.git_branch_name)
    (life.folder / "go").touch()
    retry(order)
    run(order)
    assert (order.status, statuses(order)) == ("completed", [("done", ""), ("done", "")])
    assert {"a.txt", "b.txt"} <= life.files(order.git_branch_name)


def test_cancelled_and_retried_and_cancelled_again(life: Life) -> None:
    order = life.delivered()
    prompt(order, COMMIT)
    for _ in range(2):
        cancel(order)
        assert statuses(order) == [("dropped", "cancelled")]
        retry(order)
        assert statuses(order) == [("queued", "")]
    run(order)
    assert (order.status, statuses(order)) == ("completed", [("done", "")])


def test_a_prompt_and_the_phase_that_failed(life: Life) -> None:
    request = f"agent[implementing]: need {life.folder}/quick Not yet"
    order = make_order(
        repository="acme/widgets", workflow_type=AgentWorkflowType.PLAN_BUILD, initial_prompt=request
    )
    run(order)
    assert order.status == "failed"
    (life.folder / "quick").touch()
    prompt(order, commit("a.txt"))
    run(order)
    assert (order.status, statuses(order)) == ("completed", [("done", "")])
    assert {"a.txt", f"change-{order}.txt"} <= life.files(order.git_branch_name)


def test_a_prompt_on_a_cancelled_order_whose_commit_only_this_server_has(life: Life) -> None:
    waits = f"agent[implementing#1]: run until test -e {life.folder}/go; do sleep 0.05; done"
    order = make_order(
        repository="acme/widgets",
        workflow_type=AgentWorkflowType.BUILD,
        initial_prompt=f"agent[implementing#1]: commit half.txt\nagent: say here\n{waits}",
    )
    with running_engine():
        wait_until(order, lambda row: row.log_entries.filter(event="agent_message").exists())
        cancel(order)
        finished(order)
    assert (order.status, order.head_sha, life.sha(order.git_branch_name)) == ("cancelled", "", "")
    assert order.kept_sha
    (life.folder / "go").touch()
    prompt(order, commit("a.txt"))
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert statuses(order) == [("done", "")]
    assert {"half.txt", "a.txt", f"change-{order}.txt"} <= life.files(order.git_branch_name)
    followed = order.phase_runs.get(kind="follow_up", status="succeeded")
    assert "half.txt" in life.files(followed.start_sha), "it went on from what was kept"
    assert order.kept_sha == ""


def test_a_prompt_while_the_commit_of_an_earlier_one_waits_for_approval(life: Life) -> None:
    order = life.delivered()
    path = ".github/workflows/a.yml"
    prompt(
        order,
        f"agent: run mkdir -p .github/workflows; echo a > {path}; git add -A; git commit -qm Add\nagent: nothing",
    )
    with running_engine():
        wait_until(order, lambda row: row.waiting_reason == "approval_required" and not row.claim_owner)
        prompt(order, f"agent: run git rm -qf {path}; git commit -qm 'Take it back'\nagent: nothing")
        wait_until(
            order,
            lambda row: (
                row.status == "completed"
                or (
                    row.waiting_reason == "approval_required"
                    and not row.claim_owner
                    and row.phase_runs.count() > 3
                )
            ),
        )
        second = order.approval_sha
        services.approve_agent_work_order(agent_work_order_id=str(order), sha=second, by="bob")
        finished(order)
    assert (order.status, statuses(order)) == ("completed", [("done", ""), ("done", "")])
    assert path not in life.files(order.git_branch_name)
