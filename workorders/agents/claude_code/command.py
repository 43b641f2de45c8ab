"""Builds the agent's command line, standard input and environment from an `AgentRequest`. Pure.

The prompt never appears on the command line, where other processes and a sandbox's own logs could see it.
Must not know how or where the command is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from workorders.agents.base import AgentRequest

SYSTEM_TEXT_ARGUMENT_BYTES = 64 * 1024

# Accepted by the CLI 2.1; each keeps an unattended run from reaching out, waiting or outliving its answer.
AGENT_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_INSTALLATION_CHECKS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
        "CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # what an order learns stays in git, not in a HOME
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # a background shell would keep it from exiting
        "CLAUDE_CODE_DISABLE_CRON": "1",
        "TZ": "UTC",  # wherever it runs; `model_limits` reads times of day that name no zone as these
        "IS_SANDBOX": "1",  # as root it refuses bypassPermissions without this
    }
)

_FLAGS = (
    *("-p", "--output-format", "stream-json", "--verbose"),
    # Only the private HOME's settings: a repository's own could run hooks and send the key elsewhere.
    *("--setting-sources", "user", "--strict-mcp-config"),
    *("--permission-mode", "bypassPermissions"),
)


@dataclass(frozen=True)
class AgentCommandLine:
    """What to start: `argv`, `stdin` and the variables it needs; secrets stay with the request."""

    argv: tuple[str, ...]
    stdin: bytes
    environment: Mapping[str, str]


def build_agent_command(request: AgentRequest) -> AgentCommandLine:
    """The command line of one run.

    `system_text` goes to `--append-system-prompt` (as `--name=value`, so that a text starting with a dash is
    no option). Linux limits one argument to 128 KiB; a larger text becomes a marked section of the prompt.
    `--append-system-prompt-file` works too, but needs an absolute path inside the sandbox, which only the
    sandbox knows, and a file the agent could change. A resumed session already holds the section.
    """
    system_text = request.system_text.replace("\0", "")
    as_argument = len(_encode(system_text)) <= SYSTEM_TEXT_ARGUMENT_BYTES
    argv = [*request.argv, *_FLAGS, "--model", request.model]
    argv += ["--resume" if request.resume else "--session-id", request.session_id]
    if request.budget_usd is not None:
        argv += ["--max-budget-usd", f"{request.budget_usd:f}"]
    if system_text.strip() and as_argument:
        argv.append(f"--append-system-prompt={_plain(system_text)}")
    section = "" if as_argument or request.resume else _instructions_section(system_text)
    return AgentCommandLine(
        argv=tuple(argv),
        stdin=_encode(_as_plain_prompt(section + request.prompt)),
        environment={**AGENT_ENVIRONMENT, **request.environment},
    )


def _instructions_section(text: str) -> str:
    return (
        "The repository's own instructions for agents (CLAUDE.md of the base commit):\n"
        f"<repository-instructions>\n{text}\n</repository-instructions>\n\n"
    )


def _as_plain_prompt(prompt: str) -> str:
    """The CLI takes a prompt that starts with a slash for a command of its own and asks no model."""
    return f"Your task:\n\n{prompt}" if prompt.lstrip().startswith(("/", "!", "#")) else prompt


def _plain(text: str) -> str:
    return _encode(text).decode()


def _encode(text: str) -> bytes:
    """UTF-8; characters that have none (lone surrogates) become question marks instead of an exception."""
    return text.encode("utf-8", "replace")
