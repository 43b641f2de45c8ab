"""Bare repositories over smart HTTP on loopback, by the real `git http-backend`, behind a token.

Records every request, refuses wrong and read-only tokens, fails on demand, also after an accepted push. Repositories
made public can be read without a token. Each has Git LFS (`tests/fakes/lfs.py`).
"""

import base64
import binascii
import os
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self
from urllib.parse import urlsplit

from tests.fakes.lfs import FakeLfs
from tests.fakes.lost_clients import ForgivesLostClients

Access = Literal["write", "read"]
_CHUNK = 65536
_PATH = re.compile(
    r"/(?P<repository>[A-Za-z0-9-]+/[A-Za-z0-9_][A-Za-z0-9._-]*\.git)/(?:info/refs|git-(?:upload|receive)-pack)"
)


@dataclass(frozen=True)
class RecordedGitRequest:
    """`token` is the password that came; `service` is git-upload-pack or git-receive-pack."""

    method: str
    path: str
    service: str
    token: str
    status: int


@dataclass
class GitFault:
    """`execute`: git does the thing first. Then the connection is dropped, or the status answered."""

    path: re.Pattern[str]
    times: int = 1
    status: int = 503
    drop: bool = False
    execute: bool = False


@dataclass
class _State:
    root: Path
    tokens: dict[str, Access] = field(default_factory=dict)
    requests: list[RecordedGitRequest] = field(default_factory=list)
    faults: list[GitFault] = field(default_factory=list)
    public: set[str] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    lfs: FakeLfs = field(default_factory=FakeLfs)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_fault(self, path: str) -> GitFault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.path.search(path):
                    fault.times -= 1
                    return fault
        return None


class FakeGitServer:
    """Use as a context manager; serves `root`/owner/name.git as `base_url`/owner/name.git."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._state = _State(root)
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        self._server = _Server(("127.0.0.1", 0), self._state)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        assert self._server is not None, "enter the server first"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[RecordedGitRequest]:
        with self._state.lock:
            return list(self._state.requests)

    @property
    def lfs(self) -> FakeLfs:
        return self._state.lfs

    def make_public(self, owner: str, name: str) -> None:
        self._state.public.add(f"{owner}/{name}.git")

    def redirect(self, owner: str, name: str, address: str) -> None:
        """Requests for that repository are answered with 301 to the same path below `address`."""
        self._state.redirects[f"/{owner}/{name}.git/"] = address

    def add_token(self, token: str, access: Access = "write") -> None:
        self._state.tokens[token] = access

    def remove_token(self, token: str) -> None:
        self._state.tokens.pop(token, None)

    def fail(
        self, path: str, *, times: int = 1, status: int = 503, drop: bool = False, execute: bool = False
    ) -> GitFault:
        """Programs a fault for requests whose path matches the regular expression."""
        fault = GitFault(re.compile(path), times, status, drop, execute)
        self._state.faults.append(fault)
        return fault

    def create_repository(
        self,
        owner: str,
        name: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        default_branch: str = "main",
    ) -> Path:
        """A bare repository with one commit; its folder."""
        path = self.repository_path(owner, name)
        create_bare_repository(path, files, default_branch=default_branch)
        return path

    def repository_path(self, owner: str, name: str) -> Path:
        return self.root / owner / f"{name}.git"

    def branch_sha(self, owner: str, name: str, branch: str) -> str | None:
        """For `FakeGitHub(branch_sha=…)`."""
        return branches(self.repository_path(owner, name)).get(branch)


def create_bare_repository(
    path: Path, files: Mapping[str, str | bytes] | None = None, *, default_branch: str = "main"
) -> str:
    """Makes a bare repository with an initial commit of `files` (a README if None); the commit's id."""
    files = {"README.md": "# Sample\n"} if files is None else files
    git("init", "--quiet", "--bare", f"--initial-branch={default_branch}", str(path))
    stream = [f"commit refs/heads/{default_branch}\n".encode()]
    stream.append(b"committer Sample <sample@example.com> 1767225600 +0000\ndata 14\nInitial commit\n")
    for name, text in files.items():
        data = text.encode() if isinstance(text, str) else text
        stream += [f"M 100644 inline {name}\ndata {len(data)}\n".encode(), data, b"\n"]
    git("fast-import", "--quiet", folder=path, stdin=b"".join(stream) + b"\n")
    return branches(path)[default_branch]


def branches(path: Path) -> dict[str, str]:
    """Branch → commit of a repository; empty where there is none."""
    if not path.is_dir():
        return {}
    output = git("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/", folder=path)
    return dict(line.rsplit(" ", 1) for line in output.splitlines())


def git(*arguments: str, folder: Path | None = None, stdin: bytes = b"") -> str:
    """Real git with an environment of its own; its standard output. Raises where it fails."""
    place = [f"--git-dir={folder}"] if folder else []
    done = subprocess.run(
        ["git", *place, *arguments], env=git_environment(), input=stdin, capture_output=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode().strip()


def git_environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
    }


class _Server(ForgivesLostClients, ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], state: _State) -> None:
        super().__init__(address, _Handler)
        self.state = state


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the requests are recorded."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        assert isinstance(self.server, _Server)
        state = self.server.state
        parts = urlsplit(self.path)
        service = "git-receive-pack" if "git-receive-pack" in self.path else "git-upload-pack"
        token = self._token()
        if "/info/lfs/" in parts.path:
            self._serve_lfs(state, parts.path, token)
            return
        fault: GitFault | None = None
        refusal = self._refusal(state, parts.path, service, token)
        if refusal is None:
            fault = state.take_fault(parts.path)
        with tempfile.TemporaryFile() as output:
            if refusal is not None or (fault is not None and not fault.execute):
                for _chunk in self._body():  # a client that still sends would not see the answer
                    pass
                status, headers = refusal or (503, {})
            else:
                status, headers = self._run_backend(state.root, parts.path, parts.query, token, output)
            if fault is not None:
                status, headers = fault.status, {}
                output.seek(0, os.SEEK_END)
            dropped = fault is not None and fault.drop
            record = RecordedGitRequest(self.command, parts.path, service, token, 0 if dropped else status)
            with state.lock:
                state.requests.append(record)
            if dropped:
                self.close_connection = True
                # curl repeats a request by itself where a kept connection ended without a single byte.
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._answer(status, headers, output)

    def _refusal(
        self, state: _State, path: str, service: str, token: str
    ) -> tuple[int, dict[str, str]] | None:
        for start, address in state.redirects.items():
            if path.startswith(start):
                return 301, {"Location": f"{address}{self.path}"}
        access = state.tokens.get(token)
        match = _PATH.fullmatch(path)
        if access is None and match is not None and match["repository"] in state.public:
            access = "read" if service == "git-upload-pack" else None
        if access is None:
            return 401, {"WWW-Authenticate": 'Basic realm="GitHub"'}
        if match is None or not (state.root / match["repository"]).is_dir():
            return 404, {}
        if service == "git-receive-pack" and access != "write":
            return 403, {}
        return None

    def _serve_lfs(self, state: _State, path: str, token: str) -> None:
        """With the same tokens as git; `FakeLfs` answers."""
        body = b"".join(self._body())
        repository = path.partition(".git/")[0].lstrip("/")
        access = state.tokens.get(token)
        if access is None:
            answer = state.lfs.refused(401)
        else:
            own = f"http://{self.headers['Host']}"
            answer = state.lfs.answer(repository, self.command, path, body, own, can_write=access == "write")
        record = RecordedGitRequest(self.command, path, "lfs", token, answer.status)
        with state.lock:
            state.requests.append(record)
        self._answer(answer.status, answer.headers, BytesIO(answer.body))

    def _token(self) -> str:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        with suppress(binascii.Error, UnicodeDecodeError):
            if kind.lower() == "basic":
                return base64.b64decode(value).decode().partition(":")[2]
        return ""

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (data := self.rfile.read(min(left, _CHUNK))):
            left -= len(data)
            yield data

    def _run_backend(
        self, root: Path, path: str, query: str, token: str, output: IO[bytes]
    ) -> tuple[int, dict[str, str]]:
        """Runs the CGI program into `output`, left at the start of the body; its status and headers."""
        env = git_environment() | {
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "robot",  # makes http-backend accept pushes
            "REMOTE_ADDR": "127.0.0.1",
        }
        child = subprocess.Popen(
            ["git", "http-backend"], env=env, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.DEVNULL
        )
        assert child.stdin is not None
        with child.stdin:
            for chunk in self._body():
                with suppress(BrokenPipeError):
                    child.stdin.write(chunk)
        child.wait()
        output.seek(0)
        headers = {}
        while line := output.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name] = value.strip()
        return int(headers.pop("Status", "200").split()[0]), headers

    def _answer(self, status: int, headers: Mapping[str, str], body: IO[bytes]) -> None:
        start = body.tell()
        length = body.seek(0, os.SEEK_END) - start
        body.seek(start)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()
            while chunk := body.read(_CHUNK):
                self.wfile.write(chunk)
