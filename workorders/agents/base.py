"""Values of the agent executor: what is asked of an agent, what it says while it works, and how it ended.

Pure data. Knows the sandbox package's vocabulary at most by name; must not know Django, rows or GitHub.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

from pydantic import JsonValue

SUMMARY_CHARACTERS = 2000
RESULT_CHARACTERS = 20_000
STDERR_TAIL_BYTES = 4096
TRUNCATION_MARK = " … [truncated]"

# Terminal sequences (colours, titles), then what is left of control characters, bidi overrides that let text
# pose as other text, and lone surrogates, which JSON can spell but no database or UTF-8 file can hold.
_TERMINAL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)|[@-Z\\-_])")
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def clean_text(text: str, limit: int) -> str:
    """Text fit to be stored: no control characters but newline and tab, at most `limit` characters.

    What is cut off is announced by a visible mark inside the limit.
    """
    longer = len(text) > limit
    cleaned = _TERMINAL_SEQUENCE.sub("", text[: limit * 2].replace("\r\n", "\n"))
    cleaned = _SURROGATE.sub("\ufffd", _UNWANTED.sub("", cleaned))
    if longer or len(cleaned) > limit:
        return cleaned[: max(limit - len(TRUNCATION_MARK), 0)] + TRUNCATION_MARK[:limit]
    return cleaned


class AgentEventKind(StrEnum):
    """What an agent's line of output tells."""

    SESSION_STARTED = "session_started"
    MESSAGE = "message"
    TOOL_CALLED = "tool_called"
    TOOL_FINISHED = "tool_finished"
    API_RETRIED = "api_retried"
    RESULT = "result"
    OTHER = "other"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"


@dataclass(frozen=True)
class AgentEvent:
    """One thing the agent said or did. `summary` and `fields` are cleaned and bounded, not redacted."""

    kind: AgentEventKind
    summary: str
    fields: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({}))


class AgentFailureCategory(StrEnum):
    """Why an agent run did not count, each with its own advice (`failures.FAILURES`)."""

    TIMED_OUT = "agent_timed_out"
    SILENT = "agent_silent"
    LINGERED = "agent_lingered"
    CANCELLED = "agent_cancelled"
    MODEL_UNREACHABLE = "agent_model_unreachable"
    NOT_LOGGED_IN = "agent_not_logged_in"
    ACCOUNT_REFUSED = "agent_account_refused"
    MODEL_OVERLOADED = "agent_model_overloaded"
    RATE_LIMITED = "agent_rate_limited"
    REQUEST_REJECTED = "agent_request_rejected"
    BUDGET_EXCEEDED = "agent_budget_exceeded"
    TURN_LIMIT = "agent_turn_limit"
    SESSION_UNUSABLE = "agent_session_unusable"
    NO_RESULT = "agent_no_result"
    RESULT_TOO_LONG = "agent_result_too_long"
    KILLED = "agent_killed"
    REPORTED_ERROR = "agent_reported_error"
    EXIT_CODE = "agent_exit_code"
    PERMISSION_DENIED = "agent_permission_denied"
    MISSING = "agent_missing"


@dataclass(frozen=True)
class AgentFailure:
    """`message`: what happened, for a person. `retryable`: whether the same run may help if nobody acts.

    `retry_after_seconds`: when the model's side said to come back, from now; None where it did not say.
    `after_success`: the agent had reported a good result before, so that the work counts if git shows it.
    """

    category: AgentFailureCategory
    message: str
    advice: str
    retryable: bool
    retry_after_seconds: float | None = None
    after_success: bool = False


@dataclass(frozen=True)
class AgentRequest:
    """One run of an agent. Times in seconds, money in US dollars.

    `argv` is the base command (`("claude",)`); `session_id` names a new session, or the one to `resume`.
    `system_text` is the base commit's guidance for agents, '' for none. `environment` and `secrets` are all the agent
    sees beside what `command.AGENT_ENVIRONMENT` adds; `program_folders` are what it must be able to
    read to start. Raises `ValueError` for values no command line can be built from.
    """

    argv: tuple[str, ...]
    model: str
    session_id: str
    prompt: str = field(repr=False)
    timeout_seconds: float
    resume: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    silence_seconds: float | None = None
    after_result_seconds: float = 30
    budget_usd: Decimal | None = None
    system_text: str = field(default="", repr=False)
    program_folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise ValueError("The agent's command is empty.")
        if not self.model or self.model.startswith("-"):
            raise ValueError(f"{self.model!r} is not a model name.")
        if str(UUID(self.session_id)) != self.session_id:
            raise ValueError(f"{self.session_id!r} is not a session id in its usual form.")
        if not self.prompt.strip():
            raise ValueError("The agent's prompt is empty.")


@dataclass(frozen=True)
class ReportedResult:
    """What the agent's own `result` line claims; counters are 0 and `cost_usd` None where it says nothing.

    `text` is the final answer or, for errors, their words. `input_tokens` counts cached tokens too. `tells_outcome`
    False: the line was too long to be kept, and what is left does not say whether it went well.
    """

    subtype: str
    is_error: bool
    text: str
    session_id: str
    api_error_status: int | None
    cost_usd: Decimal | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    turns: int
    permission_denials: int
    tells_outcome: bool = True

    @property
    def is_success(self) -> bool:
        """Whether it says that all went well; a line that was cut may still do so."""
        return not self.is_error and self.subtype in {"success", ""}


@dataclass(frozen=True)
class AgentRunResult:
    """How one run ended. `succeeded` says only that the agent ended well; git decides whether work was done.

    `input_tokens` includes `cache_read_tokens` and `cache_creation_tokens`. `stderr_tail` is at most 4 KiB of
    cleaned text, not redacted. `output_truncated`: lines were too long or too many to be kept.
    """

    succeeded: bool
    failure: AgentFailure | None
    session_id: str
    result_text: str
    cost_usd: Decimal | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    turns: int
    permission_denials: int
    exit_code: int | None
    duration_seconds: float
    stderr_tail: str
    output_truncated: bool
