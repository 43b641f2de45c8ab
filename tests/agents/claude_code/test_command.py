"""The agent's command line: what is on it, what is never on it."""

from dataclasses import replace
from decimal import Decimal

import pytest

from workorders.agents.base import AgentRequest
from workorders.agents.claude_code.command import SYSTEM_TEXT_ARGUMENT_BYTES, build_agent_command

SESSION = "5f0c6b8e-3f5b-4b39-8b7c-0d7f6f0b6a11"
REQUEST = AgentRequest(
    argv=("claude",), model="sonnet", session_id=SESSION, prompt="Do it.", timeout_seconds=60
)


def test_the_flags_that_keep_a_hostile_repository_out() -> None:
    argv = build_agent_command(REQUEST).argv
    assert argv == (
        *("claude", "-p", "--output-format", "stream-json", "--verbose"),
        *("--setting-sources", "user", "--strict-mcp-config", "--permission-mode", "bypassPermissions"),
        *("--model", "sonnet", "--session-id", SESSION),
    )


def test_a_resumed_session_is_named_by_resume() -> None:
    argv = build_agent_command(replace(REQUEST, resume=True)).argv
    assert argv[-2:] == ("--resume", SESSION)
    assert "--session-id" not in argv


def test_the_prompt_is_on_standard_input_only() -> None:
    command = build_agent_command(replace(REQUEST, prompt="SECRET-WORDS ünï"))
    assert command.stdin == "SECRET-WORDS ünï".encode()
    assert not any("SECRET-WORDS" in argument for argument in command.argv)


@pytest.mark.parametrize("prompt", ["/compact\nnow", "  /plan x", "!ls", "# Plan"])
def test_a_prompt_is_never_one_of_the_clis_own_commands(prompt: str) -> None:
    stdin = build_agent_command(replace(REQUEST, prompt=prompt)).stdin.decode()
    assert stdin.endswith(prompt)
    assert stdin.startswith("Your task:")


def test_a_budget_is_written_out_plainly() -> None:
    argv = build_agent_command(replace(REQUEST, budget_usd=Decimal("1E+1"))).argv
    assert argv[argv.index("--max-budget-usd") + 1] == "10"


def test_a_small_system_text_is_one_argument_even_if_it_looks_like_an_option() -> None:
    command = build_agent_command(replace(REQUEST, system_text="--help\0 me \ud800"))
    assert command.argv[-1] == "--append-system-prompt=--help me ?"
    assert command.stdin == b"Do it."


def test_a_large_system_text_becomes_a_section_of_the_prompt() -> None:
    text = "ü" * (SYSTEM_TEXT_ARGUMENT_BYTES // 2 + 1)
    command = build_agent_command(replace(REQUEST, system_text=text))
    assert not any("append-system-prompt" in argument for argument in command.argv)
    assert f"<repository-instructions>\n{text}\n</repository-instructions>".encode() in command.stdin
    assert command.stdin.endswith(b"Do it.")
    assert build_agent_command(replace(REQUEST, system_text=text, resume=True)).stdin == b"Do it."


def test_the_callers_environment_is_added_and_secrets_stay_out() -> None:
    request = replace(REQUEST, environment={"WORKORDERS_PHASE": "planning"}, secrets={"KEY": "hush"})
    command = build_agent_command(request)
    assert command.environment["WORKORDERS_PHASE"] == "planning"
    assert command.environment["DISABLE_AUTOUPDATER"] == "1"
    assert command.environment["IS_SANDBOX"] == "1"
    assert "KEY" not in command.environment
    assert "hush" not in repr(request)


@pytest.mark.parametrize(
    "wrong",
    [
        {"argv": ()},
        {"model": "--settings"},
        {"session_id": "--resume"},
        {"session_id": SESSION.upper()},
        {"prompt": " \n"},
    ],
)
def test_values_no_command_line_can_be_built_from_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(REQUEST, **wrong)  # type: ignore[arg-type]  # wrong on purpose
