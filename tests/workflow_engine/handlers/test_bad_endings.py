"""Agents whose program ends badly, or is refused: what git has counts, and who must act is said."""

import json
from functools import partial
from pathlib import Path

import pytest

from sandboxes.kinds import SandboxType
from tests.workflow_engine.engine import finished, local_order, running_engine, starts, wait_until
from workorders.agents.base import AgentRequest
from workorders.domain.states import WaitingReason
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder, WorkOrderLog
from workorders.reading.pages.phases import progress_of
from workorders.services import work_orders as services
from workorders.workflow_engine.handlers import agent as agent_step

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
ERROR = json.dumps(
    {"type": "result", "subtype": "error_during_execution", "is_error": True, "result": "Something broke"}
)
GOOD = json.dumps({"type": "result", "subtype": "success", "is_error": False, "result": "Done once more"})


def ended(order: AgentWorkOrder) -> tuple[str, str | None, str | None]:
    return order.status, order.error_category, order.error_message


def events(order: AgentWorkOrder, name: str) -> list[dict[str, object]]:
    rows = WorkOrderLog.objects.filter(agent_work_order=order, event=name).order_by("sequence")
    return [dict(row.fields) for row in rows]


@pytest.mark.parametrize(
    ("afterwards", "sandbox_type"),
    [
        ("exit 1", SandboxType.GIT_BRANCH),
        ("exit 1", SandboxType.GIT_WORKTREE),
        ("exit 137", SandboxType.GIT_BRANCH),
        ("kill -9 $PPID", SandboxType.GIT_WORKTREE),
        ("kill -TERM $PPID; sleep 5", SandboxType.GIT_BRANCH),
        ("sleep 60", SandboxType.GIT_WORKTREE),
        ("echo 'Error: write EPIPE' >&2; exit 2", SandboxType.GIT_BRANCH),
        ("""printf '{"type":"assistant","mess'; exit 1""", SandboxType.GIT_BRANCH),
        (f"echo '{ERROR}'; exit 1", SandboxType.GIT_BRANCH),
        (f"echo '{GOOD}'; exit 3", SandboxType.GIT_WORKTREE),
    ],
)
def test_work_that_git_has_counts_after_a_good_result(
    afterwards: str, sandbox_type: SandboxType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_step, "AgentRequest", partial(AgentRequest, after_result_seconds=1.0))
    order = local_order(
        tmp_path,
        f"agent: then {afterwards}",
        sandbox_type=sandbox_type,
        workflow_type=AgentWorkflowType.PLAN_BUILD,
    )
    with running_engine():
        finished(order)
        assert ended(order) == ("completed", None, None)
        services.prompt_agent_work_order(
            agent_work_order_id=str(order), prompt_text="agent: commit more.txt", by="ann"
        )
        finished(order)
    assert ended(order) == ("completed", None, None)
    assert starts(tmp_path) == ["planning", "implementing", "implementing"]
    assert len(events(order, "agent_exit_ignored")) == 3
    assert not events(order, "agent_command_failed")
    assert all(
        "git has all of it" in phase.warning
        for phase in progress_of(order, is_asked=False, tests=None).lines[:2]
    )


@pytest.mark.parametrize(
    ("request_text", "category", "runs"),
    [
        ("agent: nothing\nagent: then exit 1", "agent_exit_code", 3),
        ("agent: nothing\nagent: then kill -9 $PPID", "agent_killed", 3),
        (f"agent: nothing\nagent: then echo '{ERROR}'", "agent_reported_error", 1),
        ("agent: commit specs/plan.md\nagent: exit 0", "agent_no_result", 3),
        ("agent: commit specs/plan.md\nagent: exit 137", "agent_killed", 3),
        ("agent: commit specs/plan.md\nagent: fail", "agent_reported_error", 1),
    ],
)
def test_without_evidence_or_without_a_good_result_the_old_failure_stands(
    request_text: str, category: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workorders.workflow_engine.planning.retries._delay", lambda *_: 0.0)
    order = local_order(tmp_path, request_text)
    with running_engine():
        finished(order)
    assert order.error_category == category
    missing = request_text.startswith("agent: nothing")
    assert ("left no plan" in str(order.error_message)) is missing
    assert starts(tmp_path) == ["planning"] * runs
    assert not events(order, "agent_exit_ignored")


@pytest.mark.parametrize(
    "words",
    [
        "Credit balance is too low",
        "This organization has been disabled.",
        "Claude Code is not available in your country",
    ],
)
@pytest.mark.parametrize("how", ["agent: fail {}", "agent: run echo {}\nagent: exit 1"])
def test_a_refused_account_is_for_its_owner_and_not_tried_again(words: str, how: str, tmp_path: Path) -> None:
    order = local_order(tmp_path, how.format(words))
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "agent_account_refused")
    assert words in str(order.error_message)
    assert order.error_advice
    assert order.error_advice.endswith("then retry.")
    assert starts(tmp_path) == ["planning"]


@pytest.mark.parametrize(
    "words",
    [
        "You've hit your session limit · resets 3:45pm (Europe/Berlin)",
        "5-hour limit reached ∙ resets 3pm",
        "Opus weekly limit reached ∙ resets Oct 5 at 9am (UTC)",
        "Claude AI usage limit reached|4102444800",
        "You have reached your specified API usage limits. You will regain access on 2099-12-12 at 00:00 UTC.",
    ],
)
@pytest.mark.parametrize("stream", ["", " >&2"])
def test_a_limit_told_on_standard_output_is_waited_for(words: str, stream: str, tmp_path: Path) -> None:
    order = local_order(tmp_path, f'agent: run echo "{words}"{stream}\nagent: exit 1')
    with running_engine():
        wait_until(order, lambda row: row.waiting_reason == WaitingReason.MODEL_QUOTA)
    assert words in str(order.waiting_message)
    assert order.attempts == 0
    assert starts(tmp_path) == ["planning"]


def test_results_committed_with_the_change_cost_no_second_run_of_the_tests(tmp_path: Path) -> None:
    results = json.dumps({"passed": 1, "failed": 0, "tests": [{"name": "a", "status": "passed"}]})
    change = f"echo x > x.txt; echo '{results}' > test_results.json; git add -Af .; git commit -qm Change"
    order = local_order(
        tmp_path,
        f"agent[implementing]: nothing\nagent[implementing]: run {change}\nagent[testing]: nothing",
        workflow_type=AgentWorkflowType.PLAN_BUILD_TEST,
    )
    with running_engine():
        finished(order)
    assert ended(order) == ("completed", None, None)
    assert starts(tmp_path) == ["planning", "implementing", "testing"]
    run = order.phase_runs.get(phase="testing", kind="phase")
    assert (run.tests_passed, run.tests_failed) == (1, 0)


def test_results_in_a_tools_own_words_cost_no_second_run(tmp_path: Path) -> None:
    results = {
        "passed": 2.0,
        "failed": "0",
        "tests": [
            {"name": "a", "status": "error"},
            {"name": "b", "status": "xfail"},
            {"name": "c", "status": "ok"},
        ],
    }
    write = (
        f"echo '{json.dumps(results)}' > test_results.json; git add -f test_results.json; git commit -qm Test"
    )
    order = local_order(
        tmp_path,
        f"agent[testing]: nothing\nagent[testing]: run {write}",
        workflow_type=AgentWorkflowType.PLAN_BUILD_TEST,
    )
    with running_engine():
        finished(order)
    assert ended(order) == ("completed", None, None)
    assert starts(tmp_path) == ["planning", "implementing", "testing"]
    run = order.phase_runs.get(phase="testing", kind="phase")
    assert (run.tests_passed, run.tests_failed) == (2, 1)
    assert "the list was taken" in str(run.test_results)
