"""A stand-in for a Dagger engine's session that the real SDK talks to: GraphQL over HTTP, introspection included.

Containers are values: an image, a file system and what is mounted, each made from the one before. An exec runs in
bubblewrap on a copy of the file system, once for each different container, as the engine's cache has it. What differs
from the engine is told in `docs/sandboxes.md`. `python -m tests.fakes.dagger` runs one by hand.
"""

import base64
import hashlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from graphql import GraphQLError, GraphQLSchema, build_schema, graphql_sync

from tests.fakes.lost_clients import ForgivesLostClients
from tests.fakes.machine import SYSTEM_FOLDERS, Template, remove

SCHEMA = """
interface Node { id: ID! }
enum ReturnType { SUCCESS FAILURE ANY }
type Query {
  container: Container!
  host: Host!
  cacheVolume(key: String!): CacheVolume!
  setSecret(name: String!, plaintext: String!): Secret!
  node(id: ID!): Node
  version: String!
}
type Host implements Node { id: ID! unixSocket(path: String!): Socket! }
type Socket implements Node { id: ID! }
type Secret implements Node { id: ID! }
type CacheVolume implements Node { id: ID! }
type Directory implements Node { id: ID! sync: ID! }
type Container implements Node {
  id: ID!
  sync: ID!
  from(address: String!): Container!
  withUser(name: String!): Container!
  withEnvVariable(name: String!, value: String!, expand: Boolean): Container!
  withNewFile(path: String!, contents: String!, permissions: Int, owner: String): Container!
  withMountedCache(path: String!, cache: ID!, owner: String): Container!
  withMountedSecret(path: String!, source: ID!, owner: String, mode: Int): Container!
  withUnixSocket(path: String!, source: ID!, owner: String): Container!
  withRootfs(directory: ID!): Container!
  withExec(args: [String!]!, expect: ReturnType): Container!
  rootfs: Directory!
}
"""
VERSION = "v0.21.11"
_KILLED = {-9: 137, -15: 143}
_starter = ThreadPoolExecutor(8, "exec-starter")  # a parent-death signal follows the thread that forked


@dataclass(frozen=True)
class Thing:
    """A socket, a secret or a cache volume."""

    kind: str
    value: str


@dataclass(frozen=True)
class Files:
    """A file system: what an exec left, or an image with new files on it."""

    image: str = ""
    after: "Box | None" = None
    new: tuple[tuple[str, str], ...] = ()
    kind: str = "Directory"


@dataclass(frozen=True)
class Box:
    """A container as described so far; `argv` where its last operation is an exec."""

    files: Files = field(default_factory=Files)
    variables: tuple[tuple[str, str], ...] = ()
    mounts: tuple[tuple[str, Thing], ...] = ()
    argv: tuple[str, ...] = ()
    expect: str = "SUCCESS"
    kind: str = "Container"

    def settled(self) -> "Box":
        """The container to go on from: after an exec its file system is what the exec left."""
        return replace(self, files=Files(after=self), argv=()) if self.argv else self


class FakeDagger:
    """The engine. `images` are the addresses it can pull; `kill_execs` is the out-of-memory killer."""

    def __init__(
        self, *, template: Template | None = None, images: tuple[str, ...] = ("work-orders-agent",)
    ) -> None:
        self.template = template or Template()
        self.images = images
        self.token = uuid4().hex
        self.seen: list[str] = []
        self.execs: list[tuple[str, ...]] = []
        self._folder = Path(tempfile.mkdtemp(prefix="stand-in-dagger-"))
        self._things: dict[str, Any] = {}
        self._done: dict[Box, Path] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.RLock()
        self.schema: GraphQLSchema = build_schema(SCHEMA)
        for name, resolve in self._resolvers().items():
            type_name, _, field_name = name.partition(".")
            self.schema.type_map[type_name].fields[field_name].resolve = resolve  # type: ignore[attr-defined]  # object types
        node: Any = self.schema.type_map["Node"]
        node.resolve_type = lambda value, *_: value.kind
        self._server = _Server(self)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True, name="stand-in-dagger").start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill_execs()
        self._server.shutdown()
        self._server.server_close()
        remove(self._folder)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DAGGER_SESSION_PORT": str(self._server.server_port),
            "DAGGER_SESSION_TOKEN": self.token,
            "WORKORDERS_DAGGER_IMAGE": self.images[0],
        }

    @property
    def running(self) -> int:
        return len(self._running)

    def kill_execs(self) -> None:
        for process in list(self._running):
            process.kill()

    # --- GraphQL ---

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.seen.append(json.dumps(body))
        done = graphql_sync(
            self.schema, body["query"], variable_values=body.get("variables"), root_value=self
        )
        found: dict[str, Any] = {"data": done.data}
        if done.errors:
            found["errors"] = [error.formatted for error in done.errors]
        return found

    def _resolvers(self) -> dict[str, Any]:
        identity = {
            f"{name}.id": self._id
            for name in ("Host", "Socket", "Secret", "CacheVolume", "Directory", "Container")
        }
        return {
            **identity,
            "Query.container": lambda *_: Box(),
            "Query.host": lambda *_: Thing("Host", ""),
            "Query.version": lambda *_: VERSION,
            "Query.cacheVolume": lambda _parent, _info, key: Thing("CacheVolume", key),
            "Query.setSecret": lambda _parent, _info, name, plaintext: Thing(
                "Secret", f"{name}\0{plaintext}"
            ),
            "Query.node": lambda _parent, _info, id: self._things[id],  # the schema names it so
            "Host.unixSocket": lambda _parent, _info, path: Thing("Socket", path),
            "Directory.sync": self._directory_sync,
            "Container.sync": self._container_sync,
            "Container.from": self._from,
            "Container.withUser": lambda box, _info, name: box.settled(),
            "Container.withEnvVariable": lambda box, _info, name, value, **_: replace(
                box.settled(), variables=(*box.variables, (name, value))
            ),
            "Container.withNewFile": self._with_new_file,
            "Container.withMountedCache": lambda box, _info, path, cache, **_: self._mount(box, path, cache),
            "Container.withMountedSecret": lambda box, _info, path, source, **_: self._mount(
                box, path, source
            ),
            "Container.withUnixSocket": lambda box, _info, path, source, **_: self._mount(box, path, source),
            "Container.withRootfs": lambda box, _info, directory: replace(
                box.settled(), files=self._things[directory]
            ),
            "Container.withExec": lambda box, _info, args, expect="SUCCESS": replace(
                box.settled(), argv=tuple(args), expect=expect
            ),
            "Container.rootfs": lambda box, _info: box.settled().files,
        }

    def _id(self, value: Any, _info: Any = None) -> str:
        name = hashlib.sha256(repr(value).encode()).hexdigest()
        self._things[name] = value
        return name

    def _from(self, box: Box, _info: Any, address: str) -> Box:
        if address not in self.images:
            raise GraphQLError(f"failed to resolve image {address!r}: not found")
        return replace(box, files=Files(image=address), argv=())

    def _with_new_file(self, box: Box, _info: Any, path: str, contents: str, **_more: Any) -> Box:
        settled = box.settled()
        return replace(settled, files=replace(settled.files, new=(*settled.files.new, (path, contents))))

    def _mount(self, box: Box, path: str, thing: str) -> Box:
        return replace(box.settled(), mounts=(*box.mounts, (path, self._things[thing])))

    def _container_sync(self, box: Box, _info: Any) -> str:
        if box.argv:
            self._run(box)
        return self._id(box)

    def _directory_sync(self, files: Files, _info: Any) -> str:
        if files.after is not None:
            self._run(files.after)
        return self._id(files)

    # --- execs ---

    def _run(self, box: Box) -> Path:
        """The file system an exec leaves; equal ones run once."""
        if (known := self._done.get(box)) is not None:
            return known
        folder = self._folder / uuid4().hex
        self._lay_out(box.files, folder)
        outcome = self._execute(box, folder)
        if outcome in _KILLED.values() or (outcome and box.expect != "ANY"):
            words = {
                "_type": "EXEC_ERROR",
                "cmd": list(box.argv),
                "exitCode": outcome,
                "stdout": "",
                "stderr": "",
            }
            raise GraphQLError(
                f"process {' '.join(box.argv)!r} did not complete: exit code: {outcome}", extensions=words
            )
        self._done[box] = folder
        return folder

    def _lay_out(self, files: Files, folder: Path) -> None:
        if files.after is not None:
            subprocess.run(["cp", "-a", str(self._run(files.after)), str(folder)], check=True)
        (folder / "work-orders").mkdir(parents=True, exist_ok=True)
        for path, contents in files.new:
            target = folder / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(contents)

    def _execute(self, box: Box, folder: Path) -> int:
        argv = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1"]
        argv += ["--die-with-parent", "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--clearenv"]
        for name in SYSTEM_FOLDERS:
            path = Path(name)
            if path.is_symlink():
                argv += ["--symlink", str(path.readlink()), name]
            elif path.is_dir():
                argv += ["--ro-bind", name, name]
        argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]
        for path in self.template.shown:
            argv += ["--ro-bind", str(path), str(path)]
        for entry in sorted(folder.iterdir()):
            argv += ["--bind", str(entry), f"/{entry.name}"]
        for path_inside, thing in box.mounts:
            argv += ["--bind", str(self._mounted(thing)), path_inside]
        for name, value in {"PATH": self.template.path, "HOME": "/root", **dict(box.variables)}.items():
            argv += ["--setenv", name, value]
        self.execs.append(box.argv)
        process = _starter.submit(
            subprocess.Popen,
            [*argv, "--chdir", "/", "--", *box.argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ).result(60)
        self._running.add(process)
        try:
            code = process.wait()
        finally:
            self._running.discard(process)
        return _KILLED.get(code, code)

    def _mounted(self, thing: Thing) -> Path:
        if thing.kind == "Socket":
            return Path(thing.value)
        name = hashlib.sha256(thing.value.encode()).hexdigest()
        path = self._folder / f"mounted-{name}"
        if thing.kind == "CacheVolume":
            path.mkdir(exist_ok=True)
        else:
            path.write_text(thing.value.partition("\0")[2])
        return path


class _Server(ForgivesLostClients, ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, engine: FakeDagger) -> None:
        self.engine = engine
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # the base class names it so
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        status, answer = 401, b"unauthorized"
        if self.path == "/query" and given == f"{self.server.engine.token}:":
            status, answer = 200, json.dumps(self.server.engine.answer(json.loads(body))).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    os.umask(0o077)
    with FakeDagger() as engine:
        for name, value in engine.environment.items():
            print(f"export {name}={value}", flush=True)
        threading.Event().wait()
