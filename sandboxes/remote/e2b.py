"""`e2b`: a virtual machine in E2B's cloud (or another installation of it), through its SDK.

A machine lives a few minutes beyond the last sign of life from its worker, so that a worker that dies leaves nothing
that costs money for long; the recovery pass finds the rest by its metadata. What envd writes to its logs (command
lines, their environment) never holds a secret: those go in as a file, which is read once and deleted.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from e2b import ApiParams, CommandExitException, Sandbox, SandboxInfo, SandboxQuery, Template, exceptions

from sandboxes.base import SandboxSpec, SandboxState, SweepScope
from sandboxes.errors import (
    SandboxError,
    SandboxUnavailable,
    SandboxUnreachable,
    SandboxVanished,
    StreamDropped,
)
from sandboxes.findings import Finding, failed, ok
from sandboxes.providers import ProviderSettings
from sandboxes.remote.sandbox import SMALL_SECONDS, Answer, RemoteSandbox, script_command

LIFE_SECONDS = 300
IDLE_SECONDS = 900
_REQUEST_SECONDS = 30.0
_CHECK_SECONDS = 8.0
_UPLOAD_SECONDS = 300.0
_OWNER, _SANDBOX = "workorders-installation", "workorders-sandbox"
_SDK_MODULES = ("e2b", "connectrpc", "pyqwest")
_EVERYTHING = "0.0.0.0/0"
_KEY_ADVICE = (
    "Set E2B_API_KEY to a valid key of your E2B account for every worker (`manage.py doctor` tries it)."
)
_TEMPLATE_ADVICE = (
    "Build the template (deploy/e2b/README.md), or name another one in WORKORDERS_E2B_TEMPLATE."
)


class E2BSandbox(RemoteSandbox):
    def __init__(self, spec: SandboxSpec) -> None:
        super().__init__(spec)
        self._providers = spec.providers
        self._options = options(spec.providers)
        self._box: _Box | None = None

    @property
    def handle(self) -> str:
        return self._box.sandbox.sandbox_id if self._box else ""

    def _create(self) -> None:
        self._remove()
        settings, now = self._providers.e2b, datetime.now(UTC)
        with translated():
            sandbox = Sandbox.create(
                settings.template,
                timeout=LIFE_SECONDS,
                metadata=self._metadata,
                network=network(self._providers.allowed_hosts),
                idempotency_key=str(uuid4()),  # so that the SDK's own second try makes no second machine
                **self._options,
            )
        self._box = _Box(sandbox, now, now + timedelta(seconds=LIFE_SECONDS))
        if hosts := _hosts_file(self._providers.allowed_hosts):
            with translated():
                sandbox.files.write("/etc/hosts", hosts, user="root", request_timeout=_REQUEST_SECONDS)

    def _connect(self, handle: str) -> bool:
        try:
            with translated():
                info = Sandbox.get_info(handle, **self._options)
                if info.metadata.get(_SANDBOX) != self.sandbox_identifier:
                    return False
                sandbox = Sandbox.connect(handle, timeout=LIFE_SECONDS, **self._options)
        except SandboxVanished:
            return False
        self._box = _Box(sandbox, info.started_at, info.end_at)
        return True

    @contextmanager
    def _machine(self, secrets: bytes = b"") -> Iterator["_Box"]:  # noqa: ARG002  # they go in as a file
        if self._box is None:
            raise SandboxVanished("There is no E2B sandbox of this work order any more.")
        yield self._box

    def mark_idle(self, head_sha: str) -> None:
        super().mark_idle(head_sha)
        if self._box is not None:
            with suppress(SandboxError):
                self._box.live_for(IDLE_SECONDS)

    def cleanup(self) -> None:
        if self._box is not None:
            self._keep_home(self._box)
        super().cleanup()

    def _remove(self) -> None:
        """Every machine of this order, also one that an earlier attempt did not live to note."""
        self._box = None
        for info in _listed(self._options, self._metadata):
            with translated():
                Sandbox.kill(info.sandbox_id, **self._options)

    def _look(self) -> SandboxState:
        if self._running and self._box is not None:
            return self._box.state
        found = next(iter(_listed(self._options, self._metadata)), None)
        if found is None:
            return SandboxState(exists=False)
        return SandboxState(True, "", found.sandbox_id, found.started_at, found.end_at)

    @property
    def _metadata(self) -> dict[str, str]:
        return {
            _OWNER: self._providers.owner,
            _SANDBOX: self.sandbox_identifier,
            "workorders-order": self.sandbox_identifier[-11:],
        }


@dataclass
class _Box:
    """The `Machine` of a running E2B sandbox."""

    sandbox: Sandbox
    started_at: datetime
    expires_at: datetime

    def run(self, script: str, *arguments: str, seconds: float = SMALL_SECONDS) -> Answer:
        with translated():
            try:
                done = self.sandbox.commands.run(script_command(script, arguments), timeout=seconds)
            except CommandExitException as ended:
                return Answer(ended.exit_code, ended.stdout, ended.stderr)
            return Answer(done.exit_code, done.stdout, done.stderr)

    def lines(self, script: str, *arguments: str, seconds: float) -> Iterator[str]:
        try:
            with translated():
                handle = self.sandbox.commands.run(
                    script_command(script, arguments), background=True, timeout=seconds, retain_output=False
                )
                rest = ""
                for stdout, _stderr, _pty in handle:
                    *whole, rest = (rest + (stdout or "")).split("\n")
                    yield from whole
        except SandboxUnreachable as error:
            raise StreamDropped(str(error)) from error

    def put(self, files: Mapping[str, bytes | Path]) -> None:
        small = {path: content for path, content in files.items() if isinstance(content, bytes)}
        with translated():
            if small:
                entries = [{"path": path, "data": data} for path, data in small.items()]
                self.sandbox.files.write_files(entries, request_timeout=_UPLOAD_SECONDS)  # type: ignore[arg-type]  # TypedDicts
            for path, content in files.items():
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        self.sandbox.files.write(path, file, request_timeout=_UPLOAD_SECONDS)

    def bring_secrets(self, path: str, content: bytes) -> str:
        self.put({path: content})
        return path

    def fetch(self, path: str, destination: Path, *, limit_bytes: int) -> None:
        size = 0
        with (
            translated(),
            destination.open("wb") as file,
            self.sandbox.files.read(path, format="stream", request_timeout=_UPLOAD_SECONDS) as chunks,
        ):
            for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise SandboxError(f"A file from the sandbox is over {limit_bytes} bytes.")
                file.write(chunk)

    def keep_alive(self) -> None:
        self.live_for(LIFE_SECONDS)

    def live_for(self, seconds: int) -> None:
        with translated():
            self.sandbox.set_timeout(seconds)
        self.expires_at = datetime.now(UTC) + timedelta(seconds=seconds)

    @property
    def state(self) -> SandboxState:
        return SandboxState(True, "", self.sandbox.sandbox_id, self.started_at, self.expires_at)


def options(providers: ProviderSettings) -> ApiParams:
    """What every call is given, so that nothing depends on the process's environment."""
    settings = providers.e2b
    given = ApiParams(api_key=settings.api_key, request_timeout=_REQUEST_SECONDS, debug=False)
    if settings.domain:
        given["domain"] = settings.domain
    if settings.api_url:
        given["api_url"] = settings.api_url
    if settings.sandbox_url:
        given["sandbox_url"] = settings.sandbox_url
    return given


def network(allowed_hosts: tuple[str, ...]) -> Any:
    """Nothing in from the internet; out to the allowed hosts only, and to no name server, which would carry data."""
    if "*" in allowed_hosts:
        return {"allow_public_traffic": False}
    return {
        "allow_out": list(allowed_hosts),
        "deny_out": [_EVERYTHING],
        "dns_servers": [],
        "allow_public_traffic": False,
    }


def _hosts_file(allowed_hosts: tuple[str, ...]) -> str:
    """The addresses of allowed names, since no name server answers inside; E2B lets through by name."""
    lines = []
    for name in allowed_hosts:
        with suppress(OSError):
            for *_kind, address in socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)[:1]:
                lines.append(f"{address[0]} {name}\n")
    return "127.0.0.1 localhost\n" + "".join(lines) if lines else ""


def sweep_orphans(scope: SweepScope) -> tuple[str, ...]:
    """Kill this installation's machines whose order is over."""
    given = options(scope.providers)
    found = _listed(given, {_OWNER: scope.providers.owner})
    active = scope.active_identifiers()
    orphans = [info for info in found if info.metadata.get(_SANDBOX) not in active]
    if not scope.dry_run:
        for info in orphans:
            with translated():
                Sandbox.kill(info.sandbox_id, **given)
    return tuple(f"E2B sandbox {info.sandbox_id} of {info.metadata.get(_SANDBOX)}" for info in orphans)


def check(providers: ProviderSettings) -> list[Finding]:
    """Whether the key is accepted and the template exists. Raises `SandboxError` where E2B does not answer."""
    given = ApiParams(**{**options(providers), "request_timeout": _CHECK_SECONDS, "retries": 0})
    with translated():
        running = len(
            Sandbox.list(query=SandboxQuery(metadata={_OWNER: providers.owner}), **given).next_items()
        )
        known = Template.exists(providers.e2b.template, **given)
    found = [ok("e2b", f"the key is accepted; {running} sandboxes of this installation are up")]
    if not known:
        found.append(
            failed("e2b template", f"There is no template {providers.e2b.template}.", _TEMPLATE_ADVICE)
        )
    return found


def _listed(given: ApiParams, metadata: dict[str, str]) -> list[SandboxInfo]:
    found: list[SandboxInfo] = []
    with translated():
        pages = Sandbox.list(query=SandboxQuery(metadata=metadata), **given)
        while pages.has_next:
            found += pages.next_items()
    return found


@contextmanager
def translated() -> Iterator[None]:
    """The SDK's errors as ours. It also raises bare `Exception`s, so everything of its is caught here and named."""
    try:
        yield
    except SandboxError:
        raise
    except (exceptions.SandboxNotRunningException, exceptions.SandboxNotFoundException) as error:
        raise SandboxVanished(f"The E2B sandbox is gone: {_words(error)}") from error
    except exceptions.AuthenticationException as error:
        raise SandboxUnavailable(f"E2B refuses the key: {_words(error)}", advice=_KEY_ADVICE) from error
    except (
        exceptions.TimeoutException,
        exceptions.RateLimitException,
        exceptions.ServiceBusyException,
    ) as error:
        raise SandboxUnreachable(f"E2B did not answer in time: {_words(error)}") from error
    except (httpx.HTTPError, OSError) as error:
        raise SandboxUnreachable(f"The connection to E2B failed: {_words(error)}") from error
    except exceptions.SandboxException as error:
        if "template" in str(error).lower():
            raise SandboxUnavailable(f"E2B: {_words(error)}", advice=_TEMPLATE_ADVICE) from error
        raise SandboxError(
            f"E2B: {_words(error)}", advice="Look at the message and the E2B dashboard."
        ) from error
    except Exception as error:  # the SDK raises plain ones for answers it does not expect
        if type(error) is not Exception and not type(error).__module__.startswith(_SDK_MODULES):
            raise
        raise SandboxUnreachable(f"The E2B SDK failed: {_words(error)}") from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
