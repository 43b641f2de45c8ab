"""An installation that an earlier release made, put back: its data folder, its database, and what GitHub has of it.

`make_fixture.py` beside this says how it was made and what is in it.
"""

import gzip
import json
import shutil
import socket
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.conftest import World
from tests.e2e.harness import SQLITE_FILE, Json
from tests.fakes.github import Comment, Issue, PullRequest, Repository

RELEASES = Path(__file__).parent
_TEXT_LIMIT = 4096  # what names a path in git's folders is short


@dataclass
class Installation:
    """`orders`: what the old release's API said of each, by the name the history gave it."""

    repository: Repository
    orders: dict[str, Json]
    api_key: str

    def id_of(self, name: str) -> str:
        return str(self.orders[name]["agent_work_order_id"])


def restore(release: str, database_url: str, world: World, data_dir: Path) -> Installation:
    """As if this host had made it: paths and the host's name are this one's. Nothing of it has run since."""
    source = RELEASES / release / ("postgres" if database_url else "sqlite")
    state = json.loads((source / "state.json").read_text())
    folder = data_dir.parent / "unpacked"
    with tarfile.open(source / "data.tar.gz") as archive:
        archive.extractall(folder, filter="fully_trusted")
    (folder / "data").rename(data_dir)
    data_dir.chmod(0o700)
    shutil.rmtree(world.git.root, ignore_errors=True)
    (folder / "remotes").rename(world.git.root)
    for path in _small_files(data_dir):
        content = path.read_bytes()
        if state["data_dir"].encode() in content:
            path.write_bytes(content.replace(state["data_dir"].encode(), str(data_dir).encode()))
    if database_url:
        _load(database_url, gzip.decompress((source / "dump.sql.gz").read_bytes()).decode())
    _rename_host(database_url, data_dir / SQLITE_FILE, state["host_name"])
    repository = world.github.add_repository("acme", "widgets")
    told = state["github"]
    repository.issues = {item["number"]: Issue(**item) for item in told["issues"]}
    repository.pull_requests = {item["number"]: PullRequest(**item) for item in told["pull_requests"]}
    repository.comments = [Comment(**item) for item in told["comments"]]
    return Installation(repository, state["orders"], state["api_key"]["key"])


def _small_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < _TEXT_LIMIT:
            yield path


def _load(database_url: str, dump: str) -> None:
    """The text has no COPY blocks (`--inserts`), so that any client can run it."""
    lines = [line for line in dump.splitlines() if not line.startswith("\\")]  # psql's own commands
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("\n".join(lines))


def _rename_host(database_url: str, file: Path, old: str) -> None:
    statements: tuple[tuple[str, tuple[Any, ...]], ...] = (
        (
            "UPDATE workorders_agentworkorder SET preferred_host = ? WHERE preferred_host = ?",
            (socket.gethostname(), old),
        ),
        (
            "UPDATE workorders_agentworkorder SET claim_owner = replace(claim_owner, ?, ?)",
            (f"{old}:", f"{socket.gethostname()}:"),
        ),
        (
            "UPDATE workorders_phaserun SET worker = replace(worker, ?, ?)",
            (f"{old}:", f"{socket.gethostname()}:"),
        ),
    )
    if database_url:
        with psycopg.connect(database_url, autocommit=True) as postgres:
            for statement, values in statements:
                postgres.execute(statement.replace("?", "%s"), values)
        return
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement, values in statements:
            connection.execute(statement, values)
