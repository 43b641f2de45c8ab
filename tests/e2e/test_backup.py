"""A backup is worth what its restore is: back up, destroy, restore on an empty data folder, and work goes on."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import LiveServer
from tests.fakes.git_http import branches, create_bare_repository, git
from tests.support_postgres import programs_folder

pytestmark = pytest.mark.e2e


def restore(copy: Path, server: LiveServer, database_url: str) -> None:
    """As docs/operations.md says it."""
    if not database_url:
        server.data_dir.mkdir(mode=0o700)
        shutil.copy(copy, server.data_dir / "workorders.sqlite3")
        return
    programs = programs_folder()
    restored = f"{database_url}_restored"
    for argv in (
        ["createdb", f"--maintenance-db={database_url}", restored.rsplit("/", 1)[1]],
        ["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={restored}", str(copy)],
    ):
        subprocess.run([str(programs / argv[0]), *argv[1:]], check=True, capture_output=True, timeout=60)
    server.environment["DATABASE_URL"] = restored


def test_back_up_destroy_restore_and_go_on(tmp_path: Path, database_url: str) -> None:
    remote = tmp_path / "remote.git"
    create_bare_repository(remote)
    environment = {
        "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
        "PATH": f"{os.environ['PATH']}:{programs_folder()}",
    }
    copy = tmp_path / "copy"
    with LiveServer(tmp_path / "server", environment, database_url) as server:
        order = server.create(repository_url=str(remote), initial_prompt="Say hello")
        order_id = order["agent_work_order_id"]
        before = server.completed(order_id)
        logged = server.events(order_id)
        done = server.manage("backup", str(copy))  # while it runs
        assert done.returncode == 0, done.stderr
        assert copy.stat().st_mode & 0o077 == 0
        again = server.manage("backup", str(copy))
        assert (again.returncode, "is there already" in again.stderr) == (1, True)
        lost = server.create(repository_url=str(remote), initial_prompt="After the backup")
        server.completed(lost["agent_work_order_id"])

        server.stop()
        shutil.rmtree(server.data_dir)
        restore(copy, server, database_url)
        assert server.manage("migrate", "--check").returncode == 0
        server.start()
        after = server.order(order_id)
        assert {**after, "updated_at": ""} == {**before, "updated_at": ""}
        assert server.events(order_id) == logged
        assert server.http.get(f"/api/agent-work-orders/{lost['agent_work_order_id']}").status_code == 404

        head = branches(remote)[order["git_branch_name"]]
        answer = server.http.post(
            f"/api/agent-work-orders/{order_id}/prompt", json={"prompt_text": "Say goodbye too"}
        )
        assert answer.status_code in (200, 201, 202), answer.text
        followed = server.completed(order_id)
        assert followed["git_commit_count"] > before["git_commit_count"]
        now = branches(remote)[order["git_branch_name"]]
        assert git("merge-base", head, now, folder=remote) == head, "built upon what was pushed before"
        assert server.leftovers() == []
