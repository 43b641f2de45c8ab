"""The only module that starts processes.

A child gets its own process group, an explicit environment, bounded output and clocks; when it ends, for whatever
reason, its whole process tree is ended. Knows nothing of git, agents or GitHub.
"""

import ctypes
import os
import resource
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import IO, BinaryIO, Protocol

from sandboxes.errors import ProgramMissing, SandboxError
from sandboxes.processes.guard import TAG_VARIABLE, end_tagged, tagged_processes

__all__ = ["TAG_VARIABLE", "end_tagged", "tagged_processes"]

_READ_BYTES = 65536
_POLL_SECONDS = 0.1
_DRAIN_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0  # what a trusted command may take to end by itself once its step was stopped
_PR_SET_PDEATHSIG = 1


class ExitReason(StrEnum):
    """Why a process is over."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    SILENT = "silent"
    STOPPED = "stopped"
    LINGERED = "lingered"
    OVERFULL = "overfull"


@dataclass(frozen=True)
class ProcessLimits:
    """`total_seconds` from start to end; `silence_seconds` between two outputs; sizes in bytes a stream.

    Output past `output_bytes` is read and thrown away, so that the child never blocks on a full pipe; with `ends_full`
    the child is ended there instead. `memory_bytes` bounds the private data of the child and of each process it starts
    (`RLIMIT_DATA`: files it maps do not count).
    """

    total_seconds: float
    silence_seconds: float | None = None
    output_bytes: int = 16 * 1024 * 1024
    grace_seconds: float = 2.0
    error_bytes: int = 64 * 1024
    memory_bytes: int | None = None
    ends_full: bool = False


@dataclass(frozen=True)
class ProcessResult:
    """`exit_code` is negative for a signal, as in `subprocess`; `stderr` is the tail, of `error_bytes` at most."""

    exit_code: int
    reason: ExitReason
    stdout: bytes
    stderr: bytes
    truncated: bool
    duration_seconds: float

    @property
    def ok(self) -> bool:
        return self.reason is ExitReason.EXITED and self.exit_code == 0

    @property
    def stderr_text(self) -> str:
        return self.stderr.decode("utf-8", "replace").strip()


class ProcessControl:
    """Ends a running process from another thread, or from its own output callback.

    `group` names those that end together, to the guard; what ends `within` ends this one too, and not the other way.
    """

    def __init__(self, group: str = "", *, within: "ProcessControl | None" = None) -> None:
        self.group = group
        self._within = within
        self._lock = Lock()
        self._deadline: float | None = None
        self._reason = ExitReason.STOPPED

    def stop(self) -> None:
        """End it now; wins over a later deadline."""
        self.exit_within(0, ExitReason.STOPPED)

    def exit_within(self, seconds: float, reason: ExitReason) -> None:
        """End it with `reason` unless it exits by itself in time. An earlier deadline stays."""
        with self._lock:
            deadline = time.monotonic() + seconds
            if self._deadline is None or deadline < self._deadline:
                self._deadline, self._reason = deadline, reason

    @property
    def overdue(self) -> ExitReason | None:
        return self.overdue_for()

    def overdue_for(self, patience_seconds: float = 0.0) -> ExitReason | None:
        """Why a command must end now, where it may take this long to end by itself."""
        if self._within is not None and (reason := self._within.overdue_for(patience_seconds)) is not None:
            return reason
        with self._lock:
            if self._deadline is not None and time.monotonic() >= self._deadline + patience_seconds:
                return self._reason
            return None


class Guard(Protocol):
    """Is told of every child: its tag and its control's group before it starts, its id after, and its end."""

    def starting(self, tag: str, group: str) -> None: ...
    def started(self, tag: str, pid: int) -> None: ...
    def ended(self, tag: str) -> None: ...


_guard: Guard | None = None
_on_start: ContextVar[Callable[[], None] | None] = ContextVar("on_start", default=None)
_step_control: ContextVar[ProcessControl | None] = ContextVar("step_control", default=None)


def guarded_by(guard: Guard | None) -> None:
    """From now on `guard` is told of every child of this process."""
    global _guard
    _guard = guard


@contextmanager
def controlled_by(control: ProcessControl | None) -> Iterator[None]:
    """Commands of this context that are given no control of their own end with this one, after some patience.

    Once it is overdue no new command starts. None: for what must be done after a stop, such as cleaning up.
    """
    token = _step_control.set(control)
    try:
        yield
    finally:
        _step_control.reset(token)


@contextmanager
def telling_start(told: Callable[[], None]) -> Iterator[None]:
    """Calls `told` after each start of a command in this context: from then on this thread waits for the command."""
    token = _on_start.set(told)
    try:
        yield
    finally:
        _on_start.reset(token)


def step_is_stopped() -> bool:
    """Whether nothing of this context may start any more: for those who wait for something else than a process."""
    control = _step_control.get()
    return control is not None and control.overdue is not None


@dataclass
class _Sink:
    """Collects one stream: the first bytes (`head`) or the last (`tail`), never more than `limit`."""

    limit: int
    tail: bool = False
    callback: Callable[[bytes], None] | None = None
    file: IO[bytes] | None = None
    data: bytearray = field(default_factory=bytearray)
    stored: int = 0
    truncated: bool = False

    def feed(self, chunk: bytes) -> None:
        if self.callback is not None:
            self.callback(chunk)
            return
        if self.tail:
            self.data += chunk
            if len(self.data) > self.limit:
                self.truncated = True
                del self.data[: len(self.data) - self.limit]
            return
        room = self.limit - self.stored
        self.truncated = self.truncated or len(chunk) > room
        kept = chunk[: max(room, 0)]
        self.stored += len(kept)
        if self.file is not None:
            self.file.write(kept)
        else:
            self.data += kept


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    limits: ProcessLimits,
    cwd: Path | None = None,
    stdin: bytes | BinaryIO = b"",
    control: ProcessControl | None = None,
    on_stdout: Callable[[bytes], None] | None = None,
    stdout_path: Path | None = None,
    hand_over: Sequence[int] = (),
    waits_at: str = "",
    nice: int = 0,
    sweep: bool = False,
    tag_prefix: str = "",
) -> ProcessResult:
    """Run `argv` to its end and return what happened; never raises for an exit code, a clock or a stop.

    The environment is exactly `env` (plus a tag by which strays are found). A file as `stdin` is read by the
    child from its descriptor's offset on, so open it unbuffered. `on_stdout` receives raw chunks
    in this thread; `stdout_path` receives them instead of memory. Descriptors to `hand_over` are the child's alone
    once it runs: they are closed here. `waits_at` names a variable for the address of an empty file that ends only when
    the child's memory is bounded, for programs that read one before anything else. `tag_prefix` says whose the process
    is, for those who look for strays.
    `sweep` also ends descendants that left the process group; leave it off for programs that are trusted or that
    run in a pid namespace of their own.
    Raises `ProgramMissing` when the program cannot be started and `SandboxError` for other start failures and
    for a `stdout_path` that cannot be written; whatever a callback raises ends the process and comes through.
    """
    started = time.monotonic()
    tag = f"{tag_prefix}{uuid.uuid4().hex}"
    patience = 0.0 if control else _PATIENCE_SECONDS
    control = control or _step_control.get() or ProcessControl()
    if (refused := control.overdue_for()) is not None:
        _close(hand_over)
        return ProcessResult(-signal.SIGTERM, refused, b"", b"", truncated=False, duration_seconds=0.0)
    source = subprocess.PIPE if isinstance(stdin, bytes) else stdin.fileno()
    err = _Sink(limits.error_bytes, tail=True)
    with _output_file(
        stdout_path, hand_over
    ) as file:  # before the start: where it cannot be made, nothing runs
        out = _Sink(limits.output_bytes, callback=on_stdout, file=file)
        with _held_at(waits_at) as (more, gate):
            child = _start(argv, {**env, **more, TAG_VARIABLE: tag}, cwd, (*hand_over, *gate), source)
            if limits.memory_bytes is not None:
                _bound_memory(child.pid, limits.memory_bytes)
        if nice:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, child.pid, nice)
        reason: ExitReason | None = None  # stays None where a sink raised
        try:
            data = stdin if isinstance(stdin, bytes) else b""
            reason = _Pump(child, data, out, err).run(limits, control, started, patience)
        finally:
            asked = reason is not None and reason is not ExitReason.EXITED
            _end_tree(child, limits.grace_seconds if asked else 0)
            if sweep:
                end_tagged(tag)
            if _guard is not None:
                _guard.ended(tag)
            try:
                if reason is not None:
                    _drain(child, out, err)
            finally:
                _close_pipes(child)
    return ProcessResult(
        exit_code=child.returncode,
        reason=reason,
        stdout=bytes(out.data),
        stderr=bytes(err.data),
        truncated=out.truncated,
        duration_seconds=time.monotonic() - started,
    )


@contextmanager
def finishing_within(seconds: float) -> Iterator[None]:
    """Commands of this context run although their step was stopped, for this long: to save, to tidy up."""
    current = _step_control.get()
    control = ProcessControl(current.group if current else "")
    control.exit_within(seconds, ExitReason.STOPPED)
    with controlled_by(control):
        yield


@contextmanager
def bounded_by(seconds: float) -> Iterator[None]:
    """Commands of this context end after this long all together, and with their step as ever."""
    current = _step_control.get()
    control = ProcessControl(current.group if current else "", within=current)
    control.exit_within(seconds, ExitReason.TIMED_OUT)
    with controlled_by(control):
        yield


@contextmanager
def _output_file(path: Path | None, hand_over: Sequence[int]) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        _close(hand_over)
        raise SandboxError(f"Cannot write {path}: {error.strerror}.") from error


def _start(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, hand_over: Sequence[int], stdin: int
) -> "subprocess.Popen[bytes]":
    tag = env[TAG_VARIABLE]
    if _guard is not None:
        _guard.starting(tag, group.group if (group := _step_control.get()) else "")
    try:
        child = _open(argv, env, cwd, hand_over, stdin)
    except BaseException:
        if _guard is not None:
            _guard.ended(tag)
        raise
    finally:
        _close(hand_over)
    if _guard is not None:
        _guard.started(tag, child.pid)
    if (told := _on_start.get()) is not None:
        told()
    return child


def _open(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path | None, pass_fds: Sequence[int], stdin: int
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603  # nosec B603  # a list, no shell; what runs is the callers' matter
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # not a session: the kernel would give each session its own share of the processor
            pass_fds=tuple(pass_fds),
            bufsize=0,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        if cwd is not None and not cwd.is_dir():
            raise SandboxError(f"The working folder {cwd} does not exist.") from error
        raise ProgramMissing(f"Cannot start {argv[0]}: {error.strerror}.") from error
    except (OSError, ValueError) as error:
        raise SandboxError(f"Cannot start {argv[0]}: {error}.") from error


@contextmanager
def _held_at(variable: str) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """A pipe whose reading end is the child's, by that variable, and which ends with this block."""
    if not variable:
        yield {}, ()
        return
    reading, writing = os.pipe()
    try:
        yield {variable: f"/proc/self/fd/{reading}"}, (reading,)
    finally:
        os.close(writing)


def _bound_memory(pid: int, most_bytes: int) -> None:
    """From outside: with threads around, little is safe between fork and exec. It may be over, or not allowed here."""
    with suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_DATA, (most_bytes, most_bytes))


class _Pump:
    """Moves bytes until the child exits or a clock runs out; a descendant that keeps a pipe does not count."""

    def __init__(self, child: "subprocess.Popen[bytes]", stdin: bytes, out: _Sink, err: _Sink) -> None:
        self._child = child
        self._pending = memoryview(stdin)
        self._poller = select.poll()
        self._sinks = {}
        self._out = out
        self.last_output = time.monotonic()
        for pipe, sink in ((child.stdout, out), (child.stderr, err)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._poller.register(pipe.fileno(), select.POLLIN)
            self._sinks[pipe.fileno()] = sink
        self._stdin_descriptor = -1
        if child.stdin is not None and stdin:
            self._stdin_descriptor = child.stdin.fileno()
            os.set_blocking(self._stdin_descriptor, False)
            self._poller.register(self._stdin_descriptor, select.POLLOUT)
        elif child.stdin is not None:
            child.stdin.close()

    def run(
        self, limits: ProcessLimits, control: ProcessControl, started: float, patience: float
    ) -> ExitReason:
        exit_descriptor = os.pidfd_open(self._child.pid)  # readable once the child has exited
        self._poller.register(exit_descriptor, select.POLLIN)
        try:
            while True:
                for descriptor, _event in self._poller.poll(_POLL_SECONDS * 1000):
                    self._serve(descriptor)
                if self._child.poll() is not None:
                    return ExitReason.EXITED
                if (reason := self._overdue(limits, control, started, patience)) is not None:
                    return reason
        finally:
            os.close(exit_descriptor)

    def _overdue(
        self, limits: ProcessLimits, control: ProcessControl, started: float, patience: float
    ) -> ExitReason | None:
        now = time.monotonic()
        if (reason := control.overdue_for(patience)) is not None:
            return reason
        if limits.ends_full and self._out.truncated:
            return ExitReason.OVERFULL
        if now - started > limits.total_seconds:
            return ExitReason.TIMED_OUT
        if limits.silence_seconds is not None and now - self.last_output > limits.silence_seconds:
            return ExitReason.SILENT
        return None

    def _serve(self, descriptor: int) -> None:
        if descriptor in self._sinks:
            self.last_output = time.monotonic()
            if not _read_some(descriptor, self._sinks[descriptor]):
                self._poller.unregister(descriptor)
        elif descriptor == self._stdin_descriptor:
            self._write_some(descriptor)

    def _write_some(self, descriptor: int) -> None:
        try:
            self._pending = self._pending[os.write(descriptor, self._pending[:_READ_BYTES]) :]
        except BlockingIOError:
            return
        except OSError:  # the child closed its input; what is left has no reader
            self._pending = memoryview(b"")
        if not self._pending and self._child.stdin is not None:
            self._poller.unregister(descriptor)
            self._stdin_descriptor = -1
            self._child.stdin.close()


def _read_some(fd: int, sink: _Sink) -> bool:
    """One chunk into the sink; False at the end of the stream."""
    try:
        chunk = os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return True
    if chunk:
        sink.feed(chunk)
    return bool(chunk)


def _drain(child: "subprocess.Popen[bytes]", out: _Sink, err: _Sink) -> None:
    """Read what is still in the pipes, bounded in time."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    for pipe, sink in ((child.stdout, out), (child.stderr, err)):
        while pipe is not None and time.monotonic() < deadline:
            try:
                chunk = os.read(pipe.fileno(), _READ_BYTES)
            except OSError:
                break
            if not chunk:
                break
            sink.feed(chunk)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


def _close_pipes(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _end_tree(child: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    """End the child and its process group: asked first, then made to."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_seconds)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class Service:
    """A long-lived child of a management command (web server, workers), with this process's environment.

    Its output goes to the terminal, or to the end of a file. It is asked to stop when this process dies, too.
    """

    def __init__(
        self, argv: Sequence[str], output: Path | None = None, *, pass_fds: Sequence[int] = ()
    ) -> None:
        with output.open("ab") if output else nullcontext() as file:
            self._child = subprocess.Popen(  # noqa: S603  # nosec B603  # the server's own programs
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=_ask_to_stop_with(os.getpid()),
                pass_fds=tuple(pass_fds),
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def poll(self) -> int | None:
        return self._child.poll()

    def terminate(self) -> None:
        """Ask it to stop; returns at once."""
        if self._child.poll() is None:
            self._child.terminate()

    def stop(self, *, within_seconds: float) -> int:
        """SIGTERM, then SIGKILL to its whole group; the exit code."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(within_seconds)
        _signal_group(self._child.pid, signal.SIGKILL)
        return self._child.wait()


def _ask_to_stop_with(parent: int) -> Callable[[], None]:
    """Run in the fresh child; what it needs is looked up here, for little is safe between fork and exec."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


class Helper:
    """A child of a worker that listens on its standard input and ends with it; in a session of its own."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._child = subprocess.Popen(  # noqa: S603  # nosec B603  # a list, no shell, a minimal environment
            list(argv),
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )
        assert self._child.stdin is not None
        self._input = self._child.stdin
        os.set_blocking(self._input.fileno(), False)

    @property
    def pid(self) -> int:
        return self._child.pid

    def send(self, data: bytes) -> bool:
        """False where it does not listen any more."""
        try:
            return os.write(self._input.fileno(), data) == len(data)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Close its input and let it end; after a while, end it."""
        with suppress(OSError):
            self._input.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(6)
        self._child.kill()
        self._child.wait()
