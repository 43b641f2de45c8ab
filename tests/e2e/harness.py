"""The real server, as a user starts it: `manage.py serve` in its own process, driven over HTTP.

Output goes to a file, every wait is bounded, and only processes started here are ended, by their id.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx

from tests import lifeline

ROOT = Path(__file__).resolve().parents[2]
REHEARSAL = f"{sys.executable} -I -S {ROOT / 'workorders' / 'agents' / 'rehearsal.py'}"
START_SECONDS = 60.0
SQLITE_FILE = "workorders.sqlite3"
FINISHED = {"completed", "failed", "cancelled"}
Json = dict[str, Any]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for[T](look: Callable[[], T | None], seconds: float, what: str) -> T:
    """The first truthy answer of `look`, asked again and again for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


class LiveServer:
    """Web and workers on a folder of their own. `environment` is added to a minimal, explicit one."""

    def __init__(self, folder: Path, environment: Mapping[str, str], database_url: str = "") -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.log = folder / "server.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "WORKORDERS_SECRET_KEY": "for-end-to-end-tests-only",
            "WORKORDERS_DATA_DIR": str(self.data_dir),
            "WORKORDERS_AUTH": "none",
            "WORKORDERS_LOG_FORMAT": "json",
            "WORKORDERS_AGENT_COMMAND": REHEARSAL,
            **environment,
        }
        if database_url:
            self.environment["DATABASE_URL"] = database_url
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    def manage(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A management command to its end, in this server's environment."""
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def __enter__(self) -> Self:
        (self.folder / "home").mkdir(parents=True, exist_ok=True)
        database = self.data_dir / SQLITE_FILE
        if "DATABASE_URL" in self.environment or database.exists():
            self.migrate()
        else:
            self.data_dir.mkdir(mode=0o700, exist_ok=True)
            shutil.copy(_migrated_database(), database)
        self.start()
        return self

    def migrate(self) -> None:
        migrated = self.manage("migrate", "--verbosity=0")
        assert migrated.returncode == 0, migrated.stderr

    def command(self) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), "serve", f"--port={self.port}"]

    def start(self) -> None:
        """Also again, after a test has killed it."""
        if self._process is not None:
            self._process.wait(10)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        lifeline.hold(self._process)
        try:
            wait_for(self._ready, START_SECONDS, "the server")
        except BaseException:  # __exit__ does not run when __enter__ fails
            self.stop()
            print(self.tail())
            raise

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.tail()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Signal the server and wait for its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the server did not stop within {seconds} s\n{self.tail()}") from None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop_group(self, number: int, seconds: float = 30) -> int:
        """Signal the server's whole process group, as a terminal or systemd's default would; the exit code."""
        assert self._process is not None
        os.killpg(self._process.pid, number)
        return self._process.wait(seconds)

    def wait_killed(self) -> None:
        """After a SIGKILL of the server: until it is gone."""
        assert self._process is not None
        assert self._process.wait(10) == -signal.SIGKILL

    def __exit__(self, *_exception: object) -> None:
        self.http.close()
        self.stop()

    def tail(self, size: int = 6000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    # --- the API ---

    def create(self, **fields: Any) -> Json:
        body = {"sandbox_type": "git_branch", "workflow_type": "agent_workflow_plan_build_test", **fields}
        answer = self.http.post("/api/agent-work-orders", json=body)
        assert answer.status_code == 201, answer.text
        order: Json = answer.json()["agent_work_order"]
        return order

    def order(self, order_id: str) -> Json:
        answer = self.http.get(f"/api/agent-work-orders/{order_id}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()["agent_work_order"]
        return found

    def finished(self, order_id: str, seconds: float = 90) -> Json:
        def look() -> Json | None:
            found = self.order(order_id)
            return found if found["status"] in FINISHED else None

        return wait_for(look, seconds, f"the end of {order_id}; log:\n{self.tail()}")

    def completed(self, order_id: str, seconds: float = 90) -> Json:
        found = self.finished(order_id, seconds)
        assert found["status"] == "completed", (found, self.events(order_id)[-8:])
        return found

    def logs(self, order_id: str) -> list[Json]:
        answer = self.http.get(f"/api/agent-work-orders/{order_id}/logs", params={"limit": 1000})
        assert answer.status_code == 200, answer.text
        entries: list[Json] = answer.json()["log_entries"]
        return entries

    def events(self, order_id: str) -> list[str]:
        return [entry["event"] for entry in self.logs(order_id)]

    def leftovers(self) -> list[str]:
        """Places to work, also set aside, quarantines and bundles that are still there."""
        names = ("sandboxes", "kept", "quarantine", "outbox", "trash")
        return [str(path) for name in names for path in _children(self.data_dir / name)]


@cache
def _migrated_database() -> Path:
    """An empty SQLite database, migrated once for all servers of this process."""
    folder = Path(tempfile.mkdtemp(prefix="wo-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = LiveServer(folder, {})
    server.migrate()
    return server.data_dir / SQLITE_FILE


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def processes_with(needle: str) -> list[int]:
    """Ids of live processes whose command line or environment holds the text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if needle.encode() in text:
                found.append(int(entry.name))
    return found
