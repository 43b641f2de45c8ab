"""What sandboxes elsewhere share: commits in, commands followed from outside, bundle out, HOME kept between places.

A backend gives a `Machine` to work with; everything above that is here. Nothing a machine says is trusted, and
nothing of the server's is in it but the repository's newest commits and what a command was given.
"""

import base64
import binascii
import json
import re
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from typing import Protocol
from uuid import uuid4

from sandboxes.base import CommandExecutionResult, Remains, SandboxCommand, SandboxSpec, SandboxState
from sandboxes.errors import GitError, SandboxError, SandboxVanished, StreamDropped
from sandboxes.exporting import ScriptRun, export
from sandboxes.extras.placed import CHANGED_SUBMODULES, LFS_EXPORT, PLACE_SUBMODULES, changed_submodules
from sandboxes.git_texts import HOOK
from sandboxes.processes.run import ExitReason, ProcessControl
from sandboxes.remote import scripts
from sandboxes.remote.extras import LFS_LIMIT_BYTES, UNPACK_LFS, RemoteExtras
from sandboxes.sweep.bundle_script import LOOK_AGAIN
from sandboxes.sweep.rules import Exported, LeftOut, merged, shown, work_in
from sandboxes.trusted_git.git import GitSettings, TrustedGit, is_sha
from sandboxes.trusted_git.shallow_pack import write_shallow_pack

SMALL_SECONDS = 60.0
BIG_SECONDS = 600.0
FOLLOW_SECONDS = 300
GRACE_TENTHS = 15
DROPPED_SECONDS = 90.0
KEEP_ALIVE_SECONDS = 30.0
HOME_LIMIT_BYTES = 32 * 1024 * 1024
_SAFE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STDERR_BYTES = 64 * 1024
_LOOK_SECONDS = 0.1
_LATE_SECONDS = 15.0  # for the last output of a command that was ended


@dataclass(frozen=True)
class Answer:
    """What a small command inside said; both streams as text, cut by the backend."""

    code: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        return self.stderr.strip()[-500:] or f"exit code {self.code}"


class Machine(Protocol):
    """A machine that is up. Every method may raise `SandboxVanished` or another `SandboxError`."""

    def run(self, script: str, *arguments: str, seconds: float = SMALL_SECONDS) -> Answer:
        """A bash script to its end."""
        ...

    def lines(self, script: str, *arguments: str, seconds: float) -> Iterator[str]:
        """A bash script's output, line by line as it comes. Raises `StreamDropped` where only the stream broke."""
        ...

    def put(self, files: Mapping[str, bytes | Path]) -> None:
        """Write files at absolute paths, with their folders."""
        ...

    def bring_secrets(self, path: str, content: bytes) -> str:
        """Show a file of secrets to one command, off every log; where it is to be found."""
        ...

    def fetch(self, path: str, destination: Path, *, limit_bytes: int) -> None:
        """Read a file out; raises `SandboxError` where it is larger."""
        ...

    def keep_alive(self) -> None:
        """Put off the machine's own end, as a step runs."""
        ...


@dataclass(frozen=True)
class _Job:
    """A command that runs inside, whoever listens."""

    folder: str
    pid: str


@dataclass
class _Told:
    """One line of a follower, or the error that ended it for good."""

    kind: str
    text: str = ""
    error: Exception | None = None


class RemoteSandbox:
    """`root` is the account's folder inside; the checkout, HOME and jobs are below it."""

    root = "/home/user"
    shares_host = False
    lfs_limit_bytes: int | None = LFS_LIMIT_BYTES

    def __init__(self, spec: SandboxSpec) -> None:
        self.spec = spec
        self.sandbox_identifier = spec.sandbox_identifier
        self._change_marker = ""
        self._running = False
        self._holds_work: bool | None = None  # only the worker that was in there knows
        self.left_out: tuple[LeftOut, ...] = ()
        self.last_export = Exported(False)
        self.unplaced: tuple[str, ...] = ()
        self._kept = spec.data_dir / "homes" / spec.sandbox_identifier

    # --- what differs between the backends ---

    @property
    def handle(self) -> str:
        raise NotImplementedError

    def _create(self) -> None:
        """A fresh machine, alone of its order. Idempotent: what an earlier attempt left is removed first."""
        raise NotImplementedError

    def _connect(self, handle: str) -> bool:
        raise NotImplementedError

    def _machine(self, secrets: bytes = b"") -> AbstractContextManager[Machine]:
        """The machine, for a while. Raises `SandboxVanished` where there is none."""
        raise NotImplementedError

    def _remove(self) -> None:
        raise NotImplementedError

    def _look(self) -> SandboxState:
        """What the provider knows; `exists` is False where it knows of none."""
        raise NotImplementedError

    # --- the Protocol ---

    @property
    def workspace(self) -> str:
        return f"{self.root}/workspace"

    @property
    def _home(self) -> str:
        return f"{self.root}/home"

    def _own(self, name: str) -> str:
        """A path for what is neither the agent's nor the repository's; the agent can still reach it."""
        return f"{self.root}/.work-orders/{name}"

    def setup(self) -> None:
        inbox = self.spec.data_dir / "outbox" / f"{self.sandbox_identifier}-{uuid4().hex}"
        spec = self.spec
        git = TrustedGit(GitSettings(search_path=spec.isolation.search_path))
        try:
            pack = write_shallow_pack(
                git, spec.mirror_path, base_sha=spec.base_sha, start_sha=spec.start_sha, folder=inbox
            )
            self._create()
            files: dict[str, bytes | Path] = {
                self._own("pack"): pack.path,
                self._own("hook"): HOOK.encode(),
                self._own("home.tgz"): self._kept_home(),
                self._own("trailers"): self._trailers_text(),
                **self._extras.files(git, inbox),
            }
            names = [self.workspace, self._home, self._own("jobs"), spec.git_branch_name, spec.base_branch]
            names += [
                spec.start_sha,
                spec.base_sha,
                *(self._own(name) for name in ("pack", "home.tgz", "hook")),
            ]
            with self._machine() as machine:
                machine.put(files)
                if self._extras.archive in files:
                    machine.run(UNPACK_LFS, self._extras.archive, self._extras.known_lfs, seconds=BIG_SECONDS)
                done = machine.run(
                    self._with_variables(scripts.SETUP), *names, *pack.boundary, seconds=BIG_SECONDS
                )
                if done.code:
                    raise SandboxError(f"The checkout in the sandbox failed: {done.words}")
                self._place_submodules(machine)
            self._change_marker = done.stdout.strip()[-100:]
            self._holds_work = True
        except (GitError, OSError) as error:
            raise SandboxError(f"The sandbox could not be filled: {error}") from error
        finally:
            shutil.rmtree(inbox, ignore_errors=True)

    def attach(self, handle: str) -> bool:
        if not handle:
            return False
        try:
            if not self._connect(handle):
                return False
            with self._machine() as machine:
                said = machine.run(scripts.CLAIM, self._own("idle"), self.workspace, self._home)
                *shas, self._change_marker = said.stdout.split() or [""]
                if said.code or shas != [self.spec.start_sha, self.spec.start_sha]:
                    return False
                start = f"{self.spec.start_sha}\n".encode()
                machine.put({self._own("trailers"): self._trailers_text(), self._own("start"): start})
        except SandboxError:
            return False
        self._holds_work = True
        return True

    def mark_idle(self, head_sha: str) -> None:
        with suppress(SandboxVanished), self._machine() as machine:
            self._keep_home(machine)
            machine.run(scripts.LEAVE, self._own("idle"), self._own("start"), head_sha)

    def mark_taken(self) -> None:
        """For this worker. One that comes after its death takes the same commits again, which does no harm."""
        self._holds_work = False

    def reclaim(self, handle: str) -> Remains | None:
        if self._holds_work or work_in(self.left_out):
            return Remains(self.spec.start_sha, work_in(self.left_out))
        try:
            if self._holds_work is not None or not handle or not self._connect(handle):
                return None
            with self._machine() as machine:
                said = machine.run(scripts.RECLAIM, self._own("start"))
        except SandboxVanished:
            return None
        start_sha = said.stdout.strip()
        if said.code or not is_sha(start_sha):
            return None
        self.spec = replace(self.spec, start_sha=start_sha)
        self._holds_work = True
        return Remains(start_sha)

    def set_aside(self) -> str:
        """A machine of somebody else's ends with its order, or before."""
        return ""

    def write_file(self, path: str, content: bytes) -> None:
        inside = path.removeprefix("~/")
        target = PurePosixPath(self._home if inside != path else self.workspace) / inside
        try:
            with self._machine() as machine:
                machine.put({str(target): content})
        except SandboxVanished:
            raise
        except SandboxError as error:
            raise SandboxError(f"Could not write {path} in the sandbox: {error}") from error

    def export_bundle(self, destination: Path, *, limit_bytes: int, leftovers_message: str = "") -> bool:
        destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        inside, paths = self._own("out.bundle"), self._own("paths")
        with self._machine() as machine:

            def run(arguments: Sequence[str], stdin: bytes) -> ScriptRun:
                if stdin:
                    machine.put({paths: stdin})
                places = (self.workspace, inside, paths if stdin else "/dev/null")
                script = self._with_variables(scripts.EXPORT)
                said = machine.run(script, *arguments, *places, seconds=BIG_SECONDS)
                if said.code not in (0, LOOK_AGAIN) or not said.stdout.strip().isdigit():
                    return ScriptRun(said.code or 1, said.stderr)
                too_long = int(said.stdout) > limit_bytes
                if not too_long:
                    machine.fetch(inside, destination, limit_bytes=limit_bytes)
                return ScriptRun(said.code, said.stderr, too_long=too_long)

            exported = export(
                run,
                destination,
                spec=self.spec,
                limit_bytes=limit_bytes,
                leftovers_message=leftovers_message,
            )
            changed = self._changed_submodules(machine) if leftovers_message else ()
        self.last_export = exported
        if leftovers_message:
            self.left_out = merged(exported.left_out, changed)
        return exported.has_commits

    def export_lfs(self, destination: Path, *, limit_bytes: int) -> bool:
        if self.spec.extras.lfs_objects is None:
            return False
        destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        extras, inside = self._extras, self._own("lfs.tar")
        script = f'cd -- "$3" || exit 1\n({LFS_EXPORT}) > "$4" && stat -c %s "$4"'
        names = (extras.own_lfs, extras.known_lfs, self.workspace, inside)
        with self._machine() as machine:
            said = machine.run(self._with_variables(script), *names, seconds=BIG_SECONDS)
            if said.code or not said.stdout.strip().isdigit():
                raise SandboxError(f"The LFS objects of the sandbox failed: {said.words}")
            if int(said.stdout) > limit_bytes:
                raise SandboxError(f"The LFS objects of the sandbox are over {limit_bytes} bytes.")
            machine.fetch(inside, destination, limit_bytes=limit_bytes)
        return True

    @property
    def _extras(self) -> RemoteExtras:
        return RemoteExtras(self.spec.extras, self._own, self.workspace)

    def _place_submodules(self, machine: Machine) -> None:
        if not (submodules := self.spec.extras.submodules):
            return
        script = self._with_variables(f'cd -- "$1" || exit 1\nshift\n{PLACE_SUBMODULES}')
        names = (self.workspace, f"{self.workspace}/.git", *self._extras.submodule_arguments())
        said = machine.run(script, *names, seconds=BIG_SECONDS)
        if said.code:
            raise SandboxError(f"The submodules could not be filled: {said.words}")
        self.unplaced = tuple(one.path for one in submodules if one.path in said.stdout.splitlines())

    def _changed_submodules(self, machine: Machine) -> tuple[LeftOut, ...]:
        paths = [one.path for one in self.spec.extras.submodules]
        if not paths:
            return ()
        script = self._with_variables(f'cd -- "$1" || exit 1\nshift\n{CHANGED_SUBMODULES}')
        said = machine.run(script, self.workspace, *paths).stdout
        return tuple(LeftOut("submodule_changes", shown(path)) for path in changed_submodules(paths, said))

    def get_current_state(self) -> SandboxState:
        """The mark is as the last command, or the one that runs now, has left it."""
        state = self._look()
        return _with_marker(state, self._change_marker if state.exists else "")

    def holds_session(self, session_id: str) -> bool | None:
        try:
            sessions = json.loads((self._kept / "sessions.json").read_text())
            return session_id in sessions if sessions else None
        except (OSError, ValueError, TypeError):
            return False

    def cleanup(self) -> None:
        self._remove()

    # --- commands ---

    def execute_command(
        self,
        command: SandboxCommand,
        *,
        control: ProcessControl | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> CommandExecutionResult:
        secrets = _exports(command.secrets)
        self._running = True
        try:
            with self._machine(secrets) as machine:
                job = self._start(machine, command, secrets)
                sink = _Sink(command.output_limit_bytes, on_stdout)
                return _Watch(self, machine, job, command, control or ProcessControl(), sink).run()
        finally:
            self._running = False

    def _start(self, machine: Machine, command: SandboxCommand, secrets: bytes) -> _Job:
        job = self._own(f"jobs/{uuid4().hex}")
        found = machine.bring_secrets(f"{job}/secrets", secrets) if secrets else ""
        files: dict[str, bytes | Path] = {f"{job}/stdin": command.stdin}
        variables = _exports({**self._variables(), **command.environment}) + secrets_line(found)
        argv = self._bring_programs(command, files)
        start = f"cd -- {shlex.quote(self.workspace)} || exit 125\n".encode()
        files[f"{job}/command"] = start + variables + f"exec {shlex.join(argv)}\n".encode()
        machine.put(files)
        seconds = str(int(command.timeout_seconds) + 60)
        said = machine.run(scripts.START, job, seconds)
        if said.code or not said.stdout.strip().isdigit():
            raise SandboxError(f"The command could not be started in the sandbox: {said.words}")
        return _Job(job, said.stdout.strip())

    def _bring_programs(self, command: SandboxCommand, files: dict[str, bytes | Path]) -> list[str]:
        """The command line as it is found there: programs by their name, script files of this host brought along."""
        argv = list(command.argv)
        if argv[0].startswith("/"):
            name = Path(argv[0]).name
            argv[0] = "python3" if name.startswith("python") else name
        for place, item in enumerate(argv[1:], start=1):
            if item.startswith("/") and Path(item) in command.program_folders and Path(item).is_file():
                argv[place] = self._own(f"programs/{Path(item).name}")
                files[argv[place]] = Path(item)
        return argv

    def _variables(self) -> dict[str, str]:
        spec = self.spec
        return {
            "HOME": self._home,
            "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "0",
            "GIT_CONFIG_SYSTEM": self._own("gitconfig"),  # of submodules and LFS; there is none without them
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": spec.committer_name,
            "GIT_AUTHOR_EMAIL": spec.committer_email,
            "GIT_COMMITTER_NAME": spec.committer_name,
            "GIT_COMMITTER_EMAIL": spec.committer_email,
            "WORKORDERS_TRAILERS_FILE": self._own("trailers"),
        }

    def _with_variables(self, script: str) -> str:
        """For git calls of our own: an agent's ~/.gitconfig has no say."""
        own = {**self._variables(), "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}
        return _exports(own).decode() + script

    def _trailers_text(self) -> bytes:
        return "".join(f"{line}\n" for line in self.spec.trailers).encode()

    # --- HOME between places: an archive nobody here opens ---

    def _kept_home(self) -> bytes | Path:
        kept = self._kept / "home.tgz"
        return kept if kept.is_file() else b""

    def _keep_home(self, machine: Machine) -> None:
        """Best effort: without it the next place starts with a fresh session, told what git holds."""
        inside = self._own("home.tgz")
        with suppress(SandboxError, OSError):
            said = machine.run(
                scripts.KEEP_HOME, self._home, inside, str(HOME_LIMIT_BYTES), seconds=BIG_SECONDS
            )
            size, *sessions = said.stdout.split() or ["0"]
            if said.code or not size.isdigit() or int(size) > HOME_LIMIT_BYTES:
                return
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._kept / uuid4().hex
            machine.fetch(inside, fresh, limit_bytes=HOME_LIMIT_BYTES)
            fresh.rename(self._kept / "home.tgz")
            (self._kept / "sessions.json").write_text(json.dumps(sessions[:200]))


class _Watch:
    """Follows one command to its end: clocks, control, output as it comes, and its life put off meanwhile."""

    def __init__(
        self,
        sandbox: RemoteSandbox,
        machine: Machine,
        job: _Job,
        command: SandboxCommand,
        control: ProcessControl,
        sink: "_Sink",
    ) -> None:
        self._sandbox, self._machine, self._job = sandbox, machine, job
        self._command, self._control, self._sink = command, control, sink
        self._told: SimpleQueue[_Told] = SimpleQueue()
        self._stderr = b""
        self._closing = threading.Event()

    def run(self) -> CommandExecutionResult:
        started = self._heard = time.monotonic()
        threading.Thread(target=self._follow, daemon=True, name=f"follow-{self._job.pid}").start()
        reason: ExitReason | None = None
        ended = 0.0
        alive = started
        code: int | None = None
        try:
            while code is None:
                code = self._take()
                now = time.monotonic()
                if reason is None and code is None and (reason := self._overdue(started, now)) is not None:
                    self._end()
                    ended = now
                if ended and now - ended > _LATE_SECONDS:
                    raise SandboxError("The sandbox did not say that the command had ended.")
                if now - alive > KEEP_ALIVE_SECONDS:
                    self._machine.keep_alive()
                    alive = now
        except BaseException:
            with suppress(SandboxError):
                self._end()
            raise
        finally:
            self._closing.set()
        return CommandExecutionResult(
            exit_code=code,
            reason=reason or ExitReason.EXITED,
            stdout=bytes(self._sink.data),
            stderr=self._stderr,
            truncated=self._sink.truncated,
            duration_seconds=time.monotonic() - started,
        )

    def _take(self) -> int | None:
        """Handle what was told, for a moment; the exit code once that is told."""
        try:
            told = self._told.get(timeout=_LOOK_SECONDS)
        except Empty:
            return None
        if told.error is not None:
            raise told.error
        match told.kind:
            case "o":
                self._heard = time.monotonic()
                self._sink.feed(_decoded(told.text))
            case "m":
                self._sandbox._change_marker = told.text[:100]
            case "e":
                self._stderr = _decoded(told.text)[-_STDERR_BYTES:]
            case "x":
                return int(told.text) if told.text.strip().isdigit() else 137
        return None

    def _overdue(self, started: float, now: float) -> ExitReason | None:
        if self._control.overdue is not None:
            return self._control.overdue
        if now - started > self._command.timeout_seconds:
            return ExitReason.TIMED_OUT
        if self._command.silence_seconds is not None and now - self._heard > self._command.silence_seconds:
            return ExitReason.SILENT
        return None

    def _end(self) -> None:
        self._machine.run(scripts.END, self._job.folder, str(GRACE_TENTHS), seconds=_LATE_SECONDS)

    def _follow(self) -> None:
        """In a thread of its own: a stream can only be waited for. A dropped one is taken up where it broke off."""
        offset, broken_since = 0, 0.0
        log = f"{self._sandbox.workspace}/.git/logs/HEAD"
        while not self._closing.is_set():
            names = (self._job.folder, self._job.pid, str(offset), str(FOLLOW_SECONDS), log)
            try:
                for line in self._machine.lines(scripts.FOLLOW, *names, seconds=FOLLOW_SECONDS + 60):
                    broken_since = 0.0
                    kind, _, text = line.partition(" ")
                    if kind == "o":
                        offset += len(_decoded(text))
                    self._told.put(_Told(kind, text))
                    if kind == "x":
                        return
            except StreamDropped as error:
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > DROPPED_SECONDS:
                    self._told.put(_Told("!", error=error))
                    return
                self._closing.wait(0.2)
            except Exception as error:  # whatever it is, the thread that waits must hear of it
                self._told.put(_Told("!", error=error))
                return


@dataclass
class _Sink:
    """Output to its reader, or the first bytes of it kept."""

    limit: int
    on_stdout: Callable[[bytes], None] | None
    data: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def feed(self, chunk: bytes) -> None:
        if self.on_stdout is not None:
            self.on_stdout(chunk)
            return
        room = self.limit - len(self.data)
        self.truncated = self.truncated or len(chunk) > room
        self.data += chunk[: max(room, 0)]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SandboxError("The sandbox answered with something that is no output of a command.") from None


def _exports(variables: Mapping[str, str]) -> bytes:
    lines = [
        f"export {name}={shlex.quote(value)}\n"
        for name, value in variables.items()
        if _SAFE_NAME.fullmatch(name)
    ]
    return "".join(lines).encode("utf-8", "surrogateescape")


def secrets_line(path: str) -> bytes:
    """Read once, then gone."""
    return f". {shlex.quote(path)}; rm -f -- {shlex.quote(path)} 2> /dev/null\n".encode() if path else b""


def _with_marker(state: SandboxState, marker: str) -> SandboxState:
    return SandboxState(state.exists, marker, state.provider_id, state.started_at, state.expires_at)


def script_command(script: str, arguments: Sequence[str]) -> str:
    """One line for a shell that runs the script as its only process."""
    return f"exec {shlex.join(['bash', '-c', script, 'bash', *arguments])}"
