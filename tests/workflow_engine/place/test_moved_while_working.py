"""A repository that is renamed while the order's agent works, and another one that takes its name; with real parts."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxes.kinds import SandboxType
from tests.factories import make_order
from tests.fakes.git_http import branches
from tests.workflow_engine.engine import finished, running_engine
from tests.workflow_engine.handlers.test_delivery import TOKEN
from tests.workflow_engine.place.test_moved_repository import MovingWorld
from workorders import wiring
from workorders.domain.states import AgentWorkOrderStatus, PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowType
from workorders.workflow_engine.parts.engine import EngineParts

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def world(tmp_path: Path, engine_settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MovingWorld]:
    with ExitStack() as stack:
        found = MovingWorld(tmp_path, stack)
        engine_settings.GH_TOKEN = TOKEN
        engine_settings.GH_CONFIG_DIR = str(found.github.gh_config_dir)
        engine_settings.WORKORDERS_GITHUB_GIT_BASE_URL = found.git.base_url
        engine_settings.WORKORDERS_DATA_DIR = found.data_dir
        real = wiring.engine_parts

        def parts(**values: Any) -> EngineParts:
            made = real(**values)

            def reached(name: str, _branch: str) -> None:
                if happening := found.at.pop(name, None):
                    happening()

            return replace(made, crash_point=reached)  # type: ignore[arg-type]  # a function does

        monkeypatch.setattr(wiring, "engine_parts", parts)
        yield found


@pytest.mark.parametrize("takes_the_name", [False, True])
@pytest.mark.parametrize("sandbox", [SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE])
def test_a_rename_while_the_agent_works(
    world: MovingWorld, sandbox: SandboxType, takes_the_name: bool
) -> None:
    order = make_order(
        repository="acme/widgets",
        workflow_type=AgentWorkflowType.PLAN_BUILD,
        sandbox_type=sandbox,
        initial_prompt="Mend it.",
    )
    world.at["agent_done"] = world.replace if takes_the_name else world.rename
    with running_engine():
        finished(order, 60)
    order.refresh_from_db()
    assert order.status == AgentWorkOrderStatus.COMPLETED, order.error_message
    assert order.repository.full_name == "acme/gadgets"
    assert branches(world.bare)[order.git_branch_name] == order.head_sha
    assert len(world.pull_requests) == 1
    assert order.attempts == 2, "no agent ran twice"
    assert order.mirror_key == "github.com/acme/widgets"
    assert not order.phase_runs.filter(status=PhaseRunStatus.FAILED).exists()
    if takes_the_name:
        assert world.nothing_at_the_impostor
