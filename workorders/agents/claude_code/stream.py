"""Turns the bytes of an agent's stream-json into bounded, typed events. Pure and incremental.

The agent is not trusted: any byte may arrive in any chunk, lines may be endless, JSON may be nested to break
a parser. Memory stays within one line's limit and the number of events within `Limits`; that something is left out
is announced, and from then on lines that cannot matter are passed over without a look at each. Must not know clocks,
processes or where events go.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from pydantic import JsonValue

from workorders.agents.base import (
    RESULT_CHARACTERS,
    SUMMARY_CHARACTERS,
    TRUNCATION_MARK,
    AgentEvent,
    AgentEventKind,
    ReportedResult,
    clean_text,
)
from workorders.agents.claude_code.cut_json import fields_of_cut_object

_FIELD_CHARACTERS = 1000
_DATA_CHARACTERS = 4000
_EXCERPT_CHARACTERS = 200
_PLAIN_CHARACTERS = 2000
_CREDENTIAL_REFUSED = 401
_LARGEST_COUNT = 10**15
_KNOWN_TOOL_NAMES = 2000
_RESULTS_SHOWN = 5
_OBJECT = re.compile(rb"[ \t\r]*\{")
_LINE_OF_OBJECT = re.compile(rb"\n[ \t\r]*\{")
_RESULT = b'"result"'

# Carry nothing a reader of the run would miss: single characters, keep-alives, control traffic.
_IGNORED_TYPES = frozenset(
    {"stream_event", "keep_alive", "ping", "control_request", "control_response", "control_cancel_request"}
)

# The one input that says best what a tool call does, by tool; others show their first text input.
_TELLING_INPUT = {
    "Bash": "command",
    "Read": "file_path",
    "Write": "file_path",
    "Edit": "file_path",
    "NotebookEdit": "notebook_path",
    "Glob": "pattern",
    "Grep": "pattern",
    "WebFetch": "url",
    "WebSearch": "query",
    "Task": "description",
    "Skill": "skill",
}

Json = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """`line_bytes` is also the most that is ever buffered; counts are per run.

    After `unreadable_events` only lines that begin an object are read, and after `events` only what may be a result.
    """

    line_bytes: int = 8 * 1024 * 1024
    events: int = 5000
    unreadable_events: int = 50


@dataclass
class ResponseParser:
    """Feed it chunks as they come, then `finish()` once; the events do not depend on how bytes were cut.

    `result` is the last result line seen, `session_id` what the agent called its session, `only_retrying`
    whether nothing but API retries came since the last progress, `limit_resets_at` when (epoch seconds) the usage
    limit it last ran into ends, `ends_cut` whether the last line that was read was too long to be kept. `plain_words`:
    the last it said outside of its own stream, or in an answer of its own making where the model gave none;
    `reported_success`: any result so far said that all went well; `refused_retries`: how often in a row it reported
    nothing but that the credential is refused; `model_words`: what the model itself said last.
    """

    limits: Limits = field(default_factory=Limits)
    result: ReportedResult | None = None
    session_id: str = ""
    tool_calls: int = 0
    only_retrying: bool = False
    last_retry_status: int | None = None
    limit_resets_at: float | None = None
    truncated: bool = False
    ends_cut: bool = False
    plain_words: str = ""
    reported_success: bool = False
    refused_retries: int = 0
    model_words: str = ""
    _line: bytearray = field(default_factory=bytearray)
    _line_bytes: int = 0
    _events: int = 0
    _unreadable: int = 0
    _results_shown: int = 0
    _tool_names: dict[str, str] = field(default_factory=dict)

    def feed(self, chunk: bytes) -> list[AgentEvent]:
        """The events completed by this chunk."""
        events: list[AgentEvent] = []
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._append(chunk, start, end)
            events += self._end_line()
            start = self._pass_over(chunk, end + 1)
        self._append(chunk, start, len(chunk))
        return events

    def finish(self) -> list[AgentEvent]:
        """What the end of the output completes: a last line without a newline."""
        return self._end_line()

    def _pass_over(self, chunk: bytes, start: int) -> int:
        """Where the next line that may matter begins, or the one that the chunk does not end."""
        if self._is_full:
            found = chunk.find(_RESULT, start)
        elif self._read_enough_garbage:
            is_there = chunk.find(b"{", start) >= 0  # far cheaper than the search for where it is
            line = _LINE_OF_OBJECT.search(chunk, start - 1) if is_there else None
            found = line.end() if line else -1
        else:
            return start
        return max(start, chunk.rfind(b"\n", start, found if found >= 0 else len(chunk)) + 1)

    @property
    def _is_full(self) -> bool:
        return self._events > self.limits.events

    @property
    def _read_enough_garbage(self) -> bool:
        return self._unreadable > self.limits.unreadable_events

    def _may_matter(self, line: bytes) -> bool:
        """The same for a line as `_pass_over` says for those of a chunk."""
        if self._is_full:
            return _RESULT in line
        return not self._read_enough_garbage or _OBJECT.match(line) is not None

    def _append(self, chunk: bytes, start: int, end: int) -> None:
        self._line_bytes += end - start
        room = self.limits.line_bytes - len(self._line)
        if room > 0:
            self._line += chunk[start : min(end, start + room)]

    def _end_line(self) -> list[AgentEvent]:
        line, length = bytes(self._line), self._line_bytes
        self._line, self._line_bytes = bytearray(), 0
        if not self._may_matter(line) or not line.strip():
            return []
        self.ends_cut = length > len(line)
        return self._admit(self._read_cut(line, length) if self.ends_cut else self._read(line))

    def _admit(self, events: Iterator[AgentEvent] | list[AgentEvent]) -> list[AgentEvent]:
        """The events that still fit; the first that does not is replaced by the announcement."""
        return [admitted for event in events if (admitted := self._admit_one(event)) is not None]

    def _admit_one(self, event: AgentEvent) -> AgentEvent | None:
        if event.kind is AgentEventKind.RESULT:
            self._results_shown += 1
            return event if self._results_shown <= _RESULTS_SHOWN else None
        self._events += 1
        if event.kind is AgentEventKind.UNREADABLE:
            self._unreadable += 1
            if self._read_enough_garbage and not self._is_full:
                return self._leave_out(announce=self._unreadable == self.limits.unreadable_events + 1)
        if self._is_full:
            return self._leave_out(announce=self._events == self.limits.events + 1)
        return event

    def _leave_out(self, *, announce: bool) -> AgentEvent | None:
        self.truncated = True
        if not announce:
            return None
        text = "The agent said more than is kept; the rest of it is left out."
        return AgentEvent(AgentEventKind.TRUNCATED, text, {"events": self._events})

    def _read_cut(self, head: bytes, length: int) -> list[AgentEvent]:
        """A line too long to be kept: its result as far as its beginning tells it, else only that it came."""
        self.truncated = True
        data = fields_of_cut_object(head.decode("utf-8", "replace")) if _OBJECT.match(head) else {}
        if data.get("type") == "result":
            return list(self._read_result(data, tells_outcome=_tells_outcome(data)))
        return [_too_long(head, length)]

    def _read(self, line: bytes) -> list[AgentEvent]:
        text = line.decode("utf-8", "replace")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):  # also numbers beyond Python's digit limit, and deep nesting
            self._note_plain(text)
            return [_unreadable("not JSON", text, len(line))]
        if not isinstance(data, dict):
            return [_unreadable("not an object", text, len(line))]
        kind = _text(data.get("type"), 100)
        if kind in _IGNORED_TYPES:
            return []
        reader = _READERS.get(kind, ResponseParser._read_other)
        events = list(reader(self, data))
        self._note_progress(events)
        return events

    def _note_plain(self, text: str) -> None:
        words = f"{self.plain_words}\n{clean_text(text, _PLAIN_CHARACTERS // 2).strip()}"
        self.plain_words = words[-_PLAIN_CHARACTERS:].strip("\n")

    def _note_progress(self, events: list[AgentEvent]) -> None:
        for event in events:
            if event.kind is AgentEventKind.API_RETRIED:
                self.only_retrying = True
            elif event.kind is not AgentEventKind.OTHER:
                self.only_retrying = False

    def _read_system(self, data: Json) -> Iterator[AgentEvent]:
        subtype = _text(data.get("subtype"), 100)
        if subtype == "init":
            self.session_id = _text(data.get("session_id"), 100)
            yield _session_started(data)
        elif subtype == "api_retry":
            self.last_retry_status = _status(data.get("error_status"))
            refused = self.last_retry_status == _CREDENTIAL_REFUSED
            self.refused_retries = (self.refused_retries if self.only_retrying else 0) + 1 if refused else 0
            yield _api_retried(data)
        else:
            yield from self._read_other(data)

    def _read_assistant(self, data: Json) -> Iterator[AgentEvent]:
        message = _object(data.get("message"))
        blocks = list(_blocks(message))
        words = "\n\n".join(
            clean_text(block["text"], SUMMARY_CHARACTERS)
            for block in blocks[:100]
            if block.get("type") == "text" and isinstance(block.get("text"), str) and block["text"].strip()
        )
        if isinstance(data.get("error"), str) or message.get("model") == "<synthetic>":
            self._note_plain(words)
        elif blocks:
            self.plain_words = ""  # the model has answered since
            self.model_words = words or self.model_words
        if words:
            fields = _present({"subagent_of": _text(data.get("parent_tool_use_id"), 100)})
            yield AgentEvent(AgentEventKind.MESSAGE, clean_text(words, SUMMARY_CHARACTERS), fields)
        for block in blocks:
            if block.get("type") in {"tool_use", "server_tool_use", "mcp_tool_use"}:
                yield self._tool_called(block)

    def _tool_called(self, block: Json) -> AgentEvent:
        self.tool_calls += 1
        name, identifier = _text(block.get("name"), 100) or "tool", _text(block.get("id"), 100)
        if len(self._tool_names) < _KNOWN_TOOL_NAMES:
            self._tool_names[identifier] = name
        arguments = _object(block.get("input"))
        told = _one_line(_telling_input(name, arguments))
        fields: dict[str, JsonValue] = {"tool": name, "tool_use_id": identifier, "input": _bounded(arguments)}
        summary = clean_text(f"{name}: {told}" if told else name, SUMMARY_CHARACTERS)
        return AgentEvent(AgentEventKind.TOOL_CALLED, summary, fields)

    def _read_user(self, data: Json) -> Iterator[AgentEvent]:
        for block in _blocks(_object(data.get("message"))):
            if block.get("type") == "tool_result":
                yield self._tool_finished(block)

    def _tool_finished(self, block: Json) -> AgentEvent:
        identifier = _text(block.get("tool_use_id"), 100)
        fields: dict[str, JsonValue] = {
            "tool": self._tool_names.pop(identifier, ""),
            "tool_use_id": identifier,
            "is_error": block.get("is_error") is True,
        }
        summary = clean_text(_content_text(block.get("content")), SUMMARY_CHARACTERS)
        return AgentEvent(AgentEventKind.TOOL_FINISHED, summary, fields)

    def _read_result(self, data: Json, *, tells_outcome: bool = True) -> Iterator[AgentEvent]:
        self.result = result = replace(_reported_result(data), tells_outcome=tells_outcome)
        self.reported_success = self.reported_success or (tells_outcome and result.is_success)
        fields: dict[str, JsonValue] = {
            "subtype": result.subtype,
            "is_error": result.is_error,
            "api_error_status": result.api_error_status,
            "turns": result.turns,
            "cost_usd": None if result.cost_usd is None else str(result.cost_usd),
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "permission_denials": result.permission_denials,
        }
        summary = clean_text(result.text or result.subtype, SUMMARY_CHARACTERS)
        yield AgentEvent(AgentEventKind.RESULT, summary, fields)

    def _read_rate_limit(self, data: Json) -> Iterator[AgentEvent]:
        """Comes whenever the account's limits change; only a rejection stops anything."""
        limits = _object(data.get("rate_limit_info"))
        rejected = _text(limits.get("status"), 50) == "rejected"
        self.limit_resets_at = float(_count(limits.get("resetsAt"))) or None if rejected else None
        yield from self._read_other(data)

    def _read_error(self, data: Json) -> Iterator[AgentEvent]:
        """An error of the model's API as it came, by a program that passes it on."""
        error = data.get("error")
        told = _object(error).get("message") if isinstance(error, dict) else error or data.get("message")
        self._note_plain(_text(told, _FIELD_CHARACTERS))
        yield from self._read_other(data)

    def _read_other(self, data: Json) -> Iterator[AgentEvent]:
        name = _text(data.get("type"), 100) or "unnamed"
        subtype = _text(data.get("subtype"), 100)
        fields: dict[str, JsonValue] = {"type": name, "subtype": subtype, "data": _bounded(_detail(data))}
        yield AgentEvent(AgentEventKind.OTHER, f"{name}/{subtype}" if subtype else name, fields)


_READERS: Mapping[str, Callable[[ResponseParser, Json], Iterator[AgentEvent]]] = {
    "system": ResponseParser._read_system,
    "assistant": ResponseParser._read_assistant,
    "user": ResponseParser._read_user,
    "result": ResponseParser._read_result,
    "rate_limit_event": ResponseParser._read_rate_limit,
    "error": ResponseParser._read_error,
}


def _too_long(head: bytes, length: int) -> AgentEvent:
    excerpt = head[: _EXCERPT_CHARACTERS * 4].decode("utf-8", "replace")
    return _unreadable("line too long", excerpt, length, cut=True)


def _unreadable(why: str, text: str, length: int, *, cut: bool = False) -> AgentEvent:
    shown = clean_text(text, _EXCERPT_CHARACTERS)
    if cut and not shown.endswith(TRUNCATION_MARK):
        shown += TRUNCATION_MARK
    fields: dict[str, JsonValue] = {"reason": why, "bytes": length}
    return AgentEvent(AgentEventKind.UNREADABLE, f"{why} ({length:,} bytes): {shown}", fields)


def _session_started(data: Json) -> AgentEvent:
    tools, servers = data.get("tools"), data.get("mcp_servers")
    model = _text(data.get("model"), 200)
    fields: dict[str, JsonValue] = {
        "session_id": _text(data.get("session_id"), 100),
        "model": model,
        "tools": [_text(name, 100) for name in tools[:200]] if isinstance(tools, list) else [],
        "mcp_servers": len(servers) if isinstance(servers, list) else 0,
        "permission_mode": _text(data.get("permissionMode"), 100),
        "version": _text(data.get("claude_code_version"), 100),
    }
    return AgentEvent(AgentEventKind.SESSION_STARTED, f"Session started with {model or 'no model'}", fields)


def _api_retried(data: Json) -> AgentEvent:
    status, error = _status(data.get("error_status")), _text(data.get("error"), 200)
    attempt, most = _count(data.get("attempt")), _count(data.get("max_retries"))
    fields: dict[str, JsonValue] = {
        "attempt": attempt,
        "max_retries": most,
        "error_status": status,
        "error": error,
        "retry_delay_ms": _count(data.get("retry_delay_ms")),
    }
    summary = f"The model's API failed ({status or error or 'no answer'}); attempt {attempt} of {most}"
    return AgentEvent(AgentEventKind.API_RETRIED, summary, fields)


def _reported_result(data: Json) -> ReportedResult:
    usage = _usage(data)
    denials = data.get("permission_denials")
    return ReportedResult(
        subtype=_text(data.get("subtype"), 100),
        is_error=data.get("is_error") is not False,  # a result that does not say it went well did not
        text=_result_text(data),
        session_id=_text(data.get("session_id"), 100),
        api_error_status=_status(data.get("api_error_status")),
        cost_usd=_money(data.get("total_cost_usd")),
        input_tokens=usage["input"] + usage["cache_read"] + usage["cache_creation"],
        output_tokens=usage["output"],
        cache_read_tokens=usage["cache_read"],
        cache_creation_tokens=usage["cache_creation"],
        turns=_count(data.get("num_turns")),
        permission_denials=len(denials) if isinstance(denials, list) else 0,
    )


def _tells_outcome(data: Json) -> bool:
    """Whether the fields that were kept say how it went; good is what neither of two leaves open."""
    is_error = data.get("is_error")
    return is_error is True or (is_error is False and isinstance(data.get("subtype"), str))


def _usage(data: Json) -> dict[str, int]:
    """Tokens by kind. `modelUsage` is complete where `usage` leaves out subagents and runs cut short."""
    models = [_object(item) for item in list(_object(data.get("modelUsage")).values())[:50]]
    if models:
        names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    else:
        models = [_object(data.get("usage"))]
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    kinds = ("input", "output", "cache_read", "cache_creation")
    return {
        kind: sum(_count(item.get(name)) for item in models) for kind, name in zip(kinds, names, strict=True)
    }


def _result_text(data: Json) -> str:
    errors = data.get("errors")
    words = [data.get("result"), *(errors[:10] if isinstance(errors, list) else [])]
    said = [clean_text(word, RESULT_CHARACTERS) for word in words if isinstance(word, str)]
    return clean_text("\n".join(word for word in said if word), RESULT_CHARACTERS)


def _blocks(message: Json) -> Iterator[Json]:
    content = message.get("content")
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, list):
        yield from (block for block in content if isinstance(block, dict))


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = (block for block in content[:100] if isinstance(block, dict))
    words = [block.get("text", f"[{_text(block.get('type'), 50)}]") for block in blocks]
    return "\n".join(word for word in words if isinstance(word, str))


def _telling_input(name: str, arguments: Json) -> str:
    preferred = arguments.get(_TELLING_INPUT.get(name, ""))
    if isinstance(preferred, str):
        return preferred
    return next((value for value in arguments.values() if isinstance(value, str)), "")


def _one_line(text: str) -> str:
    lines = clean_text(text, SUMMARY_CHARACTERS).strip().splitlines()
    return f"{lines[0]} …" if len(lines) > 1 else "".join(lines)


def _detail(data: Json) -> Json:
    return {key: value for key, value in data.items() if key not in {"type", "subtype", "uuid", "session_id"}}


def _bounded(value: Json) -> JsonValue:
    """A copy small enough to keep, or an excerpt of one that is not."""
    copy = _copied(value, depth=3)
    text = json.dumps(copy, ensure_ascii=False)
    return copy if len(text) <= _DATA_CHARACTERS else {"truncated": clean_text(text, _FIELD_CHARACTERS)}


def _copied(value: object, depth: int) -> JsonValue:
    """Short texts, few items, few levels."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return max(-_LARGEST_COUNT, min(value, _LARGEST_COUNT))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return clean_text(value, _FIELD_CHARACTERS)
    if depth == 0:
        return TRUNCATION_MARK.strip()
    if isinstance(value, list):
        return [_copied(item, depth - 1) for item in value[:10]]
    if isinstance(value, dict):
        items = list(value.items())[:10]
        return {clean_text(str(key), 100): _copied(item, depth - 1) for key, item in items}
    return None


def _present(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in fields.items() if value}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: object, limit: int) -> str:
    return clean_text(value, limit) if isinstance(value, str) else ""


def _count(value: object) -> int:
    """A number an agent may report as a count, forced into a range any database holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    return max(0, min(int(value), _LARGEST_COUNT))


def _status(value: object) -> int | None:
    number = _count(value)
    return number if 100 <= number <= 599 else None


def _money(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value < 1_000_000:  # also not a number
        return None
    return Decimal(repr(round(float(value), 6)))
