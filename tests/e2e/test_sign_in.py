"""A server that asks people to sign in: what is open, how a program gets in, and what the logs keep to themselves."""

from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.e2e.harness import LiveServer

pytestmark = pytest.mark.e2e
MAKE_A_KEY = """
from django.contrib.auth.models import User
from django.core.management import call_command
User.objects.create_user("ann")
call_command("create_api_key", "--user=ann", "--name=e2e", "--scope=write")
"""


def test_a_program_with_a_key(tmp_path: Path, world: World) -> None:
    world.add_repository()
    secrets = tmp_path / "secret"
    secrets.touch(mode=0o600)
    secrets.write_text(f"{world.environment['GH_TOKEN']}\n")
    environment = {name: value for name, value in world.environment.items() if name != "GH_TOKEN"}
    environment |= {
        "WORKORDERS_AUTH": "required",
        "WORKORDERS_ADMIN_PATH": "back-office/",
        "GH_TOKEN_FILE": str(secrets),
    }
    with LiveServer(tmp_path / "server", environment) as server:
        http = server.http
        assert http.get("/healthz").status_code == 200
        assert http.get("/static/workorders/app.css").status_code == 200
        assert http.get("/").headers["Location"] == "/account/login/?next=/"
        assert "createsuperuser" in http.get("/account/login/").text
        assert http.get("/back-office/").status_code == 302
        assert http.get("/admin/").status_code == 404
        assert http.get("/api/agent-work-orders").headers["WWW-Authenticate"].startswith("Bearer")
        made = server.manage("shell", "--verbosity=0", "--command", MAKE_A_KEY)
        assert made.returncode == 0, made.stderr
        key = made.stdout.strip()
        http.headers["Authorization"] = f"Bearer {key}"
        order = server.create(repository_url="acme/widgets")
        server.completed(order["agent_work_order_id"])
        assert "ann (key wok_" in str(server.logs(order["agent_work_order_id"]))
        assert server.manage("revoke_api_key", key[:12]).returncode == 0
        assert http.get("/api/agent-work-orders").status_code == 401
        assert key not in server.log.read_text()
    assert len(next(iter(world.github.repositories.values())).pull_requests) == 1
