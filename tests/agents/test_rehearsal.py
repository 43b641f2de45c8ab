"""The rehearsal agent in a real repository: every phase leaves its evidence, through the real executor."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from config.env import REHEARSAL_AGENT
from sandboxes.processes.run import ProcessControl
from tests.agents.local_sandbox import LocalSandbox
from tests.support import require_program
from workorders.agents.base import AgentEvent, AgentEventKind, AgentRequest, AgentRunResult
from workorders.agents.base import AgentFailureCategory as Category
from workorders.agents.executor import execute_agent_command
from workorders.agents.rehearsal import _asked_of, _json
from workorders.workflow_engine.handlers.command_loader import load_commands, render
from workorders.workflow_engine.results_file.results import AgentTestStatus, parse_test_results

SESSION = "5f0c6b8e-3f5b-4b39-8b7c-0d7f6f0b6a11"
ORDER = "wo-1a2b3c4d"
COMMANDS = {
    "planning": "agent_workflow_plan",
    "implementing": "agent_workflow_build",
    "testing": "agent_workflow_test",
}
HOOK = '#!/bin/sh\ngit interpret-trailers --in-place --trailer "Work-Order: wo-1a2b3c4d" "$1"\n'


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=repository,
        env={"PATH": "/usr/bin:/bin", "HOME": str(repository), "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    require_program("git")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Test")
    git(folder, "config", "user.email", "test@example.invalid")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Start")
    hook = folder / ".git" / "hooks" / "prepare-commit-msg"
    hook.write_text(HOOK)
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    return folder


def rehearse(
    repository: Path, phase: str, request: str = "Add a greeting", **environment: str
) -> tuple[AgentRunResult, list[AgentEvent]]:
    events: list[AgentEvent] = []
    text = "Work on it."
    if phase in COMMANDS:
        command = load_commands(Path(REHEARSAL_AGENT).parent.parent.parent / ".claude" / "commands")
        text = render(command[COMMANDS[phase]], [ORDER, "none"])
    result = execute_agent_command(
        LocalSandbox(repository),
        AgentRequest(
            argv=(sys.executable, "-I", "-S", str(REHEARSAL_AGENT)),
            model="sonnet",
            session_id=SESSION,
            prompt=f"{text}\n\n<request>\n{request}\n</request>\n",
            timeout_seconds=30,
            environment={
                "WORKORDERS_AGENT_WORK_ORDER_ID": ORDER,
                "WORKORDERS_PHASE": phase,
                "WORKORDERS_ATTEMPT": "1",
                **environment,
            },
        ),
        control=ProcessControl(),
        on_event=events.append,
    )
    return result, events


def subjects(repository: Path) -> list[str]:
    return git(repository, "log", "--reverse", "--format=%s").splitlines()[1:]


def results_at_head(repository: Path) -> Any:
    return parse_test_results(git(repository, "show", "HEAD:test_results.json").encode())


def test_all_phases_leave_their_evidence(repository: Path) -> None:
    for phase in COMMANDS:
        result, _ = rehearse(repository, phase, "## Add a  greeting\n\nmore words")
        assert result.failure is None
        assert result.session_id == SESSION
        assert result.cost_usd == 0
        assert (result.input_tokens, result.output_tokens) == (0, 0)
    assert subjects(repository) == [
        "rehearsal: plan Add a greeting",
        f"rehearsal: start rehearsal/{ORDER}.md",
        f"rehearsal: say what was asked in rehearsal/{ORDER}.md",
        "rehearsal: record 3 passed and 0 failed checks",
    ]
    plan = git(repository, "show", f"HEAD:specs/plan-{ORDER}.md")
    assert plan.startswith("# Add a greeting\n")
    assert "1. " in plan
    assert "Asked for: Add a greeting" in git(repository, "show", f"HEAD:rehearsal/{ORDER}.md")
    assert results_at_head(repository).passed == 3
    assert git(repository, "status", "--short") == ""
    bodies = git(repository, "log", "--format=%(trailers:key=Work-Order,valueonly)").split()
    assert bodies == [ORDER] * 4


def test_every_command_is_told_of(repository: Path) -> None:
    _, events = rehearse(repository, "planning")
    kinds = [event.kind for event in events]
    assert kinds[:2] == [AgentEventKind.SESSION_STARTED, AgentEventKind.MESSAGE]
    assert kinds[-2:] == [AgentEventKind.MESSAGE, AgentEventKind.RESULT]
    called = [event.summary for event in events if event.kind is AgentEventKind.TOOL_CALLED]
    assert called == [
        f"Write: specs/plan-{ORDER}.md",
        f"Bash: git add -f -- specs/plan-{ORDER}.md",
        "Bash: git commit --quiet -m 'rehearsal: plan Add a greeting'",
    ]
    assert kinds.count(AgentEventKind.TOOL_FINISHED) == 3


def test_a_phase_that_runs_twice_does_not_fail(repository: Path) -> None:
    for phase in COMMANDS:
        for _ in range(2):
            result, _ = rehearse(repository, phase)
            assert result.failure is None
    assert git(repository, "status", "--short") == ""


def test_ignored_folders_do_not_hide_the_evidence(repository: Path) -> None:
    (repository / ".gitignore").write_text("specs/\nrehearsal/\n*.json\n")
    for phase in COMMANDS:
        assert rehearse(repository, phase)[0].succeeded
    assert git(repository, "ls-files").split() == [
        f"rehearsal/{ORDER}.md",
        f"specs/plan-{ORDER}.md",
        "test_results.json",
    ]


@pytest.mark.parametrize("phase", COMMANDS)
@pytest.mark.parametrize("form", ["rehearsal: fail {}", "  Rehearsal: FAIL {}  "])
def test_a_request_may_ask_for_a_failure(repository: Path, phase: str, form: str) -> None:
    request = f"A greeting\n{form.format(phase)}\nthanks"
    result, _ = rehearse(repository, phase, request)
    assert result.failure is not None
    assert result.failure.category is Category.REPORTED_ERROR
    assert phase in result.failure.message
    assert subjects(repository) == []
    other = next(name for name in COMMANDS if name != phase)
    assert rehearse(repository, other, request)[0].succeeded


def test_a_request_may_ask_for_a_failing_test(repository: Path) -> None:
    result, _ = rehearse(repository, "testing", "A greeting\nrehearsal: tests fail")
    assert result.succeeded
    results = results_at_head(repository)
    assert results.failed == 1
    assert [case.name for case in results.tests if case.status is AgentTestStatus.FAILED] == [
        "rehearsal::asked_to_fail"
    ]
    assert [case.status for case in results.tests].count(AgentTestStatus.SKIPPED) == 2


def test_a_request_may_ask_for_no_change(repository: Path) -> None:
    assert rehearse(repository, "implementing", "Nothing\nrehearsal: no change")[0].succeeded
    outcome = git(repository, "log", "-1", "--format=%(trailers:key=Work-Order-Outcome,valueonly)")
    assert outcome.strip() == "no_change_needed"
    assert git(repository, "show", "--stat", "--format=").strip() == ""


def test_a_follow_up_has_a_file_of_its_own(repository: Path) -> None:
    environment = {"WORKORDERS_FOLLOW_UP": "1", "WORKORDERS_ATTEMPT": "2"}
    request = "Add a greeting\n</request>\n\n<follow_up>\nMake it louder\n</follow_up>\n"
    assert rehearse(repository, "implementing", request, **environment)[0].succeeded
    assert git(repository, "ls-files").split() == [f"rehearsal/{ORDER}-follow-up-2.md"]
    assert "Asked for: Make it louder" in git(repository, "show", f"HEAD:rehearsal/{ORDER}-follow-up-2.md")


def test_an_order_id_is_never_a_way_out_of_the_repository(repository: Path) -> None:
    environment = {"WORKORDERS_AGENT_WORK_ORDER_ID": "../../escape"}
    assert rehearse(repository, "implementing", **environment)[0].succeeded
    assert not list(repository.parent.glob("*escape*"))


def test_a_phase_it_does_not_know_and_a_git_that_refuses_are_errors(repository: Path) -> None:
    result, _ = rehearse(repository, "dreaming")
    assert result.failure is not None
    assert "dreaming" in result.failure.message
    (repository / ".git" / "hooks" / "pre-commit").write_text("#!/bin/sh\necho refused here >&2\nexit 1\n")
    (repository / ".git" / "hooks" / "pre-commit").chmod(0o755)
    result, _ = rehearse(repository, "planning")
    assert result.failure is not None
    assert "refused here" in result.failure.message


def test_a_phase_can_be_made_to_take_time(repository: Path) -> None:
    started = time.monotonic()
    assert rehearse(repository, "planning", WORKORDERS_REHEARSAL_SECONDS="1.2")[0].succeeded
    assert 0.3 < time.monotonic() - started < 10


def test_it_stands_alone_and_starts_fast(repository: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-I", "-S", os.fspath(REHEARSAL_AGENT), "-p", f"--session-id={SESSION}"],
        env={"PATH": "/usr/bin:/bin", "WORKORDERS_PHASE": "planning"},
        cwd=repository,
        input=b"\xff\x00 no text at all",
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert time.monotonic() - started < 5
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["type"], last["is_error"], last["session_id"]) == ("result", False, SESSION)
    assert git(repository, "ls-files").split() == ["specs/plan-rehearsal.md"]


def test_it_imports_nothing_that_python_has_not_loaded_anyway() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        f"exec(compile(open({os.fspath(REHEARSAL_AGENT)!r}).read(), 'agent', 'exec'), {{'__name__': 'agent'}})\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "value",
    [
        "".join(map(chr, range(0x180))),
        "\u2028 \ud7ff \ue000 \uffff \U00010000 \U0001f600 \U0010ffff",
        b"not UTF-8: \xff\xfe".decode("utf-8", "surrogateescape"),
        "\udc80 \ud83d",
        "",
        [True, False, None, 0, -1, 2**70, 0.0, -1.5, 1e300, 1e-7],
        [1, True, 0, False, 1.0],
        {},
        [],
        {"a": {"b": [{"c": [], "d": {}}, [1, [2, "x\ny"]]]}, 'quote"d\n': "\\"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_its_json_is_that_of_the_json_module(value: object) -> None:
    assert _json(value) == json.dumps(value)
    assert _json(value, "\n") == json.dumps(value, indent=2)


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("rehearsal: tests fail", ["tests fail"]),
        ("REHEARSAL:No Change", ["no change"]),
        ("a\n \t Rehearsal:\t fail   Build \r\nb", ["fail   build"]),
        ("rehearsal: no change\nrehearsal: tests fail", ["no change", "tests fail"]),
        ("please: rehearsal: no change", []),
        ("rehearsal no change", []),
        ("rehearsals: no change", []),
    ],
)
def test_lines_that_steer_it(prompt: str, asked: list[str]) -> None:
    assert _asked_of(prompt) == asked


@pytest.mark.parametrize("line", ["rehearsal: fail", "rehearsal: fail planning now", "fail planning"])
def test_lines_that_only_look_like_it_steer_nothing(repository: Path, line: str) -> None:
    assert rehearse(repository, "planning", f"A greeting\n{line}")[0].succeeded


def test_what_git_says_is_told_from_both_its_outputs(repository: Path) -> None:
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\necho to one\necho to the other >&2\nread line || echo nobody types\nexit 1\n")
    hook.chmod(0o755)
    result, _ = rehearse(repository, "planning")
    assert result.failure is not None
    for words in ("ended with 1:", "to one", "to the other", "nobody types"):
        assert words in result.failure.message


def test_git_does_not_inherit_the_signals_that_python_ignores(repository: Path) -> None:
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\ngrep SigIgn /proc/$$/status >&2\nexit 1\n")
    hook.chmod(0o755)
    result, _ = rehearse(repository, "planning")
    assert result.failure is not None
    ignored = int(result.failure.message.rpartition("SigIgn:")[2].split()[0].rstrip(")"), 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored & (1 << (number - 1))


def test_a_missing_git_is_an_error_result(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", os.fspath(REHEARSAL_AGENT)],
        env={"PATH": os.fspath(repository / "nothing"), "WORKORDERS_PHASE": "planning"},
        cwd=repository,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["is_error"]) == (1, True)
    assert "No such file" in last["result"]


def test_names_that_are_no_text_are_still_json(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", os.fspath(REHEARSAL_AGENT), b"--model=a\xff"],
        env={"PATH": "/usr/bin:/bin", "WORKORDERS_PHASE": "planning"},
        cwd=repository,
        input="Do.\n<request>\nSchöne Grüße 😀\n</request>".encode(),
        capture_output=True,
        timeout=30,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["type"] for line in lines} == {"system", "assistant", "user", "result"}
    assert lines[0]["model"] == "a\udcff"
    assert subjects(repository) == ["rehearsal: plan Schöne Grüße 😀"]
