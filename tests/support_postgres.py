"""A private Postgres for tests: own cluster in a temporary folder, on a free loopback port, gone afterwards.

Works as root too, where Postgres itself must run as another user.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import lifeline

START_SECONDS = 60


class PostgresMissing(Exception):
    """No Postgres server programs on this machine; Debian's package is `postgresql-15`."""


def programs_folder() -> Path:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if config := shutil.which("pg_config"):
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        candidates.append(Path(answer.stdout.strip()))
    for folder in reversed(candidates):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresMissing(PostgresMissing.__doc__)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as, where this process is root; None: as this process."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresMissing("Postgres refuses to run as root, and there is no user postgres or nobody.")


class Postgres:
    """A server of its own; `halt` and `start` again keep its rows. `url` is a `DATABASE_URL`."""

    def __init__(self) -> None:
        self._programs, user = programs_folder(), _server_user()
        self._folder = Path(tempfile.mkdtemp(prefix="wo-pg-", dir="/tmp"))
        if user:
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._options: dict[str, Any] = {
            "cwd": self._folder,
            "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(self._folder)},
            **({"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}),
        }
        self._port = _free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"postgres://workorders@127.0.0.1:{self._port}/workorders"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def create(self) -> None:
        """An empty database that answers. Raises `RuntimeError` with Postgres's words."""
        try:
            self._run("initdb", "-D", str(self._data), "-U", "workorders", "-A", "trust", "-E", "UTF8", "-N")
            (self._data / "postgresql.auto.conf").write_text(
                "fsync=off\nsynchronous_commit=off\nfull_page_writes=off\nmax_connections=200\n"
                f"listen_addresses='127.0.0.1'\nport={self._port}\nunix_socket_directories='{self._folder}'\n"
            )
            self.start()
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "workorders", "workorders")
        except subprocess.CalledProcessError as error:
            raise RuntimeError(
                f"{error.cmd[0]} failed: {error.stderr.decode(errors='replace')[-500:]}"
            ) from error

    def demand_passwords(self) -> None:
        """From everybody who connects from now on; nobody has one."""
        (self._data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        self._run("pg_ctl", "reload", "-D", str(self._data))

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data)],
                stdout=log,
                stderr=log,
                **self._options,
            )
        lifeline.hold(self._server, number=signal.SIGINT)
        _wait_until_ready(self._server, self._programs, self._port, self._folder)

    def halt(self) -> None:
        """Ends all connections, as a restart of the server does."""
        if self._server is None:
            return
        self._server.send_signal(signal.SIGINT)  # fast shutdown
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()

    def remove(self) -> None:
        self.halt()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        argv = [str(self._programs / program), *arguments]
        subprocess.run(argv, check=True, capture_output=True, **self._options)


@contextmanager
def private_postgres() -> Iterator[Postgres]:
    """Created, and removed at the end. Raises `PostgresMissing`."""
    postgres = Postgres()
    try:
        postgres.create()
        yield postgres
    finally:
        postgres.remove()


def _wait_until_ready(server: subprocess.Popen[bytes], programs: Path, port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    probe = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(probe, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Postgres did not start: {(folder / 'log').read_text()[-500:]}")
        time.sleep(0.1)
