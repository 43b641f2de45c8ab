"""Static files as `serve` collects them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import LazySettings
from structlog.testing import capture_logs

from workorders.serving import web

ROOT = Path(__file__).resolve().parents[2]
COLLECT = """
import sys
import django
from django.conf import settings
settings.STATIC_ROOT = sys.argv[1]
django.setup()
from workorders.serving.web import collect_static
print("ready", flush=True)
sys.stdin.readline()
collect_static()
"""


def test_code_of_another_account_is_said_with_the_command(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    settings.STATIC_ROOT = tmp_path
    monkeypatch.setattr(web, "exclusive_lock", refused)
    with capture_logs() as said:
        web.collect_static()
    (line,) = said
    assert line["event"] == "static_files_not_collected"
    assert f"{ROOT}/deploy/work-orders collectstatic --noinput" in line["advice"]


def test_servers_that_start_at_once_collect_the_files_once(tmp_path: Path) -> None:
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", COLLECT, str(tmp_path)],
            cwd=ROOT,
            env=dict(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for server in servers:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    for server in servers:
        assert server.stdin is not None
        server.stdin.write("go\n")
        server.stdin.flush()
    assert [server.communicate(timeout=60) and server.returncode for server in servers] == [0, 0, 0]
    names = json.loads((tmp_path / "staticfiles.json").read_text())["paths"]
    without_hashes = {re.sub(r"\.[0-9a-f]{12}(?=\.|$)", "", hashed) for hashed in names.values()}
    assert without_hashes == set(names)
