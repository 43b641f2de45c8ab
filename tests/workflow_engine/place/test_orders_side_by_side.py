"""Orders of one repository, and the steps of one order: what an agent does to git in its place ends with its step."""

from pathlib import Path

import pytest

from tests.fakes.git_http import git
from tests.workflow_engine.engine import finished, local_order, running_engine, starts
from workorders.domain.workflows import AgentWorkflowType

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
LOCAL = pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
SIGN = "git config commit.gpgsign true; git config gpg.program false"


def delivered(folder: Path, branch: str) -> list[str]:
    return git("ls-tree", "-r", "--name-only", branch, folder=folder / "remote.git").split()


@LOCAL
def test_a_neighbours_configuration_is_not_felt(tmp_path: Path, sandbox_type: str) -> None:
    spoils = f"agent: commit specs/x.md\nagent: leave notes.txt\nagent: run {SIGN}\nagent: nothing"
    first = local_order(tmp_path, spoils, sandbox_type=sandbox_type)
    with running_engine():
        assert finished(first).status == "completed", first.error_message
        second = local_order(tmp_path, "agent: commit own.txt", sandbox_type=sandbox_type)
        assert finished(second).status == "completed", second.error_message
    assert len(starts(tmp_path)) == 2, "each at the first attempt"


@LOCAL
def test_a_neighbours_stash_cannot_be_popped(tmp_path: Path, sandbox_type: str) -> None:
    stash = "echo secret > stashed.txt; git add stashed.txt; git stash -q"
    first = local_order(tmp_path, f"agent: run {stash}", sandbox_type=sandbox_type)
    with running_engine():
        assert finished(first).status == "completed"
        pop = "agent: run git stash pop || git stash apply || true"
        second = local_order(tmp_path, pop, sandbox_type=sandbox_type)
        assert finished(second).status == "completed"
    assert "stashed.txt" not in delivered(tmp_path, second.git_branch_name)


@LOCAL
@pytest.mark.parametrize(
    "spoil",
    [
        SIGN,
        "git config core.hooksPath /nonexistent",
        'printf "[core" > "$(git rev-parse --git-common-dir)/config"',
        'rm "$(git rev-parse --git-dir)/HEAD"',
        "git config core.bare true",
        'chmod 000 "$(git rev-parse --git-common-dir)/refs"',
    ],
)
def test_a_step_does_not_spoil_the_next(tmp_path: Path, sandbox_type: str, spoil: str) -> None:
    order = local_order(
        tmp_path,
        "agent[planning]: commit specs/x.md\nagent[planning]: leave notes.txt\n"
        f"agent[planning]: run {spoil}\nagent[planning]: nothing",
        workflow_type=AgentWorkflowType.PLAN_BUILD,
        sandbox_type=sandbox_type,
    )
    with running_engine():
        assert finished(order).status == "completed", order.error_message
    assert starts(tmp_path) == ["planning", "implementing"]
    assert {"specs/x.md", "notes.txt", f"change-{order}.txt"} <= set(
        delivered(tmp_path, order.git_branch_name)
    )
    assert order.log_entries.filter(event="sandbox_created").count() == 1, "the place went on"
