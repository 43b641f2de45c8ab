"""Agents that amend, squash or drop what was pushed: the branch only ever moves forward, and holds what they meant."""

from pathlib import Path

import pytest

from sandboxes.kinds import SandboxType
from tests.fakes.git_http import branches, git
from tests.workflow_engine.engine import finished, local_order, running_engine, starts
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
SUBJECT = "chore: keep the history that was pushed before"
REWRITES = {
    "amended": "echo more >> specs/a.md; git commit -qa --amend -m Amended",
    "squashed": "git reset -q --soft HEAD~1; echo more >> specs/a.md; git add -A; git commit -qm Squashed",
    "rebased with one dropped": (
        "GIT_SEQUENCE_EDITOR=\"sed -i '1d'\" git rebase -qi HEAD~2; echo more > specs/c.md; git add -A; "
        "git commit -qm On"
    ),
    "orphan": (
        "git checkout -q --orphan new; git add -A; git commit -qm Anew; git branch -qf {branch} HEAD; "
        "git checkout -q {branch}"
    ),
    "set back and gone on": (
        "git reset -q --hard HEAD~2; mkdir -p specs; echo other > specs/d.md; git add -A; git commit -qm Other"
    ),
    "amended with leftovers": "git commit -q --amend -m Amended; echo more > specs/left.md",
}


def remote_of(folder: Path) -> Path:
    return folder / "remote.git"


@pytest.mark.parametrize("sandbox_type", [SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE])
@pytest.mark.parametrize("how", REWRITES)
def test_a_rewritten_history_is_kept_on_top_of_what_was_pushed(
    how: str, sandbox_type: SandboxType, tmp_path: Path
) -> None:
    loop = "for n in a b; do echo $n > specs/$n.md; git add -A; git commit -qm $n; done"
    first = f"agent[planning]: run mkdir -p specs; {loop}"
    order = local_order(
        tmp_path,
        f"{first}\nagent[planning]: nothing",
        workflow_type=AgentWorkflowType.PLAN_BUILD,
        sandbox_type=sandbox_type,
    )
    script = REWRITES[how].replace("{branch}", order.git_branch_name)
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        initial_prompt=f"{order.initial_prompt}\nagent[implementing]: run {script}"
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    assert starts(tmp_path) == ["planning", "implementing"], "taken at the first try"
    remote = remote_of(tmp_path)
    planned, built = (run.end_sha for run in order.phase_runs.exclude(kind="delivery").order_by("sequence"))
    assert branches(remote)[order.git_branch_name] == built
    git("merge-base", "--is-ancestor", planned, built, folder=remote)
    joined = git("log", "--format=%H", "--grep", SUBJECT, f"{planned}..{built}", folder=remote).split()
    assert len(joined) == 1
    agent_head = git("rev-parse", f"{joined[0]}^1", folder=remote)
    assert git("rev-parse", f"{joined[0]}^2", folder=remote) == planned
    assert git("rev-parse", f"{joined[0]}^{{tree}}", folder=remote) == git(
        "rev-parse", f"{agent_head}^{{tree}}", folder=remote
    )
    assert f"change-{order}.txt" in git("ls-tree", "--name-only", built, folder=remote)
    message = git("log", "-1", "--format=%B", joined[0], folder=remote)
    assert f"Work-Order: {order}\nWork-Order-Phase: implementing" in message
    assert all(len(line) <= 100 for line in message.splitlines())
    assert order.log_entries.filter(event="git_history_rewritten").count() == 1


@pytest.mark.parametrize("sandbox_type", [SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE])
@pytest.mark.parametrize("back", ["HEAD~1", "main"])
def test_commits_that_were_dropped_are_undone_on_top(
    back: str, sandbox_type: SandboxType, tmp_path: Path
) -> None:
    order = local_order(tmp_path, "agent: commit a.txt", sandbox_type=sandbox_type)
    with running_engine():
        finished(order)
    before = order.head_sha
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt="Plan it")
    to = back if back != "main" else "origin/main"
    services.prompt_agent_work_order(
        agent_work_order_id=str(order),
        prompt_text=f"agent: run git reset -q --hard {to}\nagent: nothing",
        by="ann",
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    remote = remote_of(tmp_path)
    meant = f"{before}~1" if back != "main" else "main"
    assert git("rev-parse", f"{order.head_sha}~1", folder=remote) == before
    assert git("rev-parse", f"{order.head_sha}^{{tree}}", folder=remote) == git(
        "rev-parse", f"{meant}^{{tree}}", folder=remote
    )
    assert branches(remote)[order.git_branch_name] == order.head_sha


def test_the_step_after_it_goes_on_from_the_joined_commit(tmp_path: Path) -> None:
    amend = "agent[implementing]: run git commit -q --amend -m Amended"
    order = local_order(tmp_path, amend, workflow_type=AgentWorkflowType.PLAN_BUILD_TEST)
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    log = git("log", "--format=%s", f"main..{order.git_branch_name}", folder=remote_of(tmp_path)).splitlines()
    assert log.count(SUBJECT) == 1
    assert log[0] == "Test it"


def test_a_follow_up_that_amends_is_delivered(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    with running_engine():
        finished(order)
    before = order.head_sha
    services.prompt_agent_work_order(
        agent_work_order_id=str(order),
        prompt_text=(
            "agent: run echo better > specs/plan-x.md; git add -A; git commit -q --amend -m 'Plan it better'\n"
            "agent: nothing"
        ),
        by="ann",
    )
    with running_engine():
        finished(order)
    assert order.status == "completed", order.error_message
    remote = remote_of(tmp_path)
    git("merge-base", "--is-ancestor", before, order.head_sha, folder=remote)
    assert git("show", f"{order.head_sha}:specs/plan-x.md", folder=remote) == "better"
    assert order.prompts.get().status == "done"
    assert starts(tmp_path) == ["planning", "planning"]
