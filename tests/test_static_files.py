"""Static files as `serve` collects them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECT = """
import sys
import django
from django.conf import settings
settings.STATIC_ROOT = sys.argv[1]
django.setup()
from workorders.management.web import collect_static
print("ready", flush=True)
sys.stdin.readline()
collect_static()
"""


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
