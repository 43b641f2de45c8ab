"""A stand-in for E2B that the real SDK talks to: the control API (REST), envd (Connect RPC with JSON), and `/files`.

Sandboxes are `tests.fakes.machine` machines: their processes live on between calls and end with the sandbox. Every
request is kept, so that a test can say what a provider would have seen in its logs. What differs from the service is
told in `docs/sandboxes.md`. `python -m tests.fakes.e2b` runs one by hand.
"""

import base64
import io
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit
from uuid import uuid4

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from e2b.envd.client_shared import ENVD_JSON_CODEC
from e2b.envd.process import process_pb as pb
from e2b.envd.process.process_connect import ProcessSync, ProcessWSGIApplication
from protobuf import Oneof

from tests.fakes.machine import Machine, Program, Template, remove

API_KEY = "e2b_0123456789abcdef0123456789abcdef01234567"
ENVD_VERSION = "0.6.9"
HOME = "/home/user"
Json = dict[str, Any]
Context = RequestContext[Any, Any]


@dataclass
class StandInSandbox:
    """One sandbox. `expires_at` counts on the clock that never jumps."""

    sandbox_id: str
    token: str
    created: Json
    folder: Path
    machine: Machine
    started_at: datetime
    expires_at: float
    programs: dict[int, Program] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.created.get("metadata") or {})

    def described(self) -> Json:
        ends = datetime.now(UTC) + timedelta(seconds=self.expires_at - time.monotonic())
        return {
            "templateID": self.created["templateID"],
            "alias": self.created["templateID"],
            "sandboxID": self.sandbox_id,
            "clientID": "stand-in",
            "startedAt": self.started_at.isoformat(),
            "endAt": ends.isoformat(),
            "cpuCount": 2,
            "memoryMB": 1024,
            "diskSizeMB": 10240,
            "state": "running",
            "envdVersion": ENVD_VERSION,
            "metadata": self.metadata,
        }


@dataclass(frozen=True)
class Seen:
    """One request as the service saw it."""

    method: str
    path: str
    sandbox_id: str
    body: bytes


class FakeE2B:
    """The service, on loopback. `templates` are the names it knows.

    Faults: `vanish` ends a sandbox as if its host died, `drop_streams` cuts every open output stream, `refuse` makes
    the next control requests answer with a status.
    """

    def __init__(
        self, *, template: Template | None = None, templates: Iterable[str] = ("work-orders",)
    ) -> None:
        self.templates = set(templates)
        self.template = template or Template()
        self.sandboxes: dict[str, StandInSandbox] = {}
        self.killed: list[str] = []
        self.seen: list[Seen] = []
        self.refuse: list[tuple[int, str]] = []
        self.streams_dropped = 0
        self.create_seconds = 0.0
        self._folder = Path(tempfile.mkdtemp(prefix="stand-in-e2b-"))
        self._keys: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(self)

    # --- life of the service ---

    def __enter__(self) -> Self:
        for work in (self._server.serve_forever, self._expire):
            threading.Thread(target=work, daemon=True, name="stand-in-e2b").start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        for sandbox_id in list(self.sandboxes):
            self.vanish(sandbox_id)
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"E2B_API_KEY": API_KEY, "E2B_API_URL": self.url, "E2B_SANDBOX_URL": self.url}

    def _expire(self) -> None:
        while not self._closing.wait(0.1):
            for sandbox in list(self.sandboxes.values()):
                if time.monotonic() > sandbox.expires_at:
                    self.vanish(sandbox.sandbox_id)

    # --- faults ---

    def vanish(self, sandbox_id: str) -> bool:
        with self._lock:
            sandbox = self.sandboxes.pop(sandbox_id, None)
        if sandbox is None:
            return False
        self.killed.append(sandbox_id)
        sandbox.machine.kill()
        remove(sandbox.folder)
        return True

    def drop_streams(self) -> None:
        self.streams_dropped += 1

    # --- control API ---

    def control(self, request: "_Request") -> tuple[int, Any]:
        if self.refuse:
            status, message = self.refuse.pop(0)
            return status, {"code": status, "message": message}
        if request.headers.get("X-API-KEY") != API_KEY:
            return 401, {"code": 401, "message": "Invalid API key"}
        parts = [unquote(part) for part in request.path.strip("/").split("/") if part != "v2"]
        match (request.method, parts):
            case "POST", ["sandboxes"]:
                return self._create(json.loads(request.body), request.headers.get("Idempotency-Key", ""))
            case "GET", ["sandboxes"]:
                return 200, self._listed(request.query)
            case (_, ["sandboxes", sandbox_id, *rest]) if sandbox_id in self.sandboxes:
                return self._one(request, self.sandboxes[sandbox_id], rest)
            case (_, ["sandboxes", sandbox_id, *_]):
                return 404, {"code": 404, "message": f"sandbox {sandbox_id!r} was not found"}
            case "GET", ["templates", "aliases", name] if name in self.templates:
                return 200, {"templateID": name, "public": False}
        return 404, {"code": 404, "message": "no such route"}

    def _create(self, asked: Json, key: str) -> tuple[int, Any]:
        if asked["templateID"] not in self.templates:
            return 404, {"code": 404, "message": f"template '{asked['templateID']}' not found"}
        time.sleep(self.create_seconds)
        known = self.sandboxes.get(self._keys.get(key, ""))
        return 201, self._answer(known or self._start(asked, key))

    def _start(self, asked: Json, key: str) -> StandInSandbox:
        sandbox_id = f"i{uuid4().hex[:19]}"
        folder = self._folder / sandbox_id
        (folder / "home").mkdir(parents=True)
        (folder / "hosts").write_text("127.0.0.1 localhost\n")
        environment = {"PATH": self.template.path, "HOME": HOME, "USER": "user", "LANG": "C.UTF-8"}
        environment |= asked.get("envVars") or {}
        places = {HOME: folder / "home", "/etc/hosts": folder / "hosts"}
        sandbox = StandInSandbox(
            sandbox_id,
            token=uuid4().hex,
            created=asked,
            folder=folder,
            machine=Machine(places, self.template, environment=environment),
            started_at=datetime.now(UTC),
            expires_at=time.monotonic() + asked.get("timeout", 300),
        )
        self.sandboxes[sandbox_id] = sandbox
        self._keys[key or sandbox_id] = sandbox_id
        return sandbox

    def _answer(self, sandbox: StandInSandbox) -> Json:
        return {
            "templateID": sandbox.created["templateID"],
            "sandboxID": sandbox.sandbox_id,
            "clientID": "stand-in",
            "envdVersion": ENVD_VERSION,
            "envdAccessToken": sandbox.token,
            "domain": None,
        }

    def _listed(self, query: dict[str, list[str]]) -> list[Json]:
        wanted = {unquote(k): unquote(v) for k, v in parse_qsl("".join(query.get("metadata", [])))}
        return [
            item.described()
            for item in list(self.sandboxes.values())
            if all(item.metadata.get(name) == value for name, value in wanted.items())
        ]

    def _one(self, request: "_Request", sandbox: StandInSandbox, rest: list[str]) -> tuple[int, Any]:
        match (request.method, rest):
            case "GET", []:
                return 200, sandbox.described()
            case "DELETE", []:
                self.vanish(sandbox.sandbox_id)
                return 204, None
            case "POST", ["connect"]:
                ends = time.monotonic() + json.loads(request.body).get("timeout", 300)
                sandbox.expires_at = max(sandbox.expires_at, ends)
                return 200, self._answer(sandbox)
            case "POST", ["timeout"]:
                sandbox.expires_at = time.monotonic() + json.loads(request.body)["timeout"]
                return 204, None
        return 404, {"code": 404, "message": "no such route"}

    # --- what runs inside: plain HTTP ---

    def inside(self, request: "_Request", sandbox: StandInSandbox) -> tuple[int, Any]:
        path = request.query.get("path", [""])[0]
        match (request.method, request.path):
            case "GET", "/health":
                return 204, None
            case "GET", "/files":
                code, out, err = sandbox.machine.run(["cat", "--", path])
                return (200, out) if code == 0 else (404, {"code": 404, "message": err.decode()})
            case "POST", "/files":
                written = []
                for name, content in _uploads(request, path):
                    script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
                    code, _out, err = sandbox.machine.run(["sh", "-c", script, "sh", name], stdin=content)
                    if code:
                        return 500, {"code": 500, "message": err.decode()}
                    written.append({"name": Path(name).name, "path": name, "type": "file"})
                return 200, written
        return 404, {"code": 404, "message": "no such route"}


class _Processes(ProcessSync):
    """envd's process service. A stream that nobody reads does not hold the program up; its output is then lost."""

    def __init__(self, service: FakeE2B) -> None:
        self._service = service

    def start(self, request: pb.StartRequest, ctx: Context, /) -> Iterator[pb.StartResponse]:
        sandbox, asked = self._sandbox(ctx), request.process
        assert asked is not None
        try:
            program = sandbox.machine.start(
                [asked.cmd, *asked.args], cwd=asked.cwd or HOME, env=dict(asked.envs)
            )
        except OSError:
            raise ConnectError(Code.UNAVAILABLE, "the sandbox was not found") from None
        program.stdin.close()
        sandbox.programs[program.pid] = program
        yield pb.StartResponse(event=_event("start", pb.ProcessEvent.StartEvent(pid=program.pid)))
        for event in self._events(sandbox, program):
            yield pb.StartResponse(event=event)

    def _events(self, sandbox: StandInSandbox, program: Program) -> Iterator[pb.ProcessEvent]:
        dropped = self._service.streams_dropped
        while True:
            try:
                chunk = program.output.get(timeout=0.05)
            except Exception:  # queue.Empty, which the simple queue's C version does not export
                if self._service.streams_dropped != dropped:
                    raise _Dropped from None
                continue
            if chunk is None:
                break
            output = Oneof(chunk[0], chunk[1])
            yield _event("data", pb.ProcessEvent.DataEvent(output=output))  # type: ignore[arg-type]  # one of two names
        try:
            code = program.exit_code.result(30)
        except ConnectionError:
            raise ConnectError(Code.UNAVAILABLE, f"sandbox {sandbox.sandbox_id} was not found") from None
        status = f"exit status {code}"
        yield _event("end", pb.ProcessEvent.EndEvent(exit_code=code, exited=code >= 0, status=status))

    def send_signal(self, request: pb.SendSignalRequest, ctx: Context, /) -> pb.SendSignalResponse:
        sandbox, selector = self._sandbox(ctx), request.process
        assert selector is not None
        assert selector.selector is not None
        pid = selector.selector.value
        if pid not in sandbox.programs:
            raise ConnectError(Code.NOT_FOUND, f"process {pid} not found")
        sandbox.machine.run(["kill", f"-{request.signal.value}", str(pid)])
        return pb.SendSignalResponse()

    def _sandbox(self, ctx: Context) -> StandInSandbox:
        sandbox_id = ctx.request_headers.get("e2b-sandbox-id") or ""
        return self._service.sandboxes[sandbox_id]


def _event(name: str, value: Any) -> pb.ProcessEvent:
    return pb.ProcessEvent(event=Oneof(name, value))  # type: ignore[arg-type]  # the name and the value belong together


class _Dropped(BaseException):
    """Cuts the connection in the middle of an answer."""


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: FakeE2B) -> None:
        self.service = service
        self.processes = ProcessWSGIApplication(_Processes(service), codecs=[ENVD_JSON_CODEC])
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are a part of the play."""
        if not isinstance(sys.exc_info()[1], OSError | _Dropped):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # the base class names it so
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        request = _Request(self.command, parts.path, parse_qs(parts.query), self.headers, self._body())
        service, sandbox_id = self.server.service, self.headers.get("E2b-Sandbox-Id", "")
        service.seen.append(Seen(self.command, self.path, sandbox_id, request.body))
        if not sandbox_id:
            self._answer(*service.control(request))
            return
        sandbox = service.sandboxes.get(sandbox_id)
        if sandbox is None:
            self._answer(502, {"code": 502, "message": f"The sandbox {sandbox_id} was not found"})
        elif self.headers.get("X-Access-Token") != sandbox.token and request.path != "/health":
            self._answer(401, {"code": 401, "message": "invalid access token"})
        elif request.path.startswith("/process.Process/"):
            self._connect(request)
        else:
            try:
                answer = service.inside(request, sandbox)
            except OSError:
                answer = 502, {"code": 502, "message": f"The sandbox {sandbox_id} was not found"}
            self._answer(*answer)

    do_GET = do_POST = do_DELETE = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _answer(self, status: int, content: Any) -> None:
        body = (
            content
            if isinstance(content, bytes)
            else b""
            if content is None
            else json.dumps(content).encode()
        )
        self.send_response(status)
        self.send_header(
            "Content-Type", "application/octet-stream" if body is content else "application/json"
        )
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _connect(self, request: _Request) -> None:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": request.path,
            "QUERY_STRING": "",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()},
        }

        def start_response(
            status: str, headers: list[tuple[str, str]], *_: object
        ) -> Callable[[bytes], None]:
            self.send_response(int(status.split()[0]))
            for name, value in headers:
                if name.lower() != "content-length":
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            return lambda _data: None

        try:
            for chunk in self.server.processes(environ, start_response):
                if chunk:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except _Dropped:
            self.close_connection = True
            self.connection.shutdown(2)


def _uploads(request: _Request, path: str) -> list[tuple[str, bytes]]:
    kind = request.headers.get("Content-Type", "")
    if not kind.startswith("multipart/form-data"):
        return [(path, request.body)]
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    found = []
    for part in request.body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = head.partition(b'filename="')[2].partition(b'"')[0].decode()
        found.append((path or name, content.removesuffix(b"\r\n")))
    return found


def basic_user(authorization: str) -> str:
    """The user an SDK asks to be, from its header."""
    return base64.b64decode(authorization.removeprefix("Basic ")).decode().rstrip(":")


if __name__ == "__main__":
    with FakeE2B() as service:
        for name, value in service.environment.items():
            print(f"export {name}={value}", flush=True)
        threading.Event().wait()
