"""`dagger`: a container that a Dagger engine makes and keeps, through its SDK.

Dagger runs execs on snapshots, and tells their output only at their end. So each use of the place is one exec of
`container_runner.py`, which a Unix socket of this host connects with the worker: over it go commands, files, output as
it comes, and the bundle. The snapshot after an exec is the place from then on; it is never built on by another worker,
since an engine that has pruned its cache would run old execs again: whoever takes over starts from the pushed commits.
"""

import asyncio
import base64
import json
import socket
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files as package_files
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

import dagger

from sandboxes.base import SandboxSpec, SandboxState
from sandboxes.errors import SandboxError, SandboxUnavailable, SandboxUnreachable, SandboxVanished
from sandboxes.findings import Finding, ok
from sandboxes.providers import ProviderSettings
from sandboxes.remote.sandbox import SMALL_SECONDS, Answer, RemoteSandbox

CONNECT_SECONDS = 60.0
START_SECONDS = 600.0  # the first exec may have to pull the image
CLOSE_SECONDS = 60.0
CHECK_SECONDS = 15.0
_ACCOUNT = "1000:1000"
_SOCKET = "/run/work-orders.sock"
_SECRETS = "/run/work-orders-secrets"
_RUNNER = "/opt/work-orders-runner.py"
_CACHES = {"npm": "npm_config_cache", "pip": "PIP_CACHE_DIR", "uv": "UV_CACHE_DIR", "go": "GOMODCACHE"}
_KILLED = (137, 143)
_PUT = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
_ADVICE = "Start a Dagger engine the workers can reach (docs/sandboxes.md); `manage.py doctor` tries it."


class DaggerSandbox(RemoteSandbox):
    root = "/work-orders"

    def __init__(self, spec: SandboxSpec) -> None:
        super().__init__(spec)
        self._rootfs: dagger.Directory | None = None
        self._is_made = False
        self._session: _Session | None = None
        self._gate = threading.Lock()
        self._execs = 0
        self._name = ""
        self._started_at: datetime | None = None

    @property
    def handle(self) -> str:
        """For people to find it in the engine's traces; nobody can attach to it."""
        return self._name

    def _create(self) -> None:
        self._remove()
        self._name = f"{self.sandbox_identifier}-{uuid4().hex[:8]}"
        self._started_at = datetime.now(UTC)
        self._is_made = True

    def _connect(self, handle: str) -> bool:  # noqa: ARG002  # see the module's first lines
        return False

    @contextmanager
    def _machine(self, secrets: bytes = b"") -> Iterator["_Session"]:
        current = self._session
        if current is not None and not secrets:
            yield current
            return
        with self._gate:
            if not self._is_made:
                raise SandboxVanished("There is no Dagger container of this work order any more.")
            session = self._open(secrets)
            self._session = session
            try:
                yield session
            finally:
                self._session = None
                self._close(session)

    def _open(self, secrets: bytes) -> "_Session":
        self._execs += 1
        return _Session(_engine(), self._exec(), secrets)

    def _exec(self) -> "_Exec":
        return _Exec(
            image=self.spec.providers.dagger.image,
            rootfs=self._rootfs,
            root=self.root,
            # equal execs are answered from the cache: no two of these are equal
            variables={"WORKORDERS_EXEC": f"{self._name}-{self._execs}"},
            caches=f"workorders-{self.spec.providers.owner}-{self.spec.repository_key}",
        )

    def _close(self, session: "_Session") -> None:
        try:
            self._rootfs = session.close()
        except SandboxError:
            self._is_made = False
            raise

    def _variables(self) -> dict[str, str]:
        caches = {variable: f"{self.root}-cache/{name}" for name, variable in _CACHES.items()}
        return {**super()._variables(), **caches}

    def cleanup(self) -> None:
        if self._is_made:
            with suppress(SandboxError), self._machine() as machine:
                self._keep_home(machine)
        super().cleanup()

    def _remove(self) -> None:
        """A container is nothing but the engine's cache, which prunes itself; a running exec ends with its socket."""
        session, self._session = self._session, None
        if session is not None:
            session.hang_up()
        self._rootfs, self._is_made, self._change_marker = None, False, ""

    def _look(self) -> SandboxState:
        if not self._is_made:
            return SandboxState(exists=False)
        return SandboxState(True, "", self._name, self._started_at)


class _Exec:
    """What one exec is made of."""

    def __init__(
        self,
        *,
        image: str,
        rootfs: "dagger.Directory | None",
        root: str,
        variables: Mapping[str, str],
        caches: str,
    ) -> None:
        self.image, self.rootfs, self.root = image, rootfs, root
        self.variables, self.caches = variables, caches

    def container(self, client: dagger.Client, socket_path: Path, secrets: bytes) -> dagger.Container:
        """Image, kept file system, caches, socket and secrets; only the file system is carried on from exec to exec."""
        made = client.container().from_(self.image).with_user("root")
        if self.rootfs is not None:
            made = made.with_rootfs(self.rootfs)
        made = made.with_new_file(_RUNNER, _runner_text(), permissions=0o755)
        for name in _CACHES:
            volume = client.cache_volume(f"{self.caches}-{name}")
            made = made.with_mounted_cache(f"{self.root}-cache/{name}", volume, owner=_ACCOUNT)
        for name, value in self.variables.items():
            made = made.with_env_variable(name, value)
        if secrets:
            secret = client.set_secret(f"workorders-{uuid4().hex}", secrets.decode("utf-8", "replace"))
            made = made.with_mounted_secret(_SECRETS, secret, owner=_ACCOUNT, mode=0o400)
        made = made.with_unix_socket(_SOCKET, client.host().unix_socket(str(socket_path)))
        argv = ["python3", _RUNNER, self.root, _SOCKET]
        return made.with_exec(argv, expect=dagger.ReturnType.ANY)


class _Session:
    """The `Machine`: one exec, and the socket that leads into it."""

    def __init__(self, engine: "_Engine", execution: _Exec, secrets: bytes) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, SimpleQueue[dict[str, Any] | None]] = {}
        self._number = 0
        self._secrets = bool(secrets)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wo-")))
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(folder / "s"))
            listener.listen(1)
            self._result = engine.start(
                lambda client: _snapshot(execution.container(client, folder / "s", secrets))
            )
            self._channel = self._accept(listener)
            self._cleanup = stack.pop_all()
        threading.Thread(target=self._listen, daemon=True, name="dagger-listener").start()

    def _accept(self, listener: socket.socket) -> socket.socket:
        """The runner's call, or why it never comes."""
        listener.settimeout(0.1)
        for _ in range(int(START_SECONDS / 0.1)):
            with suppress(TimeoutError):
                channel, _address = listener.accept()
                channel.settimeout(None)
                return channel
            if self._result.done():
                _outcome(self._result, 0)
                raise SandboxError(
                    "The Dagger container ended before it could be used.",
                    advice="Its image needs python3, bash and git (deploy/dagger/README.md).",
                )
        self._result.cancel()
        raise SandboxUnreachable("The Dagger engine did not start the container in time.")

    def run(self, script: str, *arguments: str, seconds: float = SMALL_SECONDS) -> Answer:
        return self._run(script, arguments, b"", seconds)

    def _run(self, script: str, arguments: tuple[str, ...], stdin: bytes, seconds: float) -> Answer:
        told: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        for message in self._messages(script, arguments, stdin, seconds):
            if "code" in message:
                texts = {name: data.decode("utf-8", "replace") for name, data in told.items()}
                return Answer(message["code"], texts["stdout"], texts["stderr"])
            told[message["stream"]] += base64.b64decode(message["data"])
        raise SandboxUnreachable("The Dagger container did not answer in time.")

    def lines(self, script: str, *arguments: str, seconds: float) -> Iterator[str]:
        rest = b""
        for message in self._messages(script, arguments, b"", seconds):
            if message.get("stream") == "stdout":
                *whole, rest = (rest + base64.b64decode(message["data"])).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
            elif "code" in message:
                return

    def put(self, files: Mapping[str, bytes | Path]) -> None:
        for path, content in files.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            done = self._run(_PUT, (path,), data, 300)
            if done.code:
                raise SandboxError(done.words)

    def bring_secrets(self, path: str, content: bytes) -> str:  # noqa: ARG002  # mounted when the exec began
        return _SECRETS if self._secrets else ""

    def fetch(self, path: str, destination: Path, *, limit_bytes: int) -> None:
        size = 0
        with destination.open("wb") as file:
            for message in self._messages('exec cat -- "$1"', (path,), b"", 300):
                if message.get("stream") == "stdout":
                    chunk = base64.b64decode(message["data"])
                    size += len(chunk)
                    if size > limit_bytes:
                        raise SandboxError(f"A file from the sandbox is over {limit_bytes} bytes.")
                    file.write(chunk)
                elif message.get("code"):
                    raise SandboxError(f"A file in the sandbox cannot be read: {path}")

    def keep_alive(self) -> None:
        """It lives as long as its socket."""

    def hang_up(self) -> None:
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> "dagger.Directory":
        """End the exec; the file system it leaves."""
        self.hang_up()
        try:
            left: dagger.Directory = _outcome(self._result, CLOSE_SECONDS)
            return left
        finally:
            self._channel.close()
            self._cleanup.close()

    def _messages(
        self, script: str, arguments: tuple[str, ...], stdin: bytes, seconds: float
    ) -> Iterator[dict[str, Any]]:
        queue: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        with self._lock:
            self._number += 1
            number = self._number
            self._waiting[number] = queue
            asked = {"number": number, "script": script, "arguments": arguments}
            asked["stdin"] = base64.b64encode(stdin).decode()
            try:
                self._channel.sendall(json.dumps(asked).encode() + b"\n")
            except OSError as error:
                raise SandboxVanished("The Dagger container is gone.") from error
        try:
            while True:
                message = queue.get(timeout=seconds)
                if message is None:
                    raise SandboxVanished("The Dagger container ended while it was needed.")
                yield message
                if "code" in message:
                    return
        except Empty:
            raise SandboxUnreachable("The Dagger container did not answer in time.") from None
        finally:
            self._waiting.pop(number, None)

    def _listen(self) -> None:
        with suppress(OSError, ValueError), self._channel.makefile("rb") as told:
            for line in told:
                message = json.loads(line)
                if (queue := self._waiting.get(message.get("number", 0))) is not None:
                    queue.put(message)
        with self._lock:
            for queue in list(self._waiting.values()):  # who is told takes its own away at once
                queue.put(None)


class _Engine:
    """One connection of this process to the engine, on an event loop of its own; made anew after it broke."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._client: Future[dagger.Client] | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="dagger").start()

    def start(self, make: Any) -> "Future[Any]":
        """Begin what `make` returns for a client; raises `SandboxUnreachable` where there is no engine."""
        client = self.client(CONNECT_SECONDS)
        return self._submit(make(client))

    def client(self, seconds: float) -> dagger.Client:
        with self._lock:
            connecting = self._client = self._client or self._submit(_connect())
        try:
            return connecting.result(seconds)
        except TimeoutError as error:
            self.forget()
            raise SandboxUnreachable("The Dagger engine did not answer in time.", advice=_ADVICE) from error
        except Exception as error:  # whatever the SDK raises, there is no connection
            self.forget()
            words = f"There is no connection to a Dagger engine: {_words(error)}"
            raise SandboxUnreachable(words, advice=_ADVICE) from error

    def forget(self) -> None:
        with self._lock:
            self._client = None

    def ask(self, make: Any, seconds: float) -> Any:
        return _outcome(self._submit(make(self.client(seconds))), seconds)

    def _submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    return _Engine()


async def _connect() -> dagger.Client:
    """Kept until the process ends. A retry would run an exec twice."""
    return await dagger.Connection(dagger.Config(retry=None)).__aenter__()


async def _snapshot(container: dagger.Container) -> dagger.Directory:
    done = await container.sync()
    return await done.rootfs().sync()


def _outcome(result: "Future[Any]", seconds: float) -> Any:
    """The SDK's answer; its errors as ours. `expect=ANY` still raises for the codes of a killed exec."""
    try:
        return result.result(seconds)
    except TimeoutError as error:
        result.cancel()
        raise SandboxUnreachable("The Dagger engine did not answer in time.") from error
    except dagger.ExecError as error:
        if error.exit_code in _KILLED:
            raise SandboxVanished(
                f"The Dagger container was killed (exit code {error.exit_code})."
            ) from error
        raise SandboxError(f"The Dagger container failed: {_words(error)}") from error
    except dagger.QueryError as error:
        raise SandboxUnavailable(f"Dagger: {_words(error)}", advice=_ADVICE) from error
    except dagger.DaggerError as error:
        _engine().forget()
        raise SandboxVanished(f"The connection to the Dagger engine broke: {_words(error)}") from error


def check(providers: ProviderSettings) -> list[Finding]:
    """Whether an engine answers and knows the image. Raises `SandboxError` where not."""
    engine = _engine()

    async def version(client: dagger.Client) -> str:
        return await client.version()

    async def image(client: dagger.Client) -> str:
        return str(await client.container().from_(providers.dagger.image).id())

    found = [ok("dagger", f"engine {engine.ask(version, CHECK_SECONDS)} answers")]
    engine.ask(image, CHECK_SECONDS)
    return [*found, ok("dagger image", providers.dagger.image)]


@lru_cache(maxsize=1)
def _runner_text() -> str:
    return (package_files("sandboxes.remote") / "container_runner.py").read_text()


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
