"""The clock that leases are measured by: the database's, or on SQLite the host's since it started."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.factories import make_order, make_run
from tests.workflow_engine.rows import claim
from workorders import services
from workorders.models import AgentWorkOrder, clock
from workorders.states import PhaseRunStatus
from workorders.workflow_engine import lease
from workorders.workflow_engine.step_plan import plan_step

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def jump(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Somebody sets this host's clock."""
    real = datetime.now

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # as little as is called here
            return real(UTC) + by

    monkeypatch.setattr(clock, "datetime", Jumped)
    monkeypatch.setattr("django.utils.timezone.now", lambda: real(UTC) + by)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_jump_of_the_hosts_clock_ends_no_lease_and_hides_no_order(
    by: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = claim(make_order(), lease_seconds=30)
    jump(monkeypatch, by)
    assert not lease.has_claimable_steps()
    assert lease.renew(owner=held.owner, claims=[held], lease_seconds=30) == {held}
    waiting = make_order()
    assert [found.pk for found in lease.claim_steps(owner="other:2:2", lease_seconds=30, limit=5)] == [
        waiting.pk
    ]
    past = clock.database_now() - timedelta(seconds=1)
    AgentWorkOrder.objects.filter(pk=held.pk).update(lease_expires_at=past)
    assert lease.has_claimable_steps()


def test_all_processes_of_a_host_tell_the_same_time(settings: LazySettings, tmp_path: Path) -> None:
    settings.WORKORDERS_DATA_DIR = tmp_path
    first = clock.steady_now()
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)
    [file] = (tmp_path / "run").iterdir()
    file.write_text((datetime.fromisoformat(file.read_text()) + HOUR).isoformat())
    clock._started_at.cache_clear()  # as a process that starts now
    assert timedelta(0) < clock.steady_now() - first - HOUR < timedelta(seconds=30)
    clock._started_at.cache_clear()


def test_a_lease_from_before_the_host_started_with_another_clock_does_not_last_for_ever() -> None:
    order = make_order()
    claim(order)
    AgentWorkOrder.objects.filter(pk=order.pk).update(lease_expires_at=clock.database_now() + 5 * HOUR)
    assert lease.has_claimable_steps()


def test_attempts_count_from_the_last_retry_whatever_the_hosts_clocks_said() -> None:
    order = make_order()
    tomorrow = clock.database_now() + timedelta(days=1)
    for _ in range(2):
        make_run(order, status=PhaseRunStatus.FAILED, started_at=tomorrow)  # by a worker whose clock is ahead
    assert plan_step(order).attempt == 3
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        status="failed", error_message="x", error_category="x", claimable_at=None
    )
    services.retry_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
    order.refresh_from_db()
    assert plan_step(order).attempt == 1
    yesterday = clock.database_now() - timedelta(days=1)
    make_run(order, status=PhaseRunStatus.FAILED, started_at=yesterday)  # and by one that is behind
    assert plan_step(order).attempt == 2
