"""Claims: never shared, in order, fenced; by the database's clock."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import make_order, make_run
from tests.workflow_engine.rows import all_rows, at_once, begun, claim, expire, lost_workers, take_over
from workorders.domain.errors import LeaseLost
from workorders.domain.states import FINISHED, AgentWorkOrderStatus, PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase
from workorders.models import AgentWorkOrder
from workorders.models.clock import database_now
from workorders.workflow_engine.claims import lease
from workorders.workflow_engine.claims.lease import Claim, claim_steps, has_claimable_steps

pytestmark = pytest.mark.django_db


def drain_queue(owner: str, limit: int) -> list[Claim]:
    """Claim until nothing is left."""
    found: list[Claim] = []
    while claims := claim_steps(owner=owner, lease_seconds=30, limit=limit):
        found += claims
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("threads", [2, 8])
def test_claims_at_the_same_instant_never_share_a_step(threads: int) -> None:
    orders = [make_order() for _ in range(20)]
    found = at_once(threads, lambda number: drain_queue(f"host:{number}:1", 3))
    counted = Counter(item.pk for claims in found for item in claims)
    assert counted == Counter(order.pk for order in orders)
    for claims in found:
        for item in claims:
            row = AgentWorkOrder.objects.get(item.fence)
            assert row.claim_epoch == item.epoch == 1


@pytest.mark.django_db(transaction=True)
def test_one_step_goes_to_one_of_many() -> None:
    make_order()
    found = at_once(8, lambda number: claim_steps(owner=f"host:{number}:1", lease_seconds=30, limit=5))
    assert sum(len(claims) for claims in found) == 1


def test_the_longest_waiting_come_first_up_to_the_limit() -> None:
    now = database_now()
    orders = [
        make_order(claimable_at=now - timedelta(seconds=seconds), claim_epoch=6) for seconds in (5, 20, 10)
    ]
    claims = claim_steps(owner="host:1:1", lease_seconds=30, limit=2)
    assert [item.pk for item in claims] == [orders[1].pk, orders[2].pk]
    assert [item.epoch for item in claims] == [7, 7]
    assert [item.agent_work_order_id for item in claims] == [
        orders[1].agent_work_order_id,
        orders[2].agent_work_order_id,
    ]
    assert [item.pk for item in claim_steps(owner="host:2:1", lease_seconds=30, limit=5)] == [orders[0].pk]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_full_process_claims_nothing(limit: int) -> None:
    order = make_order()
    assert claim_steps(owner="host:1:1", lease_seconds=30, limit=limit) == []
    order.refresh_from_db()
    assert (order.claim_epoch, order.claim_owner) == (0, "")


def test_orders_that_were_begun_come_before_new_ones() -> None:
    now = database_now()
    new = [make_order(claimable_at=now - timedelta(minutes=9 - number)) for number in range(3)]
    old = [
        make_order(claimable_at=now - timedelta(seconds=9 - number), execution_started_at=now)
        for number in range(3)
    ]
    found = claim_steps(owner="host:1:1", lease_seconds=30, limit=4)
    assert [item.pk for item in found] == [old[0].pk, old[1].pk, old[2].pk, new[0].pk]
    assert [item.pk for item in claim_steps(owner="host:1:1", lease_seconds=30, limit=1)] == [new[1].pk]


@pytest.mark.parametrize("look_first", [True, False])
def test_without_room_only_orders_that_were_begun_are_claimed(look_first: bool) -> None:
    now = database_now()
    new = make_order(claimable_at=now - timedelta(minutes=9))
    begun = make_order(claimable_at=now, execution_started_at=now)

    def claimed(*, new: bool) -> list[tuple[int, bool]]:
        found = claim_steps(owner="host:1:1", lease_seconds=30, limit=4, new=new, look_first=look_first)
        return [(item.pk, item.is_new) for item in found]

    assert claimed(new=False) == [(begun.pk, False)]
    assert claimed(new=False) == []
    assert claimed(new=True) == [(new.pk, True)]


def test_a_live_lease_is_left_alone_and_an_expired_one_taken() -> None:
    order = make_order()
    first = claim(order, lease_seconds=30)
    assert not has_claimable_steps()
    assert claim_steps(owner="host:2:1", lease_seconds=30, limit=5) == []
    expire(order)
    assert has_claimable_steps()
    second = claim(order, owner="host:2:1")
    assert second.epoch == first.epoch + 1
    order.refresh_from_db()
    assert order.claim_owner == "host:2:1"
    assert order.lease_expires_at is not None
    assert 20 < (order.lease_expires_at - database_now()).total_seconds() <= 30


def test_nothing_is_claimed_before_its_time() -> None:
    order = make_order(claimable_at=database_now() + timedelta(seconds=60))
    assert not has_claimable_steps()
    assert claim_steps(owner="host:1:1", lease_seconds=30, limit=5) == []
    AgentWorkOrder.objects.filter(pk=order.pk).update(claimable_at=database_now())
    assert claim(order).epoch == 1


def test_an_order_without_a_time_is_never_claimed() -> None:
    make_order(claimable_at=None)
    assert claim_steps(owner="host:1:1", lease_seconds=30, limit=5) == []


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_finished_orders_are_never_claimed(status: AgentWorkOrderStatus) -> None:
    make_order(status=status)
    assert not has_claimable_steps()
    assert claim_steps(owner="host:1:1", lease_seconds=30, limit=5) == []


def test_a_fenced_write_changes_the_row_and_its_version() -> None:
    order = make_order()
    claim(order).write(base_branch="develop")
    before = order.version
    order.refresh_from_db()
    assert (order.base_branch, order.version) == ("develop", before + 1)


def test_after_another_claim_the_loser_writes_nothing() -> None:
    journal, _plan = begun()
    take_over(journal.claim.pk)
    before = all_rows()
    with pytest.raises(LeaseLost, match=journal.claim.agent_work_order_id):
        journal.claim.write(base_branch="stolen", status=AgentWorkOrderStatus.COMPLETED)
    with pytest.raises(LeaseLost):
        journal.claim.lock()
    assert all_rows() == before


@pytest.mark.parametrize("change", [{"epoch": 2}, {"owner": "host:9:9"}])
def test_both_parts_of_the_token_count(change: dict[str, object]) -> None:
    held = claim(make_order())
    values = {"pk": held.pk, "agent_work_order_id": held.agent_work_order_id, "epoch": 1, "owner": held.owner}
    stale = Claim(**{**values, **change})  # type: ignore[arg-type]  # one of two fields
    with pytest.raises(LeaseLost):
        stale.write(base_branch="stolen")


def test_renewing_lengthens_what_is_held_and_only_that() -> None:
    orders = [make_order() for _ in range(3)]
    kept, lost, released = claim_steps(owner="host:1:1", lease_seconds=30, limit=5)
    take_over(lost.pk)
    released.write(claim_owner="", lease_expires_at=None)
    others = AgentWorkOrder.objects.exclude(pk=kept.pk).order_by("pk")
    before = list(others.values_list("lease_expires_at"))
    assert lease.renew(owner="host:1:1", claims=[kept, lost, released], lease_seconds=900) == {kept}
    assert list(others.values_list("lease_expires_at")) == before
    row = AgentWorkOrder.objects.get(pk=orders[0].pk)
    assert row.lease_expires_at is not None
    assert (row.lease_expires_at - database_now()).total_seconds() > 800
    assert row.version == orders[0].version  # nothing a reader sees has changed


def test_a_lease_nobody_took_can_be_renewed_after_its_end() -> None:
    order = make_order()
    held = claim(order)
    expire(order)
    assert lease.renew(owner=held.owner, claims=[held], lease_seconds=30) == {held}
    assert not has_claimable_steps()


def test_an_older_claim_of_the_same_owner_is_not_held_any_more() -> None:
    order = make_order()
    first = claim(order)
    expire(order)
    second = claim(order)
    assert lease.renew(owner=first.owner, claims=[first, second], lease_seconds=30) == {second}


def test_nothing_to_renew_or_to_ask_costs_no_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert lease.renew(owner="host:1:1", claims=[], lease_seconds=30) == set()
        assert lease.cancel_requested(owner="host:1:1", claims=[]) == set()


def test_cancel_requests_of_own_claims_are_seen() -> None:
    orders = [make_order() for _ in range(3)]
    claims = claim_steps(owner="host:1:1", lease_seconds=30, limit=5)
    assert lease.cancel_requested(owner="host:1:1", claims=claims) == set()
    wanted = [orders[0].pk, orders[1].pk]
    AgentWorkOrder.objects.filter(pk__in=wanted).update(cancel_requested_at=database_now())
    take_over(orders[1].pk)
    assert lease.cancel_requested(owner="host:1:1", claims=claims) == {claims[0]}


# --- suspects ---


def claimed(limit: int = 9, *, suspect: bool = True) -> dict[int, bool]:
    """What a process gets, and which of it is a suspect's."""
    found = claim_steps(owner="host:1:1", lease_seconds=30, limit=limit, suspect=suspect)
    return {item.pk: item.is_suspect for item in found}


def test_no_process_gets_two_suspects() -> None:
    first, second, once, fresh = lost_workers(2), lost_workers(3), lost_workers(1), make_order()
    assert claimed() == {first.pk: True, once.pk: False, fresh.pk: False}
    assert claimed(suspect=False) == {}
    assert has_claimable_steps()
    assert claimed() == {second.pk: True}


def test_a_process_that_has_a_suspect_goes_on_with_others() -> None:
    lost_workers(2)
    fresh = make_order()
    assert claimed(suspect=False) == {fresh.pk: False}


def test_a_suspect_counts_like_any_other_step() -> None:
    lost_workers(2)
    make_order()
    make_order()
    assert len(claimed(2)) == 2


def test_what_another_phase_or_an_earlier_try_lost_is_no_suspicion() -> None:
    later = lost_workers(2, current_phase=AgentWorkflowPhase.IMPLEMENTING)
    retried = lost_workers(3, attempts_from=2)
    assert claimed() == {later.pk: False, retried.pk: False}


def test_steps_that_ended_in_another_way_are_no_suspicion() -> None:
    order = make_order(status="running", current_phase="planning", claim_epoch=9)
    for status in (PhaseRunStatus.FAILED, PhaseRunStatus.INTERRUPTED, PhaseRunStatus.FAILED):
        make_run(order, status=status, error_category="github_unavailable")
    assert claimed() == {order.pk: False}


def test_a_suspect_that_somebody_cancels_is_taken_by_anybody() -> None:
    order = lost_workers(2, cancel_requested_at=database_now())
    assert claimed(suspect=False) == {order.pk: False}
