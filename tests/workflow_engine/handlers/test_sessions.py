"""What an agent is told in the real engine: whose command, in which session; and what the log says of its work."""

from pathlib import Path

import pytest

from tests.fakes.git_http import create_bare_repository, git
from tests.workflow_engine.engine import finished, local_order, running_engine
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]
REQUEST = "agent[planning]: commit specs/plan.md"


def followed_up(folder: Path, *, hosts: tuple[str, str] = ("here:1:1", "here:2:2")) -> AgentWorkOrder:
    """A plan, then a prompt that commits once more, each on one of the hosts; they share a data folder."""
    order = local_order(folder, REQUEST)
    with running_engine(owner=hosts[0]):
        assert finished(order).status == "completed"
    services.prompt_agent_work_order(
        agent_work_order_id=str(order), prompt_text="agent: commit more.txt", by="ann"
    )
    with running_engine(owner=hosts[1]):
        assert finished(order).status == "completed"
    return order


def said(order: AgentWorkOrder, event: str, field: str) -> list[object]:
    return [entry.fields[field] for entry in order.log_entries.filter(event=event).order_by("sequence")]


def test_it_goes_on_in_the_session_of_an_agent_that_keeps_no_transcript(tmp_path: Path) -> None:
    order = followed_up(tmp_path)
    [first, second] = said(order, "agent_command_started", "agent_session_id")
    assert first == second
    assert said(order, "agent_command_started", "resumed") == [False, True]


def test_on_another_host_it_starts_afresh(tmp_path: Path) -> None:
    order = followed_up(tmp_path, hosts=("here:1:1", "there:1:1"))
    assert said(order, "agent_command_started", "resumed") == [False, False]


def test_each_commit_is_told_once(tmp_path: Path) -> None:
    order = followed_up(tmp_path)
    branch = git(
        "log", "--reverse", "--format=%H", f"main..{order.git_branch_name}", folder=tmp_path / "remote.git"
    )
    assert said(order, "git_commit_created", "git_commit_sha") == branch.split()


def test_its_events_have_the_names_and_fields_that_were_promised(tmp_path: Path) -> None:
    order = local_order(tmp_path, REQUEST, workflow_type=AgentWorkflowType.PLAN_BUILD)
    with running_engine():
        assert finished(order).status == "completed"
    assert said(order, "workflow_phase_transition", "from_phase") == ["planning", "implementing"]
    assert said(order, "workflow_phase_transition", "to_phase") == ["implementing", "completed"]
    commands = ["/agent_workflow_plan", "/agent_workflow_build"]
    assert said(order, "agent_command_started", "command_name") == commands
    assert said(order, "agent_command_completed", "command_name") == commands
    assert said(order, "sandbox_command_executed", "exit_code") == [0, 0]
    seconds = said(order, "workflow_phase_completed", "execution_duration_seconds")
    assert seconds == said(order, "workflow_phase_completed", "duration_seconds")


def test_the_repositorys_own_command_is_that_of_the_base_commit(tmp_path: Path) -> None:
    own = "---\ndescription: Plan\n---\nPlan issue $1 of $2.\n\nagent: commit planned-$1-$2.txt\n"
    create_bare_repository(tmp_path / "remote.git", {".claude/commands/agent_workflow_plan.md": own})
    order = local_order(tmp_path, "agent: commit .claude/commands/agent_workflow_plan.md")
    with running_engine():
        assert finished(order).status == "completed"
    tree = git("ls-tree", "--name-only", order.git_branch_name, folder=tmp_path / "remote.git")
    assert f"planned-none-{order}.txt" in tree.split()
