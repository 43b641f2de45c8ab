"""Makes the fixture of an installation of an earlier release, by running that release. Started by hand, not by tests:

    git worktree add /tmp/old bf88c98
    uv run python tests/upgrade/make_fixture.py /tmp/old tests/upgrade/release-0.1

Everything of the product and of the test material is the old release's own; this file only says what happens: orders
that are finished, failed, cancelled, that wait for a person, that were running when the machine lost its power (with
commits nobody pushed and files nobody committed), and one that nobody has begun. For each database a folder:

    state.json      what the release's API and its GitHub said at the end, and the paths and names that were in use
    data.tar.gz     the data folder (with SQLite's file), and the bare repositories of the git host
    dump.sql.gz     Postgres only: `pg_dump` as text
"""

import gzip
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

_LEFT_RUNNING = (
    "agent[implementing#1]: commit kept-{kind}.txt\n"
    "agent[implementing#1]: leave left-{kind}.txt\n"
    "agent[implementing#1]: sleep 600"
)
_NOT_NEEDED = ("logs", "run", "locks", "trash", "outbox", "quarantine", "static")


def main(release: Path, target: Path) -> None:
    sys.path.insert(0, str(release))
    os.environ["PYTHONPATH"] = str(release)
    from tests.support_postgres import private_postgres

    _make(release, target / "sqlite", "", None)
    with private_postgres() as postgres:
        _make(release, target / "postgres", postgres.url, postgres)


def _make(release: Path, target: Path, database_url: str, postgres: Any) -> None:
    from tests.e2e.conftest import running_world
    from tests.e2e.harness import LiveServer

    folder = Path(tempfile.mkdtemp(prefix="wo-fixture-"))
    scripted = f"{sys.executable} {release / 'tests' / 'e2e' / 'scripted_agent.py'}"
    with running_world(folder / "world") as world:
        repository = world.add_repository()
        world.github.add_issue(repository, "Widgets cannot be counted", "Please add a counter.")
        environment = {
            **world.environment,
            "WORKORDERS_AGENT_COMMAND": scripted,
            "WORKORDERS_LEASE_SECONDS": "6",
            "WORKORDERS_WORKERS": "6",
        }
        server = LiveServer(folder / "server", environment, database_url)
        with server:
            orders = _history(server)
            answers = {name: server.order(order_id) for name, order_id in orders.items()}
            answers |= {name: server.order(order_id) for name, order_id in _running(server, orders).items()}
            server.stop_group(signal.SIGKILL)
        answers["pending"] = _printed(
            server, "create_work_order", "--repository", "acme/widgets", "--workflow", "agent_workflow_plan"
        )["agent_work_order"]
        server.environment["DJANGO_SUPERUSER_PASSWORD"] = "correct horse battery staple"
        server.manage("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org")
        key = _printed(
            server, "create_api_key", "--user", "ada", "--name", "old", "--scope", "write", "--days", "0"
        )
        time.sleep(1)
        target.mkdir(parents=True, exist_ok=True)
        state = {
            "data_dir": str(server.data_dir),
            "host_name": socket.gethostname(),
            "api_key": key,
            "orders": answers,
            "github": {
                "issues": [asdict(item) for item in repository.issues.values()],
                "pull_requests": [asdict(item) for item in repository.pull_requests.values()],
                "comments": [asdict(item) for item in repository.comments],
            },
        }
        (target / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True, default=str) + "\n")
        if postgres is None:
            with sqlite3.connect(server.data_dir / "workorders.sqlite3") as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            _dump(database_url, target / "dump.sql.gz")
        for name in _NOT_NEEDED:
            shutil.rmtree(server.data_dir / name, ignore_errors=True)
        with tarfile.open(target / "data.tar.gz", "w:gz") as archive:
            archive.add(server.data_dir, "data")
            archive.add(folder / "world" / "remotes", "remotes")
    shutil.rmtree(folder, ignore_errors=True)


def _history(server: Any) -> dict[str, str]:
    """Orders that have come to rest, by name."""
    url = "https://github.com/acme/widgets"
    wanted = {
        "completed": {"github_issue_number": "1"},
        "followed_up": {"sandbox_type": "git_worktree", "workflow_type": "agent_workflow_build"},
        "failed": {"initial_prompt": "agent[implementing]: fail", "workflow_type": "agent_workflow_build"},
        "prompt_failed": {"workflow_type": "agent_workflow_build", "initial_prompt": "Count."},
        "cancelled": {"workflow_type": "agent_workflow_build", "initial_prompt": "agent: sleep 600"},
        "waiting": {
            "workflow_type": "agent_workflow_build",
            "initial_prompt": "agent: commit .github/workflows/ci.yml",
        },
    }
    orders = {
        name: server.create(repository_url=url, **fields)["agent_work_order_id"]
        for name, fields in wanted.items()
    }
    for name in ("completed", "followed_up", "prompt_failed"):
        server.completed(orders[name])
    server.finished(orders["failed"])
    _wait(lambda: server.order(orders["waiting"])["waiting_reason"])
    _wait(lambda: server.order(orders["cancelled"])["status"] == "running")
    server.http.post(f"/api/agent-work-orders/{orders['cancelled']}/cancel")
    server.finished(orders["cancelled"])
    for name, text in (
        ("followed_up", "agent: commit more.txt"),
        ("prompt_failed", "agent[implementing]: fail"),
    ):
        answer = server.http.post(f"/api/agent-work-orders/{orders[name]}/prompt", json={"prompt_text": text})
        assert answer.status_code < 300, answer.text
        server.finished(orders[name])
    return orders


def _running(server: Any, orders: dict[str, str]) -> dict[str, str]:
    """Two whose agents are at work, with a commit that this host's mirror has and nobody has pushed."""
    running = {}
    for kind in ("git_branch", "git_worktree"):
        order = server.create(
            repository_url="https://github.com/acme/widgets",
            sandbox_type=kind,
            workflow_type="agent_workflow_plan_build_test",
            initial_prompt=_LEFT_RUNNING.format(kind=kind),
        )
        running[f"running_{kind}"] = order["agent_work_order_id"]
    for order_id in running.values():
        _wait(lambda order_id=order_id: server.order(order_id)["git_commit_count"] == 2)
    return running


def _printed(server: Any, *command: str) -> Any:
    done = server.manage(*command, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _wait(look: Any) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, "waited 60 s in vain"
        time.sleep(0.1)


def _dump(database_url: str, target: Path) -> None:
    argv = [
        "pg_dump",
        "--no-owner",
        "--no-privileges",
        "--inserts",
        database_url.replace("postgres://", "postgresql://"),
    ]
    done = subprocess.run(argv, capture_output=True, check=True)
    with gzip.GzipFile(target, "wb", mtime=0) as file:
        file.write(done.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
