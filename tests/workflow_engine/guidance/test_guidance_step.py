"""The base commit's guidance in real steps: what the agent is started with, in phases and follow-ups, and the log."""

from pathlib import Path

import pytest
from django.conf import LazySettings

from sandboxes.kinds import SandboxType
from tests.fakes.git_http import git
from tests.workflow_engine.engine import finished, local_order, running_engine
from tests.workflow_engine.guidance.test_guidance import Content, Repository
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder, WorkOrderLog
from workorders.services import work_orders as services

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
KEEP = "agent: run tr '\\0' '\\n' < /proc/$PPID/cmdline > {}/$WORKORDERS_PHASE$WORKORDERS_FOLLOW_UP"


def remote_with(folder: Path, files: dict[str, Content]) -> None:
    (folder / "made").mkdir()
    place = Repository(folder / "made", files)
    git("clone", "-q", "--bare", str(place.git_dir), str(folder / "remote.git"))


def loaded(order: AgentWorkOrder) -> list[dict[str, object]]:
    rows = WorkOrderLog.objects.filter(agent_work_order=order, event="agent_guidance_loaded")
    return [dict(row.fields) for row in rows.order_by("sequence")]


@pytest.mark.parametrize("sandbox_type", [SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE])
def test_every_step_gets_the_base_commits_guidance_and_the_log_says_which(
    sandbox_type: SandboxType, tmp_path: Path
) -> None:
    remote_with(
        tmp_path,
        {
            "CLAUDE.md": "@AGENTS.md\n@~/.claude/mine.md\n",
            "AGENTS.md": "AGENTS-RULE",
            "packages/api/CLAUDE.md": "API-RULE\n" + "a " * 7_000,
        },
    )
    rewrite = "agent[planning]: run echo CHANGED > AGENTS.md; git commit -qam 'Change the guidance'"
    api = "agent[implementing]: commit packages/api/x.py"
    order = local_order(
        tmp_path,
        "\n".join([KEEP.format(tmp_path), rewrite, api]),
        sandbox_type=sandbox_type,
        workflow_type=AgentWorkflowType.PLAN_BUILD,
    )
    with running_engine():
        finished(order)
        services.prompt_agent_work_order(
            agent_work_order_id=str(order), prompt_text="agent: commit again.txt", by="ann"
        )
        finished(order)
    assert order.status == "completed", (order.error_category, order.error_message)
    for name in ("planning", "implementing", "implementing1"):
        started = (tmp_path / name).read_text()
        assert started.count("AGENTS-RULE") == 1
        assert "API-RULE" in started
        assert "CHANGED" not in started
        assert "@~/.claude/mine.md in CLAUDE.md: outside the repository" in started
    told = loaded(order)
    assert len(told) == 3
    assert told[0]["files"] == ["CLAUDE.md", "AGENTS.md", "packages/api/CLAUDE.md (for packages/api/**)"]
    assert told[0]["bytes"] == len("@AGENTS.md\n@~/.claude/mine.md\n") + 11 + 9 + 14_000
    assert told[0]["refused"] == ["@~/.claude/mine.md in CLAUDE.md: outside the repository"]


def test_what_the_branch_has_changed_so_far_decides_what_is_near(tmp_path: Path) -> None:
    remote_with(tmp_path, {"lib/AGENTS.md": "LIB-RULE\n" + "a " * 7_000, "lib/x": ""})
    hidden = "agent[planning]: run d=li; d=${d}b; echo y > $d/x; git commit -qam Change"
    order = local_order(
        tmp_path, f"{KEEP.format(tmp_path)}\n{hidden}", workflow_type=AgentWorkflowType.PLAN_BUILD
    )
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert "LIB-RULE" not in (tmp_path / "planning").read_text()
    assert "lib/AGENTS.md" in (tmp_path / "planning").read_text()
    assert "LIB-RULE" in (tmp_path / "implementing").read_text()


@pytest.mark.parametrize(
    ("files", "category"),
    [
        (
            {
                ".claude/commands/agent_workflow_plan.md": "-> ../../docs/plan.md",
                "docs/plan.md": "OUR-COMMAND for $2, see @docs/how.md",
                "docs/how.md": "HOW-TO",
            },
            None,
        ),
        ({".claude/commands/agent_workflow_plan.md": "OUR-COMMAND HOW-TO \u00fc".encode("utf-16")}, None),
        ({".claude/commands/agent_workflow_plan.md": "-> /etc/passwd"}, "command_invalid"),
        ({".claude/commands/agent_workflow_plan.md": "-> gone.md"}, "command_invalid"),
    ],
)
def test_a_repositorys_own_command_is_followed_like_its_guidance(
    files: dict[str, Content], category: str | None, tmp_path: Path, engine_settings: LazySettings
) -> None:
    remote_with(tmp_path, files)
    prompt = tmp_path / "prompt"
    scripted = " ".join(engine_settings.WORKORDERS_AGENT_COMMAND)
    engine_settings.WORKORDERS_AGENT_COMMAND = ("sh", "-c", f'tee {prompt} | {scripted} "$@"', "agent")
    order = local_order(tmp_path, "agent: say hello")
    with running_engine():
        finished(order)
    assert order.error_category == category
    if category:
        assert ".claude/commands/agent_workflow_plan.md:1: the command file is a link that leads" in str(
            order.error_message
        )
        return
    assert "OUR-COMMAND" in prompt.read_text()
    assert prompt.read_text().count("HOW-TO") == 1
    assert "@docs" not in prompt.read_text()  # the program would look for it in the working tree, once more
