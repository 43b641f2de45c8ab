"""The model gateway between real workers and their agents: it dies, refuses, and passes on what the model refuses.

One server for all tests of this module; its agent is scripted and asks the gateway as Claude Code would.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.harness import LiveServer, wait_for
from tests.fakes.git_http import create_bare_repository
from tests.fakes.messages_api import Json, MessagesApi, Refusal, Reply, message_text, text
from tests.support import require_program

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("gateway")]
AGENT = Path(__file__).with_name("scripted_agent.py")
COST = Decimal("0.000414")  # of one scripted answer, by the shipped prices
BUDGET = COST * 3
HOUR = 3600


class Model:
    """Answers by the words it is asked: `hang` (at first), `limited`, anything else."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, request: Json, _call: int) -> Reply | Refusal:
        words = message_text(request["messages"][0])
        self.asked.append(words)
        if words == "limited":
            reset = {"anthropic-ratelimit-unified-reset": str(int(time.time()) + 2 * HOUR)}
            return Refusal(429, "rate_limit_error", "Too much.", reset)
        hangs = words == "hang" and self.asked.count("hang") == 1
        return Reply([text("Hello.")], delay_seconds=HOUR if hangs else 0)


@pytest.fixture(scope="module")
def shared_model() -> Model:
    return Model()


@pytest.fixture
def model(shared_model: Model) -> Model:
    """It has forgotten what it was asked before, also by the first try of the same test."""
    shared_model.asked.clear()
    return shared_model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shared_model: Model) -> Iterator[LiveServer]:
    require_program("bwrap")
    folder = tmp_path_factory.mktemp("gateway")
    create_bare_repository(folder / "remote.git")
    with MessagesApi(shared_model) as api:
        environment = {
            "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
            "WORKORDERS_AGENT_COMMAND": f"{sys.executable} {AGENT}",
            "WORKORDERS_AGENT_BUDGET_USD": str(BUDGET),
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": "sk-ant-the-real-key-of-this-test",
        }
        with LiveServer(folder / "server", environment) as live:
            yield live


def ordered(server: LiveServer, request: str) -> str:
    order = server.create(
        repository_url=str(server.folder.parent / "remote.git"),
        workflow_type="agent_workflow_plan",
        initial_prompt=request,
    )
    return str(order["agent_work_order_id"])


def gateway_pid(server: LiveServer) -> int:
    """The gateway's process among the server's descendants."""
    waiting = [server.pid]
    while waiting:
        pid = waiting.pop()
        if b"model_gateway" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
        for task in Path(f"/proc/{pid}/task").iterdir():
            waiting += [int(child) for child in (task / "children").read_text().split()]
    raise AssertionError("no gateway runs")


def test_a_gateway_that_dies_under_an_agent_loses_and_doubles_no_figures(
    server: LiveServer, model: Model
) -> None:
    order_id = ordered(server, "agent: ask first\nagent: ask hang\nagent: ask last")
    wait_for(lambda: "hang" in model.asked, 30, "an answer under way")
    before = gateway_pid(server)
    os.kill(before, signal.SIGKILL)
    order = server.completed(order_id)
    assert gateway_pid(server) != before
    assert [words for words in model.asked if words in {"first", "hang", "last"}] == [
        "first",
        "hang",
        "hang",
        "last",
    ]
    assert Decimal(str(order["cost_usd"])) == COST * 3
    assert (order["input_tokens"], order["output_tokens"]) == (3 * 112, 3 * 20)


def test_an_agent_that_does_not_heed_its_budget_is_ended(server: LiveServer, model: Model) -> None:
    order_id = ordered(server, "agent: insist more")
    order = server.finished(order_id, 30)
    assert (order["status"], order["error_category"]) == ("failed", "agent_budget_exceeded")
    assert model.asked.count("more") == 3, "nothing is asked of the model beyond the budget"
    assert Decimal(str(order["cost_usd"])) == BUDGET
    assert "model_budget_exceeded" in server.events(order_id)


def test_an_order_waits_until_the_limit_ends_that_the_model_told_the_gateway(server: LiveServer) -> None:
    order_id = ordered(server, "agent: ask limited\nagent: fail Something is not right")
    order = wait_for(
        lambda: found if (found := server.order(order_id))["waiting_reason"] else None, 30, "the wait"
    )
    assert (order["status"], order["waiting_reason"], order["attempts"]) == ("running", "model_quota", 0)
    until = datetime.fromisoformat(order["waiting_until"]).timestamp()
    assert until == pytest.approx(time.time() + 2 * HOUR, abs=60)
    assert "Something is not right" in order["waiting_message"]
