"""How an agent ends, with real processes: each way to end badly has its own reason, none counts as success."""

import json
import os
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sandboxes.base import CommandExecutionResult, SandboxCommand
from sandboxes.errors import SandboxError
from sandboxes.processes.run import ProcessControl
from tests.agents.local_sandbox import LocalSandbox
from workorders.agents.base import AgentEvent, AgentEventKind, AgentRequest, AgentRunResult
from workorders.agents.base import AgentFailureCategory as Category
from workorders.agents.claude_code.failures import FAILURES
from workorders.agents.executor import execute_agent_command

SESSION = "5f0c6b8e-3f5b-4b39-8b7c-0d7f6f0b6a11"


PRELUDE = f"""
import json, os, signal, subprocess, sys, time
def emit(**event): print(json.dumps(event), flush=True)
def init(): emit(type="system", subtype="init", session_id={SESSION!r}, model="m", tools=[])
def say(words): emit(type="assistant", message=dict(content=[dict(type="text", text=words)]))
def call(name="Bash"):
    emit(type="assistant", message=dict(content=[dict(type="tool_use", id="t", name=name, input={{}})]))
def retry(status=529): emit(type="system", subtype="api_retry", attempt=1, max_retries=9, error_status=status)
def result(**more):
    emit(**{{**dict(type="result", subtype="success", is_error=False, result="done", num_turns=3,
         total_cost_usd=0.5, usage=dict(input_tokens=10, output_tokens=5), permission_denials=[]), **more}})
def die(number): os.kill(os.getpid(), number)
"""


def request_for(code: str, **more: Any) -> AgentRequest:
    values: dict[str, Any] = {
        "argv": (sys.executable, "-I", "-S", "-c", PRELUDE + code),
        "model": "m",
        "session_id": SESSION,
        "prompt": "Do it.",
        "timeout_seconds": 20,
        "after_result_seconds": 5,
    }
    return AgentRequest(**{**values, **more})


def execute(
    tmp_path: Path, request: AgentRequest, control: ProcessControl | None = None
) -> tuple[AgentRunResult, list[AgentEvent]]:
    events: list[AgentEvent] = []
    result = execute_agent_command(
        LocalSandbox(tmp_path), request, control=control or ProcessControl(), on_event=events.append
    )
    assert result.succeeded is (result.failure is None)
    return result, events


def category(result: AgentRunResult) -> Category | None:
    return result.failure.category if result.failure else None


def test_a_good_run_counts_and_reports_what_it_used(tmp_path: Path) -> None:
    result, events = execute(tmp_path, request_for("init(); say(sys.stdin.read()); result()"))
    assert result.succeeded
    assert [event.summary for event in events] == ["Session started with m", "Do it.", "done"]
    assert (result.session_id, result.result_text, result.turns) == (SESSION, "done", 3)
    assert (result.cost_usd, result.input_tokens, result.output_tokens) == (Decimal("0.5"), 10, 5)
    assert result.exit_code == 0
    assert 0 < result.duration_seconds < 15


def test_the_sandbox_gets_secrets_apart_and_limits_as_asked(tmp_path: Path) -> None:
    sandbox = LocalSandbox(tmp_path)
    request = request_for(
        "result(result=os.environ['TOKEN'] + os.environ['WORKORDERS_PHASE'])",
        secrets={"TOKEN": "hush"},
        environment={"WORKORDERS_PHASE": "planning"},
        silence_seconds=7,
        program_folders=(Path("/opt/agent"),),
    )
    result = execute_agent_command(sandbox, request, control=ProcessControl(), on_event=lambda event: None)
    assert result.result_text == "hushplanning"
    [command] = sandbox.commands
    assert command.secrets == {"TOKEN": "hush"}
    assert "TOKEN" not in command.environment
    assert "hush" not in repr(command)
    assert (command.timeout_seconds, command.silence_seconds) == (20, 7)
    assert command.program_folders == (Path("/opt/agent"),)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("init(); say('bye')", Category.NO_RESULT),
        ("", Category.NO_RESULT),
        ("""init(); sys.stdout.write('{"type":"result","subtype":"succ'); sys.exit(0)""", Category.NO_RESULT),
        ("sys.exit(3)", Category.NO_RESULT),
        ("init(); sys.exit(137)", Category.KILLED),
        ("init(); sys.exit(139)", Category.KILLED),
        ("init(); sys.exit(143)", Category.KILLED),
        ("init(); die(signal.SIGKILL)", Category.KILLED),
        ("result(); die(signal.SIGKILL)", Category.KILLED),
        ("sys.exit(127)", Category.MISSING),
        (
            "sys.stderr.write('bwrap: execvp claude: No such file or directory'); sys.exit(1)",
            Category.MISSING,
        ),
        ("result(is_error=True)", Category.REPORTED_ERROR),
        ("result(is_error=True); sys.exit(1)", Category.REPORTED_ERROR),
        ("result(subtype='error_during_execution')", Category.REPORTED_ERROR),
        ("result(subtype='error_max_turns', is_error=True); sys.exit(1)", Category.TURN_LIMIT),
        ("result(subtype='error_max_budget_usd', is_error=True); sys.exit(1)", Category.BUDGET_EXCEEDED),
        ("result(); sys.exit(1)", Category.EXIT_CODE),
        ("call(); result(permission_denials=[{}])", Category.PERMISSION_DENIED),
        ("call(); call(); result(permission_denials=[{}])", None),
        ("result(is_error=True, api_error_status=401)", Category.NOT_LOGGED_IN),
        ("result(is_error=True, result='Not logged in · Please run /login')", Category.NOT_LOGGED_IN),
        ("result(is_error=True, result='Invalid API key · Fix external API key')", Category.NOT_LOGGED_IN),
        ("result(is_error=True, result='OAuth token has expired')", Category.NOT_LOGGED_IN),
        ("result(is_error=True, api_error_status=529)", Category.MODEL_OVERLOADED),
        ("result(is_error=True, result='API Error: 503 no')", Category.MODEL_OVERLOADED),
        ("result(is_error=True, api_error_status=429)", Category.RATE_LIMITED),
        ("result(is_error=True, result='Claude usage limit reached, resets 3:45pm')", Category.RATE_LIMITED),
        ('result(is_error=True, result="You\'ve hit your limit · resets 3:45pm")', Category.RATE_LIMITED),
        ("result(is_error=True, api_error_status=400)", Category.REQUEST_REJECTED),
        ("result(is_error=True, api_error_status=403)", Category.REQUEST_REJECTED),
        ("result(is_error=True, result='Prompt is too long')", Category.REQUEST_REJECTED),
        ("result(is_error=True, result='API Error: Connection error.')", Category.MODEL_UNREACHABLE),
        (
            "sys.stderr.write('No conversation found with session ID: x'); sys.exit(1)",
            Category.SESSION_UNUSABLE,
        ),
        (
            "sys.stderr.write('Error: Session ID x is already in use.'); sys.exit(1)",
            Category.SESSION_UNUSABLE,
        ),
        ("say('Not logged in, 529, usage limit'); result(result='API Error: 529')", None),
    ],
)
def test_each_way_to_end_has_its_reason(tmp_path: Path, code: str, expected: Category | None) -> None:
    result, _ = execute(tmp_path, request_for(code))
    assert category(result) == expected
    if result.failure:
        assert result.failure.advice == FAILURES[result.failure.category].advice
        assert result.failure.retryable is FAILURES[result.failure.category].retryable


def test_a_limit_tells_when_it_resets(tmp_path: Path) -> None:
    result, _ = execute(tmp_path, request_for("result(is_error=True, result='Usage limit; resets 3:45pm')"))
    assert result.failure is not None
    assert "resets 3:45pm" in result.failure.message
    assert result.failure.retryable


def test_every_category_has_a_text_of_its_own() -> None:
    assert set(FAILURES) == set(Category)
    assert len({failure.message for failure in FAILURES.values()}) == len(FAILURES)
    assert all(failure.advice.endswith(".") for failure in FAILURES.values())


def test_a_missing_program_is_a_result_and_no_exception(tmp_path: Path) -> None:
    result, _ = execute(tmp_path, request_for("", argv=("/nowhere/claude",)))
    assert category(result) is Category.MISSING
    assert result.exit_code is None
    assert result.failure is not None
    assert "/nowhere/claude" in result.failure.message


def test_a_place_that_is_gone_is_the_places_error(tmp_path: Path) -> None:
    with pytest.raises(SandboxError):
        execute(tmp_path / "gone", request_for("result()"))


def test_an_agent_that_lingers_after_its_result_is_ended(tmp_path: Path) -> None:
    result, _ = execute(tmp_path, request_for("result(); time.sleep(60)", after_result_seconds=0.3))
    assert category(result) is Category.LINGERED
    assert result.result_text == "done"
    assert result.duration_seconds < 10


def test_a_reported_error_says_more_than_lingering(tmp_path: Path) -> None:
    code = "result(is_error=True, api_error_status=401); time.sleep(60)"
    result, _ = execute(tmp_path, request_for(code, after_result_seconds=0.3))
    assert category(result) is Category.NOT_LOGGED_IN


def test_an_agent_that_says_nothing_is_ended(tmp_path: Path) -> None:
    result, _ = execute(tmp_path, request_for("init(); time.sleep(60)", silence_seconds=0.4))
    assert category(result) is Category.SILENT
    assert result.duration_seconds < 10


def test_an_agent_that_never_finishes_is_ended(tmp_path: Path) -> None:
    code = "init()\nwhile True: say('working'); time.sleep(0.05)"
    result, _ = execute(tmp_path, request_for(code, timeout_seconds=1, silence_seconds=30))
    assert category(result) is Category.TIMED_OUT
    assert result.duration_seconds < 10


def test_retries_alone_are_no_progress(tmp_path: Path) -> None:
    code = "init()\nwhile True: retry(); time.sleep(0.05)"
    result, events = execute(tmp_path, request_for(code, silence_seconds=0.5))
    assert category(result) is Category.MODEL_UNREACHABLE
    assert result.duration_seconds < 10
    assert events[-1].kind is AgentEventKind.API_RETRIED


def test_retries_until_the_time_is_up_name_the_model(tmp_path: Path) -> None:
    code = "init()\nwhile True: retry(); time.sleep(0.05)"
    result, _ = execute(tmp_path, request_for(code, timeout_seconds=0.8))
    assert category(result) is Category.MODEL_UNREACHABLE


def test_a_stopped_agent_is_cancelled_even_if_it_ignores_the_signal(tmp_path: Path) -> None:
    control = ProcessControl()
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); init(); time.sleep(60)"
    timer = threading.Timer(0.7, control.stop)
    timer.start()
    try:
        result, _ = execute(tmp_path, request_for(code), control)
    finally:
        timer.cancel()
    assert category(result) is Category.CANCELLED
    assert result.duration_seconds < 10


def test_a_daemon_that_keeps_standard_output_neither_blocks_nor_survives(tmp_path: Path) -> None:
    pid_file = tmp_path / "daemon.pid"
    code = f"""
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
open({str(pid_file)!r}, "w").write(str(daemon.pid))
result()
sys.stdout.flush()
os._exit(0)
"""
    result, _ = execute(tmp_path, request_for(code))
    assert result.succeeded
    assert result.duration_seconds < 10
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(int(pid_file.read_text()))


def _wait_until_gone(pid: int) -> None:
    """Returns after 5 s where the process still lives; a zombie nobody reaps counts as gone."""
    for _ in range(100):
        os.kill(pid, 0)
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError(pid)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


def test_a_line_of_20_megabytes_is_cut_and_the_run_goes_on(tmp_path: Path) -> None:
    code = "init(); say('x' * 20_000_000); result()"
    result, events = execute(tmp_path, request_for(code))
    assert result.succeeded
    assert result.output_truncated
    kinds = [event.kind for event in events]
    assert kinds == [AgentEventKind.SESSION_STARTED, AgentEventKind.UNREADABLE, AgentEventKind.RESULT]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("result(result='x' * 9_000_000)", None),
        ("result(result='x' * 9_000_000, is_error=True)", Category.REPORTED_ERROR),
        ("result(result='x' * 9_000_000, is_error=True, api_error_status=401)", Category.REPORTED_ERROR),
        ("result(result='x' * 9_000_000, subtype='error_max_turns')", Category.TURN_LIMIT),
        ("result(result='x' * 9_000_000); sys.exit(1)", Category.EXIT_CODE),
        (
            "emit(type='result', subtype='success', result='x' * 9_000_000, is_error=False)",
            Category.RESULT_TOO_LONG,
        ),
        ("emit(result='x' * 9_000_000, type='result', is_error=False)", Category.RESULT_TOO_LONG),
        ("emit(result='x' * 9_000_000, type='result', is_error=False); sys.exit(1)", Category.NO_RESULT),
        ("emit(result='x' * 9_000_000, type='result'); say('bye')", Category.NO_RESULT),
    ],
)
def test_a_result_too_long_to_keep_counts_only_where_what_is_left_says_so(
    tmp_path: Path, code: str, expected: Category | None
) -> None:
    result, _ = execute(tmp_path, request_for(f"init(); {code}"))
    assert category(result) is expected
    assert result.output_truncated
    assert result.session_id == SESSION
    if expected is Category.RESULT_TOO_LONG:
        assert result.failure is not None
        assert not result.failure.retryable


def test_200_megabytes_of_output_stay_bounded(tmp_path: Path) -> None:
    code = """
line = json.dumps(dict(type="assistant", message=dict(content=[dict(type="text", text="y" * 900)]))) + "\\n"
block = line * 1000
for _ in range(100): sys.stdout.write(block)
for _ in range(1000): sys.stdout.write("z" * 100_000)
sys.stdout.write("\\n")
result()
"""
    events = 0

    def count(event: AgentEvent) -> None:
        nonlocal events
        events += 1

    tracemalloc.start()
    try:
        result = execute_agent_command(
            LocalSandbox(tmp_path),
            request_for(code, timeout_seconds=90),
            control=ProcessControl(),
            on_event=count,
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.succeeded
    assert result.output_truncated
    assert events <= 5003
    assert peak < 40 * 1024 * 1024


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    code = """
init()
sys.stdout.buffer.write(b'{"type":"assistant","message":{"content":[{"type":"text","text":"a\\xff\\xfeb"}]}}\\n')
sys.stdout.buffer.write(b'\\x00\\xff\\n')
sys.stdout.flush()
sys.stderr.buffer.write(b'\\xff\\x00\\x1b[31m' + b'e' * 100_000 + b'last words')
result(); sys.exit(1)
"""
    result, events = execute(tmp_path, request_for(code))
    assert events[1].summary == "a\ufffd\ufffdb"
    assert events[2].kind is AgentEventKind.UNREADABLE
    assert category(result) is Category.EXIT_CODE
    assert len(result.stderr_tail) <= 4096
    assert result.stderr_tail.endswith("last words")


def test_a_session_id_that_is_none_is_not_believed(tmp_path: Path) -> None:
    result, _ = execute(tmp_path, request_for("result(session_id='--dangerous; rm')"))
    assert result.session_id == SESSION


def test_a_sandbox_that_cannot_stream_hands_over_everything_at_the_end(tmp_path: Path) -> None:
    class Batch(LocalSandbox):
        def execute_command(
            self,
            command: SandboxCommand,
            *,
            control: ProcessControl | None = None,
            on_stdout: Callable[[bytes], None] | None = None,
        ) -> CommandExecutionResult:
            return super().execute_command(command, control=control)

    events: list[AgentEvent] = []
    result = execute_agent_command(
        Batch(tmp_path),
        request_for("init(); result()"),
        control=ProcessControl(),
        on_event=events.append,
    )
    assert result.succeeded
    assert len(events) == 2


def test_what_the_listener_raises_ends_the_agent(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); init(); time.sleep(60)"

    def refuse(event: AgentEvent) -> None:
        raise KeyError(json.dumps(dict(event.fields)))

    with pytest.raises(KeyError):
        execute_agent_command(
            LocalSandbox(tmp_path), request_for(code), control=ProcessControl(), on_event=refuse
        )
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(int(pid_file.read_text()))
