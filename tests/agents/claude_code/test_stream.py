"""The stream-json parser: every event of the real CLI, and everything a hostile agent may write instead."""

import json
import tracemalloc
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workorders.agents.base import (
    SUMMARY_CHARACTERS,
    TRUNCATION_MARK,
    AgentEvent,
    AgentEventKind,
    clean_text,
)
from workorders.agents.claude_code.stream import Limits, ResponseParser

Kind = AgentEventKind


def lines(*events: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def parse(data: bytes, limits: Limits | None = None) -> tuple[list[AgentEvent], ResponseParser]:
    return parse_chunks([data], limits)


def parse_chunks(
    chunks: Iterable[bytes], limits: Limits | None = None
) -> tuple[list[AgentEvent], ResponseParser]:
    parser = ResponseParser(limits or Limits())
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish(), parser


def assistant(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"role": "assistant", "content": list(blocks)}, **more}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def tool_use(name: str, arguments: Any, identifier: str = "t1") -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": name, "input": arguments}


INIT = {
    "type": "system",
    "subtype": "init",
    "session_id": "5f0c6b8e-3f5b-4b39-8b7c-0d7f6f0b6a11",
    "model": "claude-sonnet-5",
    "tools": ["Bash", "Read"],
    "mcp_servers": [],
    "permissionMode": "bypassPermissions",
    "claude_code_version": "2.1.197",
}
RESULT = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "api_error_status": None,
    "num_turns": 2,
    "result": "done",
    "session_id": "5f0c6b8e-3f5b-4b39-8b7c-0d7f6f0b6a11",
    "total_cost_usd": 0.0012417,
    "usage": {
        "input_tokens": 200,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 14,
        "output_tokens": 40,
    },
    "permission_denials": [],
}


def test_the_session_starts() -> None:
    [event], parser = parse(lines(INIT))
    assert event.kind is Kind.SESSION_STARTED
    assert event.fields["model"] == "claude-sonnet-5"
    assert event.fields["tools"] == ["Bash", "Read"]
    assert event.fields["permission_mode"] == "bypassPermissions"
    assert parser.session_id == INIT["session_id"]


def test_one_message_event_for_all_text_of_a_message_and_one_for_each_tool() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hidden"},
        text("First."),
        text("Second."),
        tool_use("Bash", {"command": "make\ntest", "description": "d"}),
        tool_use("Read", {"file_path": "/a/b.py", "limit": 3}, "t2"),
        tool_use("Strange", {"n": 1, "label": "hello"}, "t3"),
        tool_use("Bare", "no object", "t4"),
    ]
    events, parser = parse(lines(assistant(*blocks)))
    assert [(event.kind, event.summary) for event in events] == [
        (Kind.MESSAGE, "First.\n\nSecond."),
        (Kind.TOOL_CALLED, "Bash: make …"),
        (Kind.TOOL_CALLED, "Read: /a/b.py"),
        (Kind.TOOL_CALLED, "Strange: hello"),
        (Kind.TOOL_CALLED, "Bare"),
    ]
    assert events[1].fields["input"] == {"command": "make\ntest", "description": "d"}
    assert parser.tool_calls == 4


def test_a_tool_result_names_its_tool() -> None:
    answer = {"type": "tool_result", "tool_use_id": "t1", "content": "out", "is_error": True}
    events, _ = parse(
        lines(
            assistant(tool_use("Bash", {"command": "ls"})),
            {"type": "user", "message": {"role": "user", "content": [answer, text("ignored")]}},
        )
    )
    assert events[1].kind is Kind.TOOL_FINISHED
    assert events[1].summary == "out"
    assert events[1].fields == {"tool": "Bash", "tool_use_id": "t1", "is_error": True}


def test_tool_results_in_blocks_show_their_text() -> None:
    content = [text("one"), {"type": "image", "source": {}}, text("two")]
    block = {"type": "tool_result", "tool_use_id": "x", "content": content}
    [event], _ = parse(lines({"type": "user", "message": {"content": [block]}}))
    assert event.summary == "one\n[image]\ntwo"


def test_the_result_is_reported_with_cached_tokens_counted_as_input() -> None:
    [event], parser = parse(lines(RESULT))
    assert event.kind is Kind.RESULT
    assert event.fields["cost_usd"] == "0.001242"
    result = parser.result
    assert result is not None
    assert (result.is_error, result.subtype, result.text, result.turns) == (False, "success", "done", 2)
    assert result.cost_usd == Decimal("0.001242")
    assert (result.input_tokens, result.output_tokens) == (224, 40)
    assert (result.cache_read_tokens, result.cache_creation_tokens) == (14, 10)


def test_model_usage_is_preferred_since_usage_is_empty_where_a_run_was_cut_short() -> None:
    one = {"inputTokens": 100, "outputTokens": 20, "cacheReadInputTokens": 7, "cacheCreationInputTokens": 5}
    _, parser = parse(lines({**RESULT, "usage": {}, "modelUsage": {"a": one, "b": one}}))
    assert parser.result is not None
    assert (parser.result.input_tokens, parser.result.output_tokens) == (224, 40)


def test_errors_of_a_result_are_its_words() -> None:
    data = {"type": "result", "subtype": "error_max_turns", "is_error": True, "errors": ["Reached maximum"]}
    [event], parser = parse(lines(data))
    assert event.summary == "Reached maximum"
    assert parser.result is not None
    assert parser.result.cost_usd is None


@pytest.mark.parametrize("claim", [None, "false", 0, True, {}])
def test_a_result_that_does_not_say_it_went_well_did_not(claim: object) -> None:
    _, parser = parse(lines({**RESULT, "is_error": claim}))
    assert parser.result is not None
    assert parser.result.is_error is True


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1, True, "1", 10**30, [], None])
def test_odd_numbers_of_a_result_do_no_harm(odd: object) -> None:
    data = {**RESULT, "num_turns": odd, "total_cost_usd": odd, "usage": {"input_tokens": odd}}
    _, parser = parse(lines(data))
    assert parser.result is not None
    assert 0 <= parser.result.turns <= 10**15
    assert 0 <= parser.result.input_tokens <= 10**15
    assert parser.result.cost_usd is None


def test_an_api_retry_is_no_progress_and_anything_said_is() -> None:
    retry = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 1,
        "max_retries": 10,
        "retry_delay_ms": 561.56,
        "error_status": 529,
        "error": "overloaded",
    }
    status = {"type": "system", "subtype": "status", "status": "compacting"}
    events, parser = parse(lines(INIT, retry, status))
    assert [event.kind for event in events] == [Kind.SESSION_STARTED, Kind.API_RETRIED, Kind.OTHER]
    assert events[1].summary == "The model's API failed (529); attempt 1 of 10"
    assert parser.only_retrying
    assert parser.last_retry_status == 529
    parser.feed(lines(assistant(text("back"))))
    assert not parser.only_retrying


@pytest.mark.parametrize(
    "subtype", ["hook_response", "status", "compact_boundary", "task_started", "new_one"]
)
def test_other_system_events_keep_their_name(subtype: str) -> None:
    [event], _ = parse(lines({"type": "system", "subtype": subtype, "exit_code": 1, "uuid": "u"}))
    assert (event.kind, event.summary) == (Kind.OTHER, f"system/{subtype}")
    assert event.fields["data"] == {"exit_code": 1}


def test_unknown_types_are_kept_and_character_streaming_and_control_are_not() -> None:
    events, _ = parse(
        lines(
            {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}},
            {"type": "from_the_future"},
            {"no": "type"},
            {"type": "stream_event", "event": {}},
            {"type": "keep_alive"},
            {"type": "control_request"},
        )
    )
    assert [event.summary for event in events] == ["rate_limit_event", "from_the_future", "unnamed"]


def test_blank_lines_are_nothing_and_a_last_line_needs_no_newline() -> None:
    events, parser = parse(b"\n \r\n\n" + lines(INIT) + json.dumps(RESULT).encode())
    assert [event.kind for event in events] == [Kind.SESSION_STARTED, Kind.RESULT]
    assert parser.result is not None


@pytest.mark.parametrize(
    "line",
    [
        b"npm WARN deprecated",
        b'{"type":"result","subtype":"succ',
        b"[1, 2]",
        b"null",
        b"\xff\xfe\x00\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type":"result","num_turns":' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_event_is_unreadable_and_visible(line: bytes) -> None:
    [event], parser = parse(line + b"\n")
    assert event.kind is Kind.UNREADABLE
    assert event.fields["bytes"] == len(line)
    assert len(event.summary) < 300
    assert parser.result is None


def test_an_endless_line_is_cut_with_a_mark_and_the_next_line_is_read() -> None:
    limit = 1000
    data = b'{"type":"x","text":"' + b"y" * 5000 + b'"}\n' + lines(RESULT)
    events, parser = parse(data, Limits(line_bytes=limit))
    assert events[0].kind is Kind.UNREADABLE
    assert events[0].summary.endswith(TRUNCATION_MARK)
    assert events[0].fields["bytes"] == 5022
    assert parser.truncated
    assert parser.result is not None


def test_a_line_of_exactly_the_limit_is_read() -> None:
    line = json.dumps(RESULT).encode()
    _, parser = parse(line + b"\n", Limits(line_bytes=len(line)))
    assert parser.result is not None
    assert not parser.truncated
    _, parser = parse(line + b"\n", Limits(line_bytes=len(line) - 1))
    assert parser.truncated


CUT = Limits(line_bytes=1000)


def test_a_result_too_long_to_keep_counts_where_its_beginning_says_how_it_went() -> None:
    begun = (
        b'{"type":"result","subtype":"success","is_error":%s,"num_turns":3,"result":"gr\\u00fc\xc3\x9fe'
        + b"y" * 980
    )
    [event], parser = parse(begun % b"false" + b'","session_id":"s"}\n', CUT)
    assert event.kind is Kind.RESULT
    assert event.summary.startswith("grüßeyyy")
    assert event.summary.endswith(TRUNCATION_MARK)
    assert parser.truncated
    assert parser.ends_cut
    assert parser.result is not None
    assert (parser.result.is_error, parser.result.tells_outcome, parser.result.turns) == (False, True, 3)
    _, parser = parse(begun % b"true" + b'"}\n', CUT)
    assert parser.result is not None
    assert (parser.result.is_error, parser.result.tells_outcome) == (True, True)


@pytest.mark.parametrize(
    "before",
    [
        b'"subtype":"success",',
        b'"is_error":false,',
        b'"subtype":"success","is_error":null,',
        b'"subtype":"success","usage":{"is_error":false},',
        b'"subtype":"success","x":"\\",\\"is_error\\":false,",',
    ],
)
def test_a_result_too_long_to_keep_is_no_good_one_where_its_end_would_have_to_say_so(before: bytes) -> None:
    line = b'{"type":"result",' + before + b'"result":"' + b"y" * 2000 + b'","is_error":false}'
    _, parser = parse(line + b"\n", CUT)
    assert parser.result is not None
    assert (parser.result.is_error or parser.result.subtype == "", parser.result.tells_outcome) == (
        True,
        False,
    )


@pytest.mark.parametrize(
    "line",
    [
        b'{"result":"' + b"y" * 2000 + b'","type":"result","is_error":false}',
        b'{"message":{"type":"result","is_error":false,"x":"' + b"y" * 2000 + b'"}}',
        b'{"type":"result' + b"y" * 2000 + b'"}',
        b'{"type":"result"' + b" " * 2000 + b"}",
        b'{"type":"result"}' + b" " * 2000 + b"garbage",
        b'["type":"result","is_error":false,' + b"1" * 2000 + b"]",
        b'{"a":' * 2000,
        b"{" * 2000,
        b'{"a":' + b"1" * 2000,
    ],
)
def test_what_does_not_begin_as_a_result_is_none(line: bytes) -> None:
    [event], parser = parse(line + b"\n", CUT)
    assert event.kind is Kind.UNREADABLE
    assert parser.result is None
    assert parser.ends_cut
    _, parser = parse(line + b"\n" + lines(INIT) + b"\n", CUT)
    assert not parser.ends_cut


@pytest.mark.parametrize(
    "garbage", [b"y\n", b"y{}\n", b'"a text"\n', b"{\n", b'  {\n "key": 1\n },\n', b"{}\n"]
)
def test_lines_that_can_be_no_event_are_passed_over_together(
    garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes of them are counted in chunks, not in lines."""
    looked_at = 0
    end_line = ResponseParser._end_line

    def counting(parser: ResponseParser) -> list[AgentEvent]:
        nonlocal looked_at
        looked_at += 1
        return end_line(parser)

    monkeypatch.setattr(ResponseParser, "_end_line", counting)
    chunk = garbage * (60_000 // len(garbage))
    limits = Limits(events=100, unreadable_events=5)
    events, parser = parse_chunks([chunk] * 50 + [b"y\n" + lines(RESULT) + chunk] + [chunk] * 50, limits)
    assert looked_at < 500
    assert parser.result is not None
    assert len(events) < 110


def test_events_between_garbage_are_read() -> None:
    chunk = b"garbage\n" * 1000
    data = (
        chunk + lines(INIT) + chunk + b" \r" + lines(assistant(text("hello"))) + chunk + lines(RESULT) + chunk
    )
    for cut in (len(data), 4096, 97):
        events, _ = parse_chunks([data[at : at + cut] for at in range(0, len(data), cut)])
        kinds = [event.kind for event in events if event.kind is not Kind.UNREADABLE]
        assert kinds == [Kind.TRUNCATED, Kind.SESSION_STARTED, Kind.MESSAGE, Kind.RESULT]


def test_memory_stays_bounded_whatever_comes() -> None:
    parser = ResponseParser(Limits(line_bytes=1024 * 1024))
    chunk = b"x" * 65536
    tracemalloc.start()
    try:
        for _ in range(800):  # 50 MB without a newline
            parser.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 1024 * 1024


def test_events_are_bounded_and_the_result_still_counts() -> None:
    data = lines(*[assistant(text(str(number))) for number in range(30)], RESULT)
    events, parser = parse(data, Limits(events=10))
    assert [event.kind for event in events] == [*[Kind.MESSAGE] * 10, Kind.TRUNCATED, Kind.RESULT]
    assert parser.truncated


def test_unreadable_lines_are_bounded_on_their_own() -> None:
    events, _ = parse(b"garbage\n" * 40 + lines(INIT), Limits(unreadable_events=5))
    assert [event.kind for event in events] == [
        *[Kind.UNREADABLE] * 5,
        Kind.TRUNCATED,
        Kind.SESSION_STARTED,
    ]


def test_a_flood_of_results_is_bounded() -> None:
    events, _ = parse(lines(*[RESULT] * 100))
    assert len(events) == 5


def test_stored_text_is_clean_and_bounded() -> None:
    nasty = "a\x00b\x1b[31mred\x1b[0m\x07\u202egnp\ud800\x9b" + "z" * 10_000
    block = {"type": "tool_result", "tool_use_id": "\x00t", "content": nasty}
    data = lines(
        assistant(text(nasty), tool_use("Bash\x00", {"command": nasty, "deep": [[[[[nasty] * 9] * 9]]]})),
        {"type": "user", "message": {"content": [block]}},
        {"type": "odd\x00", "payload": {f"key{n}": [nasty] * 50 for n in range(50)}},
        {**RESULT, "result": nasty * 10},
    )
    events, parser = parse(data)
    assert len(events) == 5
    for event in events:
        stored = event.summary + json.dumps(dict(event.fields), ensure_ascii=False)
        assert len(event.summary) <= SUMMARY_CHARACTERS
        assert len(stored) < SUMMARY_CHARACTERS + 6000
        stored.encode()
        assert not set(stored) & {"\x00", "\x1b", "\x07", "\u202e", "\x9b"}
    assert events[0].summary.startswith("abredgnp\ufffd")
    assert events[0].summary.endswith(TRUNCATION_MARK)
    assert parser.result is not None
    assert len(parser.result.text) <= 20_000


def test_clean_text_keeps_what_people_write() -> None:
    assert clean_text("Grüße\n\tשלום 👩‍👩‍👧", 100) == "Grüße\n\tשלום 👩‍👩‍👧"
    assert clean_text("a\r\nb", 100) == "a\nb"
    assert len(clean_text("x" * 50, 20)) == 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
TYPES = st.sampled_from(["system", "assistant", "user", "result", "stream_event", "other", ""])
EVENTS = st.builds(
    lambda kind, more: {**more, "type": kind},
    TYPES,
    st.dictionaries(
        st.sampled_from(["subtype", "message", "content", "result", "usage", "errors", "is_error"]), JSON
    ),
)
STREAMS = st.lists(
    st.one_of(
        EVENTS.map(lambda event: json.dumps(event).encode()),
        st.binary(max_size=60),
        st.just(json.dumps(assistant(text("grüße"), tool_use("Bash", {"command": "ls"}))).encode()),
        st.just(json.dumps(RESULT).encode()),
        st.sampled_from([b"y", b"  {", b'y{"result"}', b"{" + b"x" * 400, b"z" * 400]),
        st.just(json.dumps({**RESULT, "result": "y" * 400}).encode()),
    ),
    max_size=12,
).map(b"\n".join)


@settings(max_examples=150, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 2000), max_size=12))
def test_any_cutting_of_the_same_bytes_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    limits = Limits(line_bytes=300, events=6, unreadable_events=2)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[start:end] for start, end in pairwise(places)]
    whole, one = parse(data, limits)
    cut, other = parse_chunks(chunks, limits)
    single, third = parse_chunks([data[i : i + 1] for i in range(len(data))], limits)
    # repr, since a NaN the agent reported equals nothing, not even itself
    assert repr(whole) == repr(cut) == repr(single)
    assert repr(one.result) == repr(other.result) == repr(third.result)
    assert (
        (one.ends_cut, one.truncated)
        == (other.ends_cut, other.truncated)
        == (third.ends_cut, third.truncated)
    )


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000))
def test_arbitrary_bytes_never_crash_and_leave_storable_text(data: bytes) -> None:
    for event in parse(data)[0]:
        json.dumps(dict(event.fields), ensure_ascii=False).encode()
        event.summary.encode()


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_any_shape_of_a_known_type_is_read(event: dict[str, Any]) -> None:
    for found in parse(lines(event))[0]:
        json.dumps(dict(found.fields), ensure_ascii=False, allow_nan=False).encode()
