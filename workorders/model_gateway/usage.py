"""Reads from the model's answers what they cost in tokens, and that they are errors. Pure and incremental.

The bytes are passed on elsewhere; here they are only looked at. Memory stays within one line of a stream, or one
JSON answer, up to `LINE_BYTES`; what is larger is counted by its size.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from workorders.model_gateway.stream_errors import status_of_error

LINE_BYTES = 32 * 1024 * 1024
_BYTES_A_TOKEN = 4  # a rough measure, for answers that were cut off before they said what they cost
_LARGEST_COUNT = 10**12
Json = dict[str, Any]


@dataclass(frozen=True)
class Usage:
    """Tokens by what they are billed as; `input` are those neither written to nor read from the cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    web_searches: int = 0

    @property
    def all_input(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h

    def __add__(self, other: "Usage") -> "Usage":
        return self._with(other, lambda mine, its: mine + its)

    def __sub__(self, other: "Usage") -> "Usage":
        return self._with(other, lambda mine, its: max(0, mine - its))

    def _with(self, other: "Usage", join: Callable[[int, int], int]) -> "Usage":
        names = [item.name for item in fields(self)]
        return Usage(**{name: join(getattr(self, name), getattr(other, name)) for name in names})


@dataclass
class UsageReader:
    """Feed it an answer's chunks; `usage` is what the answer has said so far.

    `finished`: the answer has said its last word on tokens. `estimated`: output was seen for which no count came.
    `error_status`: the status that an error inside the answer stands for; None where there was none.
    """

    streaming: bool
    model: str = ""
    fast: bool = False
    finished: bool = False
    error_status: int | None = None
    _usage: Usage = field(default_factory=Usage)
    _seen_bytes: int = 0
    _line: bytearray = field(default_factory=bytearray)
    _overlong: bool = False

    @property
    def estimated(self) -> bool:
        return not self.finished and self._seen_bytes > 0

    @property
    def usage(self) -> Usage:
        """Until the answer is finished, its output by size: who hangs up early has still been served."""
        if self.finished:
            return self._usage
        estimate = self._seen_bytes // _BYTES_A_TOKEN
        return replace(self._usage, output=max(self._usage.output, estimate))

    def feed(self, chunk: bytes) -> None:
        if not self.streaming:
            self._keep(chunk)
            return
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk[start:end])
            self._end_line()
            start = end + 1
        self._keep(chunk[start:])

    def end(self) -> None:
        """The answer is complete."""
        if self.streaming:
            self._end_line()
        elif (message := _parse(bytes(self._line))) is not None:
            self._read_message(message)
            self.finished = self.finished or "usage" in message
            self.error_status = status_of_error(message)

    def _keep(self, data: bytes) -> None:
        if len(self._line) + len(data) > LINE_BYTES:
            self._overlong = True
            self._seen_bytes += len(data)
        else:
            self._line += data

    def _end_line(self) -> None:
        line, overlong = bytes(self._line), self._overlong
        self._line.clear()
        self._overlong = False
        if overlong or not line.startswith(b"data:"):
            return
        event = _parse(line[5:])
        if event is None:
            return
        match event.get("type"):
            case "message_start":
                self._read_message(_object(event.get("message")))
            case "content_block_delta":
                self._seen_bytes += sum(
                    len(text) for text in _object(event.get("delta")).values() if isinstance(text, str)
                )
            case "message_delta":
                self._read_usage(_object(event.get("usage")))
                self.finished = True
            case "error":
                self.error_status = status_of_error(event)

    def _read_message(self, message: Json) -> None:
        if isinstance(message.get("model"), str):
            self.model = message["model"][:200]
        self._read_usage(_object(message.get("usage")))

    def _read_usage(self, usage: Json) -> None:
        """Counts are totals so far; a later event may leave out what an earlier one said."""
        known = self._usage
        written = _count(usage.get("cache_creation_input_tokens"), known.cache_write + known.cache_write_1h)
        hourly = _object(usage.get("cache_creation")).get("ephemeral_1h_input_tokens")
        for_an_hour = min(_count(hourly, known.cache_write_1h), written)
        self._usage = Usage(
            input=_count(usage.get("input_tokens"), known.input),
            output=_count(usage.get("output_tokens"), known.output),
            cache_read=_count(usage.get("cache_read_input_tokens"), known.cache_read),
            cache_write=written - for_an_hour,
            cache_write_1h=for_an_hour,
            web_searches=_count(
                _object(usage.get("server_tool_use")).get("web_search_requests"), known.web_searches
            ),
        )
        self.fast = self.fast or usage.get("speed") == "fast"


def _parse(data: bytes) -> Json | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _count(value: object, known: int) -> int:
    """A provider's number; the larger of what was said counts, so that nobody's zero takes away what was billed."""
    if isinstance(value, bool) or not isinstance(value, int):
        return known
    return max(known, min(value, _LARGEST_COUNT))
