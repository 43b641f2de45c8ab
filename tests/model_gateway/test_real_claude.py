"""The real Claude Code CLI through the gateway: it works with a step token, and stops at once when refused."""

import os
import time
import uuid
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from sandboxes.kinds import SandboxType
from sandboxes.processes.run import ProcessControl
from tests.agents.local_sandbox import LocalSandbox
from tests.fakes.messages_api import MessagesApi, Refusal, always, bash, steps, text
from tests.model_gateway.running import GRANT, REAL_KEY, TOKEN, MemoryLedger, running_gateway
from tests.support import require_program
from workorders.agents.base import AgentFailureCategory, AgentRequest
from workorders.agents.executor import execute_agent_command
from workorders.model_gateway.access import ModelAccess

pytestmark = pytest.mark.xdist_group("claude")


@pytest.mark.parametrize("budget", [None, Decimal("0.0001")])
def test_the_real_cli_through_the_gateway(tmp_path: Path, budget: Decimal | None) -> None:
    claude = require_program("claude")
    workspace = tmp_path / "work"
    workspace.mkdir()
    look = bash("tr '\\0' '\\n' < /proc/$PPID/environ > seen.txt; env >> seen.txt")
    ledger = MemoryLedger(replace(GRANT, budget_usd=budget))
    with (
        MessagesApi(steps([look], [text("Done.")])) as api,
        running_gateway(api.url, ledger=ledger) as gateway,
    ):
        access = ModelAccess(gateway.url, provider_variables={"ANTHROPIC_API_KEY": REAL_KEY})
        given = access.credential_for(SandboxType.GIT_BRANCH, TOKEN)
        started = time.monotonic()
        result = execute_agent_command(
            LocalSandbox(workspace),
            AgentRequest(
                argv=(claude,),
                model="sonnet",
                session_id=str(uuid.uuid4()),
                prompt="Look around.",
                timeout_seconds=60,
                environment={**given.environment, "HOME": str(tmp_path)},
                secrets=given.secrets,
            ),
            control=ProcessControl(),
            on_event=lambda _event: None,
        )
    assert {call.headers.get("x-api-key") for call in api.main_calls} == {REAL_KEY}
    assert not any(TOKEN in str(call.headers) for call in api.requests)
    seen = (workspace / "seen.txt").read_text()
    assert TOKEN in seen
    assert REAL_KEY not in seen
    left = [path for path in tmp_path.rglob("*") if path.is_file() and os.access(path, os.R_OK)]
    assert not any(REAL_KEY.encode() in path.read_bytes() for path in left)
    if budget is None:
        assert result.succeeded
        assert len(ledger.spendings) == len(api.main_calls) == 2
    else:
        assert result.failure is not None
        assert result.failure.category is AgentFailureCategory.BUDGET_EXCEEDED
        assert time.monotonic() - started < 30, "it stopped at once, without trying again"
        assert (len(api.main_calls), ledger.refused) == (1, 1)


def test_a_refused_credential_is_asked_about_once(tmp_path: Path) -> None:
    """Left to itself the CLI asks eleven times, over minutes, and then the step's clock says something else."""
    claude = require_program("claude")
    refusal = Refusal(401, "authentication_error", "invalid x-api-key")
    ledger = MemoryLedger(GRANT)
    with MessagesApi(always(refusal)) as api, running_gateway(api.url, ledger=ledger) as gateway:
        access = ModelAccess(gateway.url, provider_variables={"ANTHROPIC_API_KEY": REAL_KEY})
        given = access.credential_for(SandboxType.GIT_BRANCH, TOKEN)
        result = execute_agent_command(
            LocalSandbox(tmp_path),
            AgentRequest(
                argv=(claude,),
                model="sonnet",
                session_id=str(uuid.uuid4()),
                prompt="Look around.",
                timeout_seconds=60,
                environment={**given.environment, "HOME": str(tmp_path)},
                secrets=given.secrets,
            ),
            control=ProcessControl(),
            on_event=lambda _event: None,
        )
    assert len(api.main_calls) == 1
    assert result.failure is not None
    assert result.failure.category is AgentFailureCategory.NOT_LOGGED_IN
