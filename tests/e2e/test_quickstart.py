"""`quickstart`, as somebody tries it out: an empty folder, and nothing in the environment."""

import re
from pathlib import Path

import pytest

from tests.e2e.harness import LiveServer, processes_with

pytestmark = pytest.mark.e2e


def test_once(tmp_path: Path) -> None:
    server = LiveServer(tmp_path, {})
    server.environment = {
        name: value for name, value in server.environment.items() if not name.startswith("WORKORDERS_")
    } | {"WORKORDERS_DATA_DIR": str(server.data_dir)}
    ended = server.manage("quickstart", "--once", f"--port={server.port}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "status  completed (branch_pushed)" in ended.stdout
    assert re.search(
        rf"Work order wo-\w{{8}}: http://127\.0\.0\.1:{server.port}/work-orders/wo-\w{{8}}/", ended.stdout
    )
    assert "agent_work_order_created" not in ended.stderr
    assert processes_with(str(server.data_dir)) == []
    assert server.leftovers() == []
