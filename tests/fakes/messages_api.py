"""A scripted Anthropic Messages API on loopback, for the real Claude Code CLI in tests.

A script is a function of the request and the number of the call. It must know nothing of the product beyond
the words of `.claude/commands/*.md`, by which `work_order_script` recognises the phase.
"""

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.fakes.lost_clients import ForgivesLostClients

Block = dict[str, Any]
Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An assistant turn; it ends with `tool_use` where a block asks for a tool.

    `delay_seconds` pass before it begins, `pause_seconds` between a stream's first event and the rest. `breaks_with`:
    an error that a stream ends in after its first event, though its status was 200.
    """

    blocks: Sequence[Block]
    delay_seconds: float = 0.0
    pause_seconds: float = 0.0
    input_tokens: int = 100
    output_tokens: int = 20
    breaks_with: "Refusal | None" = None


@dataclass(frozen=True)
class Refusal:
    """An error answer, in the shape the API documents."""

    status: int
    error_type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def error(self) -> Json:
        return {"type": self.error_type, "message": self.message}


Script = Callable[[Json, int], Reply | Refusal]


@dataclass(frozen=True)
class RecordedRequest:
    """What the CLI sent. Header names are lower case; `body` is empty for anything but JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def bash(command: str, description: str = "Run a command") -> Block:
    return tool("Bash", {"command": command, "description": description})


def tool(name: str, arguments: Json) -> Block:
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": name, "input": arguments}


def is_helper_call(request: Json) -> bool:
    """Whether this is one of the CLI's own small questions (titles, topics): they offer no tools."""
    return not request.get("tools")


def steps(*turns: Sequence[Block]) -> Script:
    """Each main call gets the next turn, by how many the conversation holds since its prompt."""

    def script(request: Json, _call: int) -> Reply | Refusal:
        if is_helper_call(request):
            return Reply([text('{"title": "Scripted run", "isNewTopic": false}')])
        return Reply(turns[min(turns_since_prompt(request), len(turns) - 1)])

    return script


def always(answer: Reply | Refusal) -> Script:
    return lambda _request, _call: answer


def message_text(message: Json) -> str:
    """The words of one message of a request; tool results are not words."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", "")) for block in content if block.get("type") == "text")


def turns_since_prompt(request: Json) -> int:
    """Assistant turns after the last user message that is a prompt and no tool result."""
    turns = 0
    for message in reversed(request.get("messages", [])):
        if message["role"] == "assistant":
            turns += 1
        elif _is_prompt(message):
            return turns
    return turns


def _is_prompt(message: Json) -> bool:
    if message.get("role") != "user":
        return False
    content = message.get("content", "")
    if isinstance(content, str):
        return True
    return not any(block.get("type") == "tool_result" for block in content)


def last_prompt(request: Json) -> str:
    prompts = [message_text(m) for m in request.get("messages", []) if _is_prompt(m)]
    return prompts[-1] if prompts else ""


_PHASE = re.compile(r"phase `(planning|implementing|testing)`")
_ORDER = re.compile(r"work order `([\w.-]+)`", re.IGNORECASE)


def work_order_script() -> Script:
    """Does each phase's work with Bash, as a well-behaved model would, and then says so."""

    def script(request: Json, _call: int) -> Reply | Refusal:
        if is_helper_call(request):
            return Reply([text('{"title": "Scripted work order", "isNewTopic": false}')])
        prompt = last_prompt(request)
        phase, order = _PHASE.search(prompt), _ORDER.search(prompt)
        if phase is None or order is None:
            return Reply([text("I found no phase in the prompt, so I did nothing.")])
        commands = _phase_commands(phase[1], order[1])
        done = turns_since_prompt(request)
        if done < len(commands):
            return Reply([text(f"Step {done + 1} of {phase[1]}."), bash(commands[done])])
        return Reply([text(f"The {phase[1]} phase of {order[1]} is done.")])

    return script


def _phase_commands(phase: str, order: str) -> list[str]:
    if phase == "planning":
        plan = f"specs/plan-{order}.md"
        return [
            f"mkdir -p specs && printf '# Scripted plan\\n\\n1. Write a line.\\n' > {plan}",
            f"git add {plan} && git commit -q -m 'Plan {order}' && git log -1 --format=%s",
        ]
    if phase == "implementing":
        return [
            f"ls specs 2>/dev/null; printf 'built by %s\\n' {order} >> scripted-change.txt",
            "git add scripted-change.txt && git commit -q -m 'Add the change' && git log -1 --format=%s",
        ]
    results = {
        "passed": 1,
        "failed": 0,
        "tests": [{"name": "scripted::check", "status": "passed", "duration_seconds": 0.01}],
        "command": "scripted",
        "summary": "1 passed",
    }
    return [
        f"cat > test_results.json <<'JSON'\n{json.dumps(results, indent=2)}\nJSON",
        "git add test_results.json && git commit -q --allow-empty -m 'Record the test results' "
        "&& git log -1 --format=%s",
    ]


class MessagesApi:
    """Context manager; `url` goes into ANTHROPIC_BASE_URL, `requests` is what was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._lock = threading.Lock()
        self._calls = 0
        self.requests: list[RecordedRequest] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def main_calls(self) -> list[RecordedRequest]:
        """The calls of the agent itself, without the CLI's helper questions."""
        return [r for r in self.requests if _is_messages(r) and not is_helper_call(r.body)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def record(self, request: RecordedRequest) -> None:
        with self._lock:
            self.requests.append(request)

    def answer(self, body: Json) -> Reply | Refusal:
        with self._lock:
            call = self._calls
            self._calls += 1
        return self.script(body, call)


def _is_messages(request: RecordedRequest) -> bool:
    return request.method == "POST" and request.path.partition("?")[0] == "/v1/messages"


class _Server(ForgivesLostClients, ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: MessagesApi


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the kernel would hold each answer's second piece back for 40 ms
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # quiet; the name is the base class's
        return

    def do_GET(self) -> None:
        self._note({})
        self._send_json(200, {"data": [], "has_more": False})

    def do_HEAD(self) -> None:
        self._note({})
        self._send(200, "application/json", b"")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        body = body if isinstance(body, dict) else {}
        self._note(body)
        path = self.path.partition("?")[0]
        if path == "/v1/messages/count_tokens":
            self._send_json(200, {"input_tokens": 100})
        elif path == "/v1/messages":
            self._answer(body)
        else:
            self._send_json(200, {})

    def _note(self, body: Json) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.api.record(RecordedRequest(self.command, self.path, headers, body))

    def _answer(self, body: Json) -> None:
        answer = self.server.api.answer(body)
        if isinstance(answer, Refusal):
            self._send_json(answer.status, {"type": "error", "error": answer.error}, answer.headers)
            return
        if answer.delay_seconds:
            self.server.api.closing.wait(answer.delay_seconds)
        if body.get("stream"):
            opening, *rest = _server_sent_events(body, answer)
            self._send(200, "text/event-stream", opening, b"".join(rest), pause_seconds=answer.pause_seconds)
        else:
            self._send_json(200, _message(body, answer))

    def _send_json(self, status: int, body: Json, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers=headers)

    def _send(
        self,
        status: int,
        content_type: str,
        *parts: bytes,
        headers: Mapping[str, str] | None = None,
        pause_seconds: float = 0.0,
    ) -> None:
        try:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(sum(map(len, parts))))
            self.send_header("request-id", "req_scripted")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            for number, part in enumerate(parts):
                if number and pause_seconds:
                    self.server.api.closing.wait(pause_seconds)
                self.wfile.write(part)
        except ConnectionError:  # the CLI was ended; nobody reads the answer
            self.close_connection = True


def _message(body: Json, reply: Reply) -> Json:
    """The answer; its id is new each time, since the CLI merges messages of one id into one turn."""
    asks = any(block["type"] == "tool_use" for block in reply.blocks)
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "scripted"),
        "content": list(reply.blocks),
        "stop_reason": "tool_use" if asks else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "cache_read_input_tokens": 7,
            "cache_creation_input_tokens": 5,
        },
    }


def _server_sent_events(body: Json, reply: Reply) -> Iterator[bytes]:
    message = _message(body, reply)
    opening = {**message, "content": [], "stop_reason": None}
    yield _event("message_start", {"message": opening})
    if reply.breaks_with:
        yield _event("error", {"error": reply.breaks_with.error})
        return
    for index, block in enumerate(reply.blocks):
        if block["type"] == "tool_use":
            empty: Json = {**block, "input": {}}
            delta: Json = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        else:
            empty = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        yield _event("content_block_start", {"index": index, "content_block": empty})
        yield _event("content_block_delta", {"index": index, "delta": delta})
        yield _event("content_block_stop", {"index": index})
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", {"delta": ending, "usage": {"output_tokens": reply.output_tokens}})
    yield _event("message_stop", {})


def _event(name: str, data: Json) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
