"""`/healthz` and `/readyz`."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.utils import timezone

from workorders.models import WorkerProcess
from workorders.reading import progress
from workorders.views import health

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forget_migrations() -> Iterator[None]:
    health._migrations_applied.cache_clear()
    yield
    health._migrations_applied.cache_clear()


def beat(seconds_ago: float, gateway_state: str = "") -> None:
    now = timezone.now()
    WorkerProcess.objects.create(
        name=f"host:{seconds_ago}",
        gateway_state=gateway_state,
        host="host",
        version="1",
        share=4,
        started_at=now,
        last_beat_at=now - timedelta(seconds=seconds_ago),
    )


def ready(client: Client) -> tuple[int, dict[str, Any]]:
    response = client.get("/readyz")
    return response.status_code, response.json()["checks"]


def test_healthz_asks_nobody(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7:8000", "evil.example", "not a host", "a_b", ""])
@pytest.mark.parametrize("address", ["/healthz", "/readyz"])
def test_they_are_answered_for_any_host(
    client: Client, address: str, host: str, settings: LazySettings
) -> None:
    """Load balancers and supervisors ask by the machine's address; everybody else is asked for the right name."""
    settings.ALLOWED_HOSTS = ["work-orders.example.org"]
    settings.SECURE_SSL_REDIRECT = True
    beat(1)
    assert client.get(address, headers={"host": host}).status_code == 200
    for other in ("/", "/healthz/", "/healthz/x", "/api/agent-work-orders", "/static/x", "/HEALTHZ"):
        assert client.get(other, headers={"host": host}).status_code in (400, 404), other


def test_not_ready_without_a_live_worker(client: Client) -> None:
    assert ready(client) == (
        503,
        {"database": True, "migrations": True, "workers": False, "model_gateway": True},
    )
    beat(16)
    assert ready(client)[0] == 503


@pytest.mark.parametrize("isolation", ["bubblewrap", "none"])
def test_it_says_whether_agents_are_isolated(client: Client, isolation: str, settings: LazySettings) -> None:
    settings.WORKORDERS_AGENT_ISOLATION = isolation
    assert client.get("/readyz").json()["isolation"] == isolation
    assert ("Agents run without isolation" in client.get("/").content.decode()) is (isolation == "none")


def test_ready(client: Client) -> None:
    beat(13)
    assert ready(client) == (
        200,
        {"database": True, "migrations": True, "workers": True, "model_gateway": True},
    )


@pytest.mark.parametrize(
    ("states", "is_ready"),
    [
        (["down"], False),
        (["down", "ready"], True),
        (["starting"], False),
        (["starting", "down"], False),
        (["starting", "ready"], True),
        (["no_credential"], True),
        (["refused", ""], True),
    ],
)
def test_a_model_gateway_that_is_down_makes_it_not_ready(
    client: Client, states: list[str], is_ready: bool
) -> None:
    for seconds, state in enumerate(states, start=1):
        beat(seconds, state)
    response = client.get("/readyz")
    assert (response.status_code == 200) is is_ready
    assert response.json()["checks"]["model_gateway"] is is_ready
    assert sorted(response.json()["model_gateways"]) == sorted(state for state in states if state)


@pytest.mark.parametrize(("floor_bytes", "warnings"), [(0, []), (2**60, ["disk_floor"])])
def test_a_disk_below_its_floor_is_a_warning_and_leaves_the_pages_in_service(
    client: Client, floor_bytes: int, warnings: list[str], settings: LazySettings
) -> None:
    settings.WORKORDERS_DISK_FLOOR_BYTES = floor_bytes
    beat(1)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["warnings"]) == (200, warnings)


def test_not_ready_with_a_missing_migration(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MigrationExecutor, "migration_plan", lambda *_: ["one"])
    beat(1)
    assert ready(client) == (
        503,
        {"database": True, "migrations": False, "workers": False, "model_gateway": False},
    )


def test_not_ready_without_a_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", away)
    assert ready(client) == (
        503,
        {"database": False, "migrations": False, "workers": False, "model_gateway": False},
    )


def test_the_positive_answer_is_kept(client: Client, django_assert_num_queries: Any) -> None:
    beat(1)
    client.get("/readyz")
    with django_assert_num_queries(2):
        assert client.get("/readyz").status_code == 200


def test_live_workers_counts_by_the_databases_clock() -> None:
    beat(1)
    beat(14)
    beat(60)
    assert progress.live_workers() == 2
