"""README, docs/operations.md and docs/api.md are typed in as they are written, block by block, in their order.

What a block needs from elsewhere stands in for itself: `uv run` is this environment's Python, GitHub and git are the
fakes, `you/project` exists there, the port and the order's id are this run's.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import blocks_of
from tests.e2e.conftest import MODEL_KEY, TOKEN, World
from tests.e2e.harness import REHEARSAL, ROOT, LiveServer, free_port
from tests.fakes.github import Issue

pytestmark = pytest.mark.e2e

# The first line of every block, and who types it: a test here, or where else.
README = {
    "pip install uv && uv run manage.py quickstart": "tests/e2e/test_quickstart.py",
    "Preparing the database …": "what the block before prints; tests/e2e/test_quickstart.py",
    "pip install uv && uv run pytest": ".ci/run",
    "# Long and random: python3 -c 'import secrets; print(secrets.token_urlsafe(50))'": "here",
    "set -a; . ./.env; set +a": "here",
    "uv run manage.py migrate": "here",
    "uv run manage.py serve": "here",
    "curl -s http://127.0.0.1:8000/api/agent-work-orders \\": "here",
    "uv run manage.py create_work_order --repository you/project --issue 42 --wait": "here",
}
OPERATIONS = {
    "apt-get install --yes git gh bubblewrap npm": "tests/e2e/test_server_install.py",
    "cd /opt/work-orders": "tests/e2e/test_server_install.py",
    "work-orders collectstatic --noinput": "tests/e2e/test_server_install.py",
    "install -m 644 /opt/work-orders/deploy/work-orders.service /etc/systemd/system/": (
        "tests/e2e/test_server_install.py"
    ),
    '{"models": {"my-model": {"input": 2, "output": 8}, "claude-opus-4-8": '
    '{"input": 4, "output": 20, "cache_read": 0.4}}}': "here",
    "uv run manage.py backup                      "
    "# <data folder>/backups/workorders-<time>.sqlite3, or .dump on Postgres": "here",
    "install -d -m 700 var && install -m 600 wo.sqlite3 var/workorders.sqlite3    "
    "# SQLite; no -wal or -shm file beside it": "here",
    'createdb --maintenance-db="$DATABASE_URL" restored                           # Postgres': "here",
    "uv run manage.py migrate": "here",
    "uv run python -m tests.chaos --orders 200 --workers 4 --clusters 2 --seed 1 --faults 0.05 --database postgres": (
        "tests/chaos"
    ),
    "systemctl stop work-orders": "tests/e2e/test_server_install.py",
}
# A cancelled or finished order allows no cancel, retry or approval; the documented answer to that is 409.
ANSWERS = {"200", "201", "202", "409"}
ORDER_IN_DOCS, SHA_IN_DOCS = "wo-abcdefgh", "…all 40 characters…"


def block(page: str, beginning: str, number: int = 0) -> str:
    return [found for found in blocks_of(page) if found.startswith(beginning)][number]


class Shell:
    """A folder to type in, with `uv` and a `curl` that also says each answer's status."""

    def __init__(self, folder: Path, environment: dict[str, str], port: int) -> None:
        self._folder, self._port = folder, port
        programs = folder / "programs"
        programs.mkdir()
        self.answers = folder / "answers"
        manage = f"exec {shlex.quote(sys.executable)} {ROOT / 'manage.py'}"
        self._script(
            programs / "uv",
            f'[ "$1 $2" = "run manage.py" ] || exit 99\nshift 2\n'
            f'if [ "$1" = serve ]; then {manage} "$@" --port={port}; fi\n{manage} "$@"',
        )
        curl = "/usr/bin/curl"
        self._script(
            programs / "curl", f'exec {curl} -w "%{{stderr}}%{{http_code}}\\n" "$@" 2>>{self.answers}'
        )
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            **environment,
        }

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def type(self, script: str, *, seconds: float = 120, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-eu", "-c", script.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{self._port}")],
            cwd=self._folder,
            env={**self._environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def statuses(self) -> list[str]:
        return self.answers.read_text().split()


def test_every_block_is_typed_somewhere() -> None:
    assert [found.splitlines()[0] for found in blocks_of("README.md")] == list(README)
    assert [found.splitlines()[0] for found in blocks_of("docs/operations.md")] == list(OPERATIONS)
    for where in {*README.values(), *OPERATIONS.values()} - {"here"}:
        assert (ROOT / where.split("; ")[-1]).exists(), where


def test_readme_and_backups(tmp_path: Path, world: World) -> None:
    """From the variables to a pull request, by the page and by the shell; then a backup, and the way back."""
    repository = world.add_repository("you", "project")
    repository.issues[42] = Issue(42, "Greet", "Say hello.", "someone")
    away = {"GH_TOKEN", "ANTHROPIC_API_KEY"}
    given = {name: value for name, value in world.environment.items() if name not in away}
    (tmp_path / "prices.json").write_text(block("docs/operations.md", '{"models"'))
    more = {"WORKORDERS_MODEL_PRICES": str(tmp_path / "prices.json"), "WORKORDERS_AGENT_COMMAND": REHEARSAL}
    shell = Shell(tmp_path, {**given, **more, "WORKORDERS_DATA_DIR": "var"}, free_port())
    variables = block("README.md", "# Long and random")
    for name, value in {
        "WORKORDERS_SECRET_KEY": "aZ3-k9_" * 10,
        "GH_TOKEN": TOKEN,
        "ANTHROPIC_API_KEY": MODEL_KEY,
    }.items():
        assert f"\n{name}=\n" in variables
        variables = variables.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    (tmp_path / ".env").write_text(variables)
    export = block("README.md", "set -a")
    ready = shell.type(export + block("README.md", "uv run manage.py migrate"))
    assert ready.returncode == 0, ready.stdout + ready.stderr
    assert "Work orders can run here." in ready.stdout
    worked = shell.type(
        export + block("README.md", "uv run manage.py serve").rstrip() + " >server.log 2>&1 &\nserver=$!\n"
        "until /usr/bin/curl -sf http://127.0.0.1:8000/readyz >/dev/null; do sleep 0.1; done\n"
        + block("README.md", "curl -s")
        + block("README.md", "uv run manage.py create_work_order")
        + "kill $server\nwait $server\n"
    )
    assert worked.returncode == 0, (
        worked.stdout + worked.stderr + (tmp_path / "server.log").read_text()[-3000:]
    )
    assert shell.statuses() == ["201"]
    assert "status: completed" in worked.stdout
    (tmp_path / "elsewhere").mkdir()
    saved = shell.type(
        export + block("docs/operations.md", "uv run manage.py backup").replace("/mnt/elsewhere", "elsewhere")
    )
    assert saved.returncode == 0, saved.stderr
    restored = shell.type(
        f"{export}mv var gone\nmv elsewhere/wo.sqlite3 .\n"
        + block("docs/operations.md", "install -d -m 700 var")
        + block("docs/operations.md", "uv run manage.py migrate").replace("uv run manage.py serve", "")
        + "uv run manage.py list_work_orders\n"
    )
    assert restored.returncode == 0, restored.stderr
    assert "2 of 2 work orders" in restored.stdout


def test_a_restore_of_postgres(tmp_path: Path, postgres_url: str) -> None:
    more = {"DATABASE_URL": postgres_url, "WORKORDERS_SECRET_KEY": "k" * 50, "WORKORDERS_DATA_DIR": "var"}
    done = Shell(tmp_path, more, free_port()).type(
        "uv run manage.py migrate -v0\nuv run manage.py createsuperuser --noinput --username ada --email a@b.org\n"
        "uv run manage.py backup wo.dump\n"
        + block("docs/operations.md", "createdb")
        + block("docs/operations.md", "uv run manage.py migrate").replace("uv run manage.py serve", "")
        + "uv run manage.py create_api_key --user ada --name x\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Database: Postgres restored on 127.0.0.1" in done.stderr


def test_the_api(tmp_path: Path, world: World) -> None:
    world.add_repository("you", "project")
    environment = {**world.environment, "WORKORDERS_AGENT_ISOLATION": "none"}
    with LiveServer(tmp_path / "server", environment) as server:
        server.manage("createsuperuser", "--noinput", "--username", "ada", "--email", "a@b.org")
        key = server.manage(
            "create_api_key", "--user", "ada", "--name", "what for", "--scope", "write"
        ).stdout.strip()
        shell = Shell(tmp_path, {"WORK_ORDERS_KEY": key}, server.port)
        first = server.create(repository_url="you/project", initial_prompt="x")["agent_work_order_id"]
        text = "\n".join(blocks_of("docs/api.md"))
        number = len(re.findall(r"^ *curl ", text, re.MULTILINE))
        text = text.replace("https://work-orders.example.org", "http://127.0.0.1:8000")
        typed = shell.type(text.replace(ORDER_IN_DOCS, first).replace(SHA_IN_DOCS, "0" * 40))
        assert typed.returncode == 0, typed.stderr
    assert len(shell.statuses()) == number > 10
    assert set(shell.statuses()) <= ANSWERS
    assert shell.statuses().count("409") <= 3
