"""Reading usage from answers, however their bytes are cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workorders.model_gateway.usage import LINE_BYTES, Usage, UsageReader

START = {
    "type": "message_start",
    "message": {
        "model": "claude-sonnet-5",
        "usage": {
            "input_tokens": 100,
            "output_tokens": 1,
            "cache_read_input_tokens": 7,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        },
    },
}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 400}}
END = {"type": "message_delta", "usage": {"output_tokens": 55, "server_tool_use": {"web_search_requests": 2}}}
FINAL = Usage(input=100, output=55, cache_read=7, cache_write=10, cache_write_1h=20, web_searches=2)


def stream(*events: dict[str, Any], newline: str = "\n") -> bytes:
    return "".join(f"event: {e['type']}{newline}data: {json.dumps(e)}{newline * 2}" for e in events).encode()


@given(st.lists(st.integers(0, 1000), max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_a_stream_is_read_however_it_is_cut(cuts: list[int], newline: str) -> None:
    data = stream(START, DELTA, END, {"type": "message_stop"}, newline=newline)
    reader, last = UsageReader(streaming=True), 0
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        reader.feed(data[last:cut])
        last = cut
    reader.end()
    assert (reader.model, reader.finished, reader.estimated) == ("claude-sonnet-5", True, False)
    assert reader.usage == FINAL


@given(st.binary(max_size=2000))
def test_rubbish_is_no_usage_and_no_error(data: bytes) -> None:
    for streaming in (True, False):
        reader = UsageReader(streaming=streaming)
        reader.feed(b"data: " + data if streaming else data)
        reader.end()
        assert reader.usage.input == 0


def test_who_hangs_up_early_has_still_been_served() -> None:
    reader = UsageReader(streaming=True)
    reader.feed(stream(START, DELTA, DELTA))
    assert reader.estimated
    assert reader.usage.input == 100
    assert reader.usage.output == (800 + 2 * len("text_delta")) // 4


def test_a_plain_answer() -> None:
    message = {**START["message"], "usage": {**START["message"]["usage"], "speed": "fast"}}  # type: ignore[index,dict-item]  # a test's literal
    reader = UsageReader(streaming=False)
    for byte in json.dumps(message).encode():
        reader.feed(bytes([byte]))
    assert not reader.finished
    reader.end()
    assert (reader.finished, reader.fast, reader.usage.output) == (True, True, 1)


def test_a_later_zero_takes_nothing_away() -> None:
    reader = UsageReader(streaming=True)
    zero = {
        "type": "message_delta",
        "usage": {"input_tokens": 0, "output_tokens": -5, "cache_read_input_tokens": None},
    }
    reader.feed(stream(START, zero))
    assert (reader.usage.input, reader.usage.output, reader.usage.cache_read) == (100, 1, 7)


def test_memory_stays_bounded() -> None:
    reader = UsageReader(streaming=True)
    for _ in range(3):
        reader.feed(b"x" * (LINE_BYTES // 2))
    assert len(reader._line) <= LINE_BYTES
    reader.feed(b"\n" + stream(START, END))
    assert reader.usage == FINAL


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"type": "billing_error", "message": "Account past due"}, 402),
        ({"type": "invalid_request_error", "message": "Your credit balance is too low"}, 402),
        ({"type": "permission_error", "message": "You have reached your spend limit"}, 402),
        ({"type": "insufficient_quota", "message": "You exceeded your current quota"}, 402),
        ({"type": "rate_limit_error", "message": "Slow down"}, 429),
        ({"type": "overloaded_error", "message": "Overloaded; not a billing matter"}, 529),
        ({"type": "authentication_error", "message": "invalid x-api-key"}, 401),
        ({"type": ["odd"], "message": None}, 500),
        ("in a proxy's words", 500),
        (None, 500),
    ],
)
def test_an_error_inside_an_answer_has_a_status_too(error: object, status: int) -> None:
    event = {"type": "error", "error": error}
    begun, bare, whole = (
        UsageReader(streaming=True),
        UsageReader(streaming=True),
        UsageReader(streaming=False),
    )
    begun.feed(stream(START, DELTA, event))
    bare.feed(f"data: {json.dumps(event)}".encode())
    whole.feed(json.dumps(event).encode())
    for reader in (begun, bare, whole):
        reader.end()
        assert reader.error_status == status
    assert begun.usage.input == 100, "what was served is counted"
    good = UsageReader(streaming=True)
    good.feed(stream(START, DELTA, END))
    assert good.error_status is None
