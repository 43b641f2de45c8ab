"""Postgres is stopped under running orders, for longer than a step may go on without it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import World
from tests.e2e.harness import LiveServer, wait_for
from tests.e2e.law import Law, agent_processes
from tests.e2e.test_control import SCRIPTED, until_event
from tests.support_postgres import Postgres, private_postgres

pytestmark = pytest.mark.e2e


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    request.getfixturevalue("postgres_url")  # skips, or fails, where there are no programs
    with private_postgres() as own:
        yield own


def look_at_pages(server: LiveServer, order_id: str) -> None:
    """Pages, fragments, the admin and what is sent say that the database is away, and a page comes back by itself."""
    pages = ("/", "/repositories/", f"/work-orders/{order_id}/", "/work-orders/new/", "/admin/")
    for address in (*pages, f"/work-orders/{order_id}/state/?v=0"):
        headers = {"HX-Request": "true"} if "state" in address else {"Cookie": f"sessionid={'s' * 32}"}
        answer = server.http.get(address, headers=headers)
        assert answer.status_code == 503, address
        assert answer.headers["Retry-After"] == "5"
        assert "The database does not answer now" in answer.text
        assert 'http-equiv="refresh"' in answer.text
    assert server.http.get("/api/agent-work-orders").json()["code"] == "database_unavailable"
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("lease_seconds", "away_seconds"),
    [(6, 6.0), (30, 20.0)],  # a step trusts its lease for two thirds of it; 30 is the default
)
def test_orders_go_on_after_postgres_was_away(
    tmp_path: Path, world: World, postgres: Postgres, lease_seconds: int, away_seconds: float
) -> None:
    repository = world.add_repository()
    once = f"run test -e {tmp_path / 'slept'} || {{ touch {tmp_path / 'slept'}; sleep 60; }}"
    environment = {
        **world.environment,
        "WORKORDERS_AGENT_COMMAND": SCRIPTED,
        "WORKORDERS_LEASE_SECONDS": str(lease_seconds),
        "WORKORDERS_AGENT_ISOLATION": "none",
    }
    with LiveServer(tmp_path / "server", environment, postgres.url) as server:
        ids = [
            server.create(
                repository_url="acme/widgets",
                workflow_type="agent_workflow_plan",
                initial_prompt=f"agent: say started\nagent: {work}",
            )["agent_work_order_id"]
            for work in ("sleep 2", once)  # one ends while it is away, one is ended
        ]
        for order_id in ids:
            until_event(server, order_id, "agent_message")
        postgres.halt()
        gone_at = time.monotonic()
        wait_for(lambda: not agent_processes(server.data_dir), lease_seconds, "the end of all agents")
        assert server.http.get("/readyz").status_code == 503
        assert server.http.get("/healthz").status_code == 200
        look_at_pages(server, ids[0])
        time.sleep(max(0.0, away_seconds - (time.monotonic() - gone_at)))
        postgres.start()
        for order_id in ids:
            server.completed(order_id, 90)
        for address in ("/", "/repositories/", f"/work-orders/{ids[0]}/"):
            assert server.http.get(address).status_code == 200
        Law(server, [repository], [world.git.repository_path("acme", "widgets")]).check(ids, completed=True)
