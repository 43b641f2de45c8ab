"""Where a process logs: servers on standard output, commands on standard error, and strangers' mistakes in one line."""

import io
import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp.http_exceptions
import pytest
from django.core.exceptions import DisallowedHost

from config.logging import configure_logging, log_stream
from tests.e2e.harness import ROOT, LiveServer, wait_for

ANY_ORDER = "ANY_ORDER"
# Every command that has `--json`, in an order in which each succeeds on the one before.
JSON_COMMANDS = (
    ("create_work_order", "--repository", "acme/widgets", "--json"),
    ("list_work_orders", "--json"),
    ("show_work_order", ANY_ORDER, "--json"),
    ("cancel_work_order", ANY_ORDER, "--json"),
    ("retry_work_order", ANY_ORDER, "--json"),
    ("create_api_key", "--user", "ada", "--name", "one", "--json"),
    ("list_api_keys", "--json"),
    ("doctor", "--json"),
    ("prune", "--dry-run", "--json"),
)
WAITING_ONLY = {"approve_work_order", "continue_work_order"}  # they end as `retry_work_order` does


@pytest.mark.parametrize(
    ("argv", "stream"),
    [
        (["manage.py", "serve"], "stdout"),
        (["/opt/x/manage.py", "qcluster", "--workers", "2"], "stdout"),
        (["manage.py", "model_gateway", "--fd=8"], "stdout"),
        (["/venv/site-packages/gunicorn/__main__.py", "config.wsgi:application"], "stdout"),
        (["manage.py", "doctor", "--json"], "stderr"),
        (["manage.py"], "stderr"),
        (["manage.py", "quickstart"], "stderr"),
    ],
)
def test_who_logs_where(argv: list[str], stream: str) -> None:
    assert log_stream(argv) is getattr(sys, stream)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    found = LiveServer(tmp_path, {"WORKORDERS_LOG_LEVEL": "DEBUG", "GH_TOKEN": ""})
    yield found
    found.http.close()


@pytest.mark.e2e
def test_each_commands_json_can_be_parsed_at_level_debug(server: LiveServer) -> None:
    server.migrate()
    server.environment["DJANGO_SUPERUSER_PASSWORD"] = "correct horse battery staple"
    server.manage("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org")
    order = ""
    for command in JSON_COMMANDS:
        done = server.manage(*(order if word is ANY_ORDER else word for word in command))
        try:
            found = json.loads(done.stdout)
        except ValueError:
            pytest.fail(f"{command}: {done.stdout[:300]} {done.stderr[-300:]}")
        if command[0] == "create_work_order":
            order = found["agent_work_order"]["agent_work_order_id"]
    assert {command[0] for command in JSON_COMMANDS} | WAITING_ONLY == _commands_with_json()


def _commands_with_json() -> set[str]:
    folder = ROOT / "workorders" / "management" / "commands"
    return {
        path.stem
        for path in folder.glob("*.py")
        if '"--json"' in path.read_text() or "OneOrderCommand" in path.read_text()
    }


@pytest.mark.e2e
def test_a_server_logs_on_standard_output_alone(server: LiveServer, tmp_path: Path) -> None:
    server.migrate()
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            server.command(),
            env=server.environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            wait_for(lambda: "cluster_started" in out.read_text() and _answers(server), 30, "the server")
            with socket.create_connection(("127.0.0.1", server.port)) as stray:
                stray.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                stray.recv(100)
            wait_for(lambda: "Invalid request from" in out.read_text(), 10, "the web server's line")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert err.read_text() == ""
    assert "Traceback" not in out.read_text()


def _answers(server: LiveServer) -> bool:
    try:
        return server.http.get("/healthz").status_code == 200
    except OSError:
        return False
    except Exception:  # httpx's own, while nobody listens yet
        return False


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    # only what the standard library's loggers go through: structlog's keep the processors they first met, for good
    monkeypatch.setattr("structlog.configure", lambda **_options: None)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(log_format="json", log_level="INFO", order_log_folder=tmp_path, stream=stream)
    yield stream
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("django.security.DisallowedHost", DisallowedHost("Invalid HTTP_HOST header: 'evil.example'.")),
        ("aiohttp.server", aiohttp.http_exceptions.BadStatusLine("PRI * HTTP/2.0")),
        ("aiohttp.server", aiohttp.http_exceptions.BadHttpMessage("Pause on PRI/Upgrade")),
    ],
)
def test_what_a_stranger_got_wrong_is_one_line(written: io.StringIO, name: str, error: Exception) -> None:
    _log(name, error)
    [line] = [json.loads(text) for text in written.getvalue().splitlines()]
    assert "exception" not in line
    assert " ".join(str(error).split())[:15] in line["error"]


def test_a_mistake_of_ours_keeps_its_traceback(written: io.StringIO) -> None:
    _log("aiohttp.server", ValueError("ours"))
    assert "Traceback" in json.loads(written.getvalue())["exception"]


def _log(name: str, error: Exception) -> None:
    fields: dict[str, Any] = {}
    try:
        raise error
    except Exception:
        logging.getLogger(name).exception("Error handling request", **fields)
