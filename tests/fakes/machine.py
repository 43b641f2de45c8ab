"""A machine to stand in for a cloud sandbox or a container: bubblewrap with a file system and processes of its own.

Processes live on between commands, see each other, and all end with the machine. Its folders are ordinary ones of
the test, shown inside at the paths a real one has.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

_INIT = Path(__file__).with_name("machine_init.py")
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")
_PYTHON = Path(sys.executable).resolve()
_CHUNK = 65536
# A parent-death signal follows the thread that forked, so machines are started by one that never ends.
_starter = ThreadPoolExecutor(1, "machine-starter")


@dataclass(frozen=True)
class Template:
    """What every machine finds: folders shown read-only, and the PATH of its login shells."""

    folders: tuple[Path, ...] = ()
    path: str = "/usr/local/bin:/usr/bin:/bin"

    @property
    def shown(self) -> tuple[Path, ...]:
        return (*self.folders, _PYTHON.parents[1], _INIT.parent)


@dataclass
class Program:
    """One started program: its output as chunks (`None` ends it), then its exit code."""

    pid: int
    output: "SimpleQueue[tuple[str, bytes] | None]"
    exit_code: "Future[int]"
    stdin: IO[bytes]

    def finish(self) -> tuple[int, bytes, bytes]:
        self.stdin.close()
        out, err = bytearray(), bytearray()
        while (chunk := self.output.get()) is not None:
            (out if chunk[0] == "stdout" else err).extend(chunk[1])
        return self.exit_code.result(30), bytes(out), bytes(err)


@dataclass
class _Started:
    pid: "Future[int]" = field(default_factory=Future)
    code: "Future[int]" = field(default_factory=Future)


class Machine:
    """`places` maps paths inside to folders or files of the test, which are writable."""

    def __init__(
        self, places: Mapping[str, Path], template: Template, *, environment: Mapping[str, str]
    ) -> None:
        self.environment = dict(environment)
        self._started: dict[int, _Started] = {}
        self._lock = threading.Lock()
        self._number = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        argv = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1"]
        argv += [
            "--die-with-parent",
            "--cap-drop",
            "ALL",
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--hostname",
            "machine",
        ]
        for name in SYSTEM_FOLDERS:
            path = Path(name)
            if path.is_symlink():
                argv += ["--symlink", str(path.readlink()), name]
            elif path.is_dir():
                argv += ["--ro-bind", name, name]
        argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/home"]
        for path in template.shown:
            argv += ["--ro-bind", str(path), str(path)]
        for inside, outside in places.items():
            argv += ["--bind", str(outside), inside]
        argv += ["--chdir", "/", str(_PYTHON), "-I", "-S", str(_INIT), str(theirs.fileno())]
        self._process = _starter.submit(
            subprocess.Popen,
            argv,
            env={"PATH": template.path},
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        ).result(30)
        theirs.close()
        threading.Thread(target=self._listen, daemon=True, name="machine-listener").start()

    def start(self, argv: Sequence[str], *, cwd: str = "/", env: Mapping[str, str] | None = None) -> Program:
        """Start a program inside; raises `OSError` where the machine is gone."""
        stdin_read, stdin_write = os.pipe()
        pipes = {name: os.pipe() for name in ("stdout", "stderr")}
        given = [stdin_read, pipes["stdout"][1], pipes["stderr"][1]]
        try:
            with self._lock:
                self._number += 1
                number, started = self._number, _Started()
                self._started[number] = started
                message = {"number": number, "argv": list(argv), "cwd": cwd}
                message["env"] = {**self.environment, **(env or {})}
                socket.send_fds(self._channel, [json.dumps(message).encode()], given)
        except OSError:
            os.close(stdin_write)
            for read, _write in pipes.values():
                os.close(read)
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        output: SimpleQueue[tuple[str, bytes] | None] = SimpleQueue()
        reads = {name: read for name, (read, _write) in pipes.items()}
        threading.Thread(target=_pump, args=(reads, output), daemon=True).start()
        stdin = os.fdopen(stdin_write, "wb", buffering=0)
        try:
            return Program(started.pid.result(30), output, started.code, stdin)
        except BaseException:
            stdin.close()
            raise

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """A program to its end: exit code, output, error output."""
        program = self.start(argv)
        with suppress(BrokenPipeError):
            program.stdin.write(stdin)
        return program.finish()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Everything in it ends at once, as when the power goes."""
        self._process.kill()
        self._process.wait(30)
        self._channel.close()

    def _listen(self) -> None:
        while True:
            try:
                data = self._channel.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                break
            told: dict[str, Any] = json.loads(data)
            started = self._started[told["number"]]
            if "pid" in told:
                started.pid.set_result(told["pid"])
            else:
                started.code.set_result(told["exit"])
        for started in self._started.values():
            for future in (started.pid, started.code):
                if not future.done():
                    future.set_exception(ConnectionError("the machine is gone"))


def _pump(reads: Mapping[str, int], output: "SimpleQueue[tuple[str, bytes] | None]") -> None:
    """Both streams into one queue; `None` once both are closed."""

    def copy(name: str, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK):
                output.put((name, chunk))

    other = threading.Thread(target=copy, args=("stderr", reads["stderr"]), daemon=True)
    other.start()
    copy("stdout", reads["stdout"])
    other.join()
    output.put(None)


def remove(folder: Path) -> None:
    """Also folders that were locked inside."""
    subprocess.run(["chmod", "-R", "u+rwx", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(folder, ignore_errors=True)
