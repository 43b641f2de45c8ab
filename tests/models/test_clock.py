"""The clock that leases are measured by: the database's, or on SQLite the host's since it started."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.factories import make_order, make_run
from tests.workflow_engine.rows import begun, claim, placed
from workorders.domain.states import EffectKind, EffectState, PhaseRunStatus
from workorders.model_gateway.ledger import DatabaseLedger, Grant
from workorders.models import AgentWorkOrder, ModelAccess, OutsideEffect, clock
from workorders.models.model_access import token_hash
from workorders.services import work_orders as services
from workorders.workflow_engine.claims import lease
from workorders.workflow_engine.planning.step_plan import plan_step

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


def set_steady_clock(data_dir: Path, by: timedelta) -> None:
    """The host's first process believed another time."""
    clock.steady_now()
    [file] = (data_dir / "run").glob("clock-*")
    file.write_text((datetime.fromisoformat(file.read_text()) + by).isoformat())
    clock._started_at.cache_clear()  # as a process that starts now


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


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_jump_of_the_hosts_clock_ends_no_token_and_moves_no_limit(
    by: timedelta, monkeypatch: pytest.MonkeyPatch, settings: LazySettings, tmp_path: Path
) -> None:
    settings.WORKORDERS_DATA_DIR = tmp_path
    set_steady_clock(tmp_path, -by)  # SQLite's: it keeps what the host believed before its clock was set
    jump(monkeypatch, by)  # Postgres': its own clock is right, and this worker's is not
    journal, _plan = begun()
    token = placed(journal, lifetime_seconds=60)
    ledger = DatabaseLedger()
    grant = ledger.find(token_hash(token))
    assert isinstance(grant, Grant), grant
    assert ledger.still_valid([grant.access_pk]) == {grant.access_pk}
    access = ModelAccess.objects.get()
    assert timedelta(seconds=50) < access.expires_at - clock.database_now() <= timedelta(seconds=60)
    ledger.note_error(grant, 429, 1800)
    error = journal.last_model_error()
    assert error is not None
    assert error.resets_in_seconds == pytest.approx(1800, abs=10)
    clock._started_at.cache_clear()


def test_a_cancel_by_a_host_whose_clock_is_ahead_is_taken_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    order = make_order(status="running", claimable_at=clock.database_now() + HOUR)
    OutsideEffect.objects.create(
        agent_work_order=order,
        kind=EffectKind.PULL_REQUEST,
        state=EffectState.CONFIRMED,
        confirmed_at=clock.database_now(),
    )
    jump(monkeypatch, HOUR)
    services.cancel_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
    order.refresh_from_db()
    assert order.status == "running"
    assert order.claimable_at is not None
    assert order.claimable_at <= clock.database_now()


def test_all_processes_of_a_host_tell_the_same_time(settings: LazySettings, tmp_path: Path) -> None:
    settings.WORKORDERS_DATA_DIR = tmp_path
    first = clock.steady_now()
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)
    set_steady_clock(tmp_path, HOUR)
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
