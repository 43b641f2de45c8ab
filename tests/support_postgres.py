"""A private Postgres for tests: own cluster in a temporary folder, on a free loopback port, gone afterwards.

Works as root too, where Postgres itself must run as another user.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def start_postgres() -> tuple[str, Callable[[], None]]:
    """A `DATABASE_URL` that answers, and the function that stops and removes everything."""
    programs, user = programs_folder(), _server_user()
    folder = Path(tempfile.mkdtemp(prefix="wo-pg-", dir="/tmp"))
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    data, port = folder / "data", _free_port()

    def run(*argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True, cwd=folder, env=environment, **identity)

    try:
        run(str(programs / "initdb"), "-D", str(data), "-U", "workorders", "-A", "trust", "-E", "UTF8", "-N")
        (data / "postgresql.auto.conf").write_text(
            "fsync=off\nsynchronous_commit=off\nfull_page_writes=off\nmax_connections=200\n"
            f"listen_addresses='127.0.0.1'\nport={port}\nunix_socket_directories='{folder}'\n"
        )
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"initdb failed: {error.stderr.decode(errors='replace')[-500:]}") from error
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data)],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
            **identity,
        )

    def stop() -> None:
        server.send_signal(2)  # SIGINT: fast shutdown
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    try:
        _wait_until_ready(server, programs, port, folder)
        run(str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "workorders", "workorders")
    except (RuntimeError, subprocess.CalledProcessError):
        stop()
        raise
    return f"postgres://workorders@127.0.0.1:{port}/workorders", stop


def _wait_until_ready(server: subprocess.Popen[bytes], programs: Path, port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    probe = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(probe, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Postgres did not start: {(folder / 'log').read_text()[-500:]}")
        time.sleep(0.1)
