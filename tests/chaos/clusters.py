"""The server of a chaos run: a web process and clusters beside each other, each of which can be hurt."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import lifeline
from tests.chaos.excuses import Run
from tests.e2e.harness import ROOT, START_SECONDS, LiveServer, wait_for
from tests.support import catches

Rows = list[tuple[Any, ...]]
DRAIN_LIMIT_SECONDS = 60.0


class Cluster:
    """One `qcluster`, started again whenever it is not there, as a process supervisor would."""

    def __init__(self, name: str, server: "ChaosServer", workers: int, extra: Mapping[str, str]) -> None:
        self.name = name
        self._server = server
        self._workers = workers
        self._extra = dict(extra)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = server.folder / f"{name}.log"

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "qcluster", f"--workers={self._workers}"],
                env={**self._server.environment, **self._extra},
                cwd=self._server.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        lifeline.hold(self._process)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def keep_up(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()

    def processes(self) -> list[int]:
        """Main process first, then what descends from it and is a worker's, not an agent's."""
        return [self.pid, *(pid for pid in descendants(self.pid) if b"qcluster" in command_of(pid))]

    def kill(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(20)

    def drain(self) -> int:
        """SIGTERM to the whole process group, as systemd's default and Ctrl-C do; its exit code.

        One that was started just now gets it once a line of ours has run.
        """
        process = self._process
        assert process is not None
        wait_for(
            lambda: catches(self.pid, signal.SIGTERM) or process.poll() is not None,
            START_SECONDS,
            f"the first line of {self.name}",
        )
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        try:
            return process.wait(DRAIN_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return -99


class ChaosServer(LiveServer):
    """Web without workers; the clusters are beside it."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        database_url: str,
        *,
        clusters: int,
        workers: int,
    ) -> None:
        super().__init__(folder, environment, database_url)
        self.clusters = [Cluster(f"cluster-{number}", self, workers, {}) for number in range(1, clusters + 1)]

    def start(self) -> None:
        for cluster in self.clusters:
            cluster.start()
        argv = [
            *(sys.executable, "-m", "gunicorn", "config.wsgi:application", f"--bind=127.0.0.1:{self.port}"),
            *(f"--pythonpath={ROOT}", "--worker-class=gthread", "--threads=4", "--no-control-socket"),
            *("--log-level=warning", "--timeout=120"),
        ]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                env={**self.environment, "DJANGO_SETTINGS_MODULE": "config.settings"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        lifeline.hold(self._process)
        try:
            wait_for(self._ready, START_SECONDS * 2, "the server and its clusters")
        except BaseException:
            self.stop()
            raise

    def stop(self, *, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        for cluster in self.clusters:
            if cluster._process is not None and cluster._process.poll() is None:
                cluster.drain()
        return super().stop(number=number, seconds=seconds)

    # --- the database, as it is, beside the server ---

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """One statement in a transaction of its own; `?` marks parameters."""
        if url := self.environment.get("DATABASE_URL", ""):
            import psycopg

            with psycopg.connect(url) as connection:
                cursor = connection.execute(sql.replace("?", "%s").encode(), parameters)
                return cursor.fetchall() if cursor.description else []
        driver = _sqlite()
        connection = driver.connect(str(self.data_dir / "workorders.sqlite3"), timeout=20)
        try:
            with connection:
                return list(connection.execute(sql, parameters).fetchall())
        finally:
            connection.close()

    def runs(self, order_id: str) -> list[Run]:
        """All phase runs of an order, oldest first."""
        rows = self.query(
            "SELECT r.kind, r.phase, r.status, r.error_category FROM workorders_phaserun r "
            "JOIN workorders_agentworkorder o ON o.id = r.agent_work_order_id "
            "WHERE o.agent_work_order_id = ? ORDER BY r.sequence",
            [order_id],
        )
        return [Run(*row) for row in rows]

    def supervisors(self) -> list[int]:
        """Process ids of the workers that run steps, by the registry of workers."""
        names = self.query("SELECT name FROM workorders_workerprocess WHERE name NOT LIKE ?", ["%:cluster%"])
        mine = {pid for cluster in self.clusters for pid in cluster.processes()}
        found = {int(name.split(":")[1]) for (name,) in names if name.count(":") == 2}
        return sorted(found & mine)

    def double_a_ticket(self) -> None:
        """The same message once more, so that two workers take it at the same instant."""
        self.query(
            "INSERT INTO django_q_ormq (key, payload, lock) SELECT key, payload, lock FROM django_q_ormq "
            "ORDER BY id DESC LIMIT 1"
        )


def _sqlite() -> Any:
    """The server's own SQLite: the system's must not write to a live database (docs/adr/0007)."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        from sqlite3 import dbapi2
    return dbapi2


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def start_time(pid: int) -> str:
    """Distinguishes a process from a later one of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
