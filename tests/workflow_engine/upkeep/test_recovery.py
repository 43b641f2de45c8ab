"""The recovery pass: tickets, abandoned cancels, what no live order owns; and nothing at all on a dry run."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from sandboxes.processes.isolation import IsolationSettings
from sandboxes.providers import ProviderSettings
from tests.factories import make_order
from tests.workflow_engine.claims.test_workers import ME, die
from tests.workflow_engine.rows import all_rows, at_once, begun, claim, expire, lost_workers
from workorders.domain.errors import LeaseLost
from workorders.domain.states import FINISHED, AgentWorkOrderStatus, PhaseRunStatus
from workorders.models import AgentWorkOrder, IdempotencyRecord, WorkerProcess
from workorders.models.clock import database_now
from workorders.queueing import queue
from workorders.services.work_orders import cancel_agent_work_order
from workorders.workflow_engine.claims import workers
from workorders.workflow_engine.claims.lease import claim_steps, has_claimable_steps
from workorders.workflow_engine.upkeep.recovery import RecoveryReport, end_leases_of_the_dead, recover

pytestmark = pytest.mark.django_db
NOTHING = RecoveryReport(0, (), ())
ISOLATION = IsolationSettings(mode="none")


def recover_in(data_dir: Path, *, dry_run: bool = False) -> RecoveryReport:
    return recover(
        data_dir, ISOLATION, ProviderSettings(), may_remove=lambda _identifier: True, dry_run=dry_run
    )


def folder(data_dir: Path, name: str, age_seconds: float = 0) -> Path:
    path = data_dir / name
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    moment = time.time() - age_seconds
    os.utime(path, (moment, moment))
    return path


# --- tickets ---


def test_a_missing_ticket_is_issued_once(tmp_path: Path) -> None:
    make_order()
    make_order()
    OrmQ.objects.all().delete()
    assert recover_in(tmp_path).tickets_issued == 1
    assert queue.waiting_tickets() == 1
    assert recover_in(tmp_path) == NOTHING
    assert queue.waiting_tickets() == 1


def test_a_ticket_a_dead_worker_took_does_not_count(tmp_path: Path) -> None:
    make_order()
    OrmQ.objects.update(lock=timezone.now() + timedelta(minutes=5))
    assert recover_in(tmp_path).tickets_issued == 1


@pytest.mark.parametrize("state", ["running", "waiting for its next attempt", "finished"])
def test_no_ticket_where_nothing_can_be_claimed(state: str, tmp_path: Path) -> None:
    if state == "running":
        begun()
    elif state == "finished":
        make_order(status=AgentWorkOrderStatus.FAILED)
    else:
        make_order(claimable_at=database_now() + timedelta(minutes=1))
    OrmQ.objects.all().delete()
    assert recover_in(tmp_path) == NOTHING
    assert OrmQ.objects.count() == 0


def test_an_expired_lease_asks_for_a_worker_and_is_not_a_failure(tmp_path: Path) -> None:
    journal, _plan = begun()
    order = AgentWorkOrder.objects.get(pk=journal.claim.pk)
    OrmQ.objects.all().delete()
    expire(order)
    assert recover_in(tmp_path) == RecoveryReport(1, (), ())
    order.refresh_from_db()
    assert (order.status, order.phase_runs.get().status) == ("running", "running")


# --- deaths ---


def seconds_left(order: AgentWorkOrder) -> float:
    order.refresh_from_db()
    assert order.lease_expires_at is not None
    return (order.lease_expires_at - database_now()).total_seconds()


def test_the_steps_of_a_dead_worker_are_free_soon_and_those_of_others_are_not(tmp_path: Path) -> None:
    lost, ending, suspect, other = make_order(), make_order(), lost_workers(2), make_order()
    claim_steps(owner=ME, lease_seconds=900, limit=3)
    claim(other, owner="elsewhere:17:1", lease_seconds=900)
    soon = database_now() + timedelta(seconds=1)
    AgentWorkOrder.objects.filter(pk=ending.pk).update(lease_expires_at=soon)
    end_leases_of_the_dead(tmp_path)
    assert seconds_left(lost) > 800, "nobody has died"
    die(tmp_path / "run", ME)
    end_leases_of_the_dead(tmp_path)
    assert 1 < seconds_left(lost) < 10
    assert not has_claimable_steps(), "its agents get a moment to end"
    assert 10 < seconds_left(suspect) < 20, "it rests before its last attempt"
    assert seconds_left(ending) <= 1, "no lease is lengthened"
    assert seconds_left(other) > 800
    before = all_rows()
    end_leases_of_the_dead(tmp_path)
    assert all_rows() == before, "a death is told once"


def test_a_cancel_ends_the_rest_of_an_order_that_lost_its_workers(tmp_path: Path) -> None:
    suspect, other = lost_workers(2), lost_workers(2)
    claim(suspect, owner=ME, lease_seconds=900)
    claim(other, owner=ME, lease_seconds=900)
    die(tmp_path / "run", ME)
    end_leases_of_the_dead(tmp_path)
    cancel_agent_work_order(agent_work_order_id=suspect.agent_work_order_id, by="ann")
    end_leases_of_the_dead(tmp_path)
    assert seconds_left(suspect) < 5 < 10 < seconds_left(other)


def test_a_cancel_leaves_the_lease_to_a_worker_that_is_on_record(tmp_path: Path) -> None:
    order = make_order()
    claim(order, owner=ME, lease_seconds=900)
    workers.record_beat(ME, share=1, running=1, started_at=timezone.now())
    cancel_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
    end_leases_of_the_dead(tmp_path)
    assert seconds_left(order) > 800
    workers.forget_worker(ME)
    end_leases_of_the_dead(tmp_path)
    assert seconds_left(order) < 5


# --- abandoned cancels ---


def test_a_cancel_is_finished_only_after_the_lease_ended(tmp_path: Path) -> None:
    journal, _plan = begun()
    order = AgentWorkOrder.objects.get(pk=journal.claim.pk)
    AgentWorkOrder.objects.filter(pk=order.pk).update(cancel_requested_at=timezone.now())
    assert recover_in(tmp_path).orders_cancelled == ()
    order.refresh_from_db()
    assert order.status == AgentWorkOrderStatus.RUNNING
    expire(order)
    assert recover_in(tmp_path).orders_cancelled == (order.agent_work_order_id,)
    order.refresh_from_db()
    assert (order.status, order.claim_owner, order.cancel_requested_at) == ("cancelled", "", None)
    assert order.phase_runs.get().status == PhaseRunStatus.CANCELLED
    with pytest.raises(LeaseLost):
        journal.finish_cancelled()
    assert recover_in(tmp_path).orders_cancelled == ()
    assert order.transitions.filter(to_status="cancelled").count() == 1


def test_only_wanted_cancels_are_finished(tmp_path: Path) -> None:
    journal, _plan = begun()
    expire(AgentWorkOrder.objects.get(pk=journal.claim.pk))
    assert recover_in(tmp_path).orders_cancelled == ()


# --- folders ---


@pytest.mark.parametrize("kind", ["git-branch", "git-worktree"])
def test_sandboxes_no_live_order_owns_are_removed_and_live_ones_stay(kind: str, tmp_path: Path) -> None:
    pending, running = make_order(), make_order(status=AgentWorkOrderStatus.RUNNING)
    ended = [make_order(status=status) for status in sorted(FINISHED)]
    AgentWorkOrder.objects.update(sandbox_type=kind.replace("-", "_"))
    kept = [folder(tmp_path / "sandboxes", f"{kind}-{order}") for order in (pending, running)]
    removed = [folder(tmp_path / "sandboxes", f"{kind}-{order}") for order in ended]
    removed.append(folder(tmp_path / "sandboxes", f"{kind}-wo-unknown2"))
    trash = folder(tmp_path / "trash", "half-removed")
    home = folder(tmp_path / "homes", f"{kind}-{ended[0]}")
    report = recover_in(tmp_path)
    assert sorted(report.leftovers) == sorted(f"workspace {path.name}" for path in removed)
    assert all(path.exists() for path in [*kept, home])
    assert not any(path.exists() for path in [*removed, trash])
    assert recover_in(tmp_path).leftovers == ()


def test_what_a_dead_worker_was_moving_goes_once_no_living_one_can_be_at_it(tmp_path: Path) -> None:
    old = folder(tmp_path / "quarantine", "old", age_seconds=7200)
    young = folder(tmp_path / "quarantine", "young", age_seconds=60)
    bundle = folder(tmp_path, "outbox") / "file"
    os.utime(bundle, (time.time() - 7200,) * 2)
    assert sorted(recover_in(tmp_path).leftovers) == ["transfer file", "transfer old"]
    assert (old.exists(), bundle.exists(), young.exists()) == (False, False, True)


@pytest.mark.django_db(transaction=True)
def test_passes_on_several_hosts_at_once_do_not_hinder_each_other(tmp_path: Path) -> None:
    for number in range(10):
        folder(tmp_path / "sandboxes", f"git-branch-wo-gone{number:04}")
    order = make_order(cancel_requested_at=timezone.now())
    OrmQ.objects.all().delete()
    reports = at_once(4, lambda _number: recover_in(tmp_path))
    assert list((tmp_path / "sandboxes").iterdir()) == []
    assert sum(len(report.orders_cancelled) for report in reports) == 1
    order.refresh_from_db()
    assert order.status == AgentWorkOrderStatus.CANCELLED


# --- the rest ---


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(tmp_path: Path) -> None:
    make_order()
    cancelled = make_order(status=AgentWorkOrderStatus.RUNNING, cancel_requested_at=timezone.now())
    OrmQ.objects.all().delete()
    gone = folder(tmp_path / "sandboxes", "git-branch-wo-unknown2")
    trash = folder(tmp_path / "trash", "half-removed")
    old = folder(tmp_path / "quarantine", "old", age_seconds=7200)
    IdempotencyRecord.objects.create(
        endpoint="x", key="k", body_sha256="", response_status=200, response_body={}
    )
    IdempotencyRecord.objects.update(created_at=timezone.now() - timedelta(days=30))
    before = all_rows()
    report = recover_in(tmp_path, dry_run=True)
    assert report == RecoveryReport(
        1, (cancelled.agent_work_order_id,), (f"workspace {gone.name}", f"transfer {old.name}")
    )
    assert all_rows() == before
    assert all(path.exists() for path in (gone, trash, old))
    assert recover_in(tmp_path) == report


def test_rows_nobody_asks_for_any_more_are_forgotten(tmp_path: Path) -> None:
    now = timezone.now()
    for days in (1, 30):
        IdempotencyRecord.objects.create(
            endpoint="x", key=str(days), body_sha256="", response_status=200, response_body={}
        )
        IdempotencyRecord.objects.filter(key=str(days)).update(created_at=now - timedelta(days=days))
    for hours in (1, 48):
        WorkerProcess.objects.create(
            name=str(hours),
            host="h",
            version="v",
            share=1,
            started_at=now,
            last_beat_at=now - timedelta(hours=hours),
        )
    assert recover_in(tmp_path) == NOTHING
    assert [record.key for record in IdempotencyRecord.objects.all()] == ["1"]
    assert [worker.name for worker in WorkerProcess.objects.all()] == ["1"]
