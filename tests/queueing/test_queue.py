"""Tickets, short tasks and schedules as rows: part of their transaction, anonymous, safe to repeat."""

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import OrmQ, Schedule

from tests.factories import make_order
from workorders.models import AgentWorkOrder
from workorders.queueing import queue

pytestmark = pytest.mark.django_db


class Boom(Exception):
    """What ends a transaction here."""


@pytest.mark.django_db(transaction=True)
def test_a_ticket_goes_with_its_transaction() -> None:
    def fail() -> None:
        with transaction.atomic():
            make_order()
            assert OrmQ.objects.count() == 1
            raise Boom

    with pytest.raises(Boom):
        fail()
    assert (OrmQ.objects.count(), AgentWorkOrder.objects.count()) == (0, 0)
    with transaction.atomic():
        queue.issue_ticket()
    assert OrmQ.objects.count() == 1


def test_a_ticket_carries_nothing() -> None:
    queue.issue_ticket()
    message = OrmQ.objects.get()
    assert message.func() == queue.WORK_TASK
    task = message.task
    assert (task["args"], task["kwargs"], task["save"]) == ((), {}, False)
    assert task["timeout"] == -1  # a supervisor runs as long as there is work


def test_only_tickets_nobody_has_taken_are_waiting() -> None:
    assert queue.waiting_tickets() == 0
    for _ in range(3):
        queue.issue_ticket()
    assert queue.waiting_tickets() == 3
    taken = OrmQ.objects.first()
    assert taken is not None
    OrmQ.objects.filter(pk=taken.pk).update(lock=timezone.now() + timedelta(minutes=6))
    assert queue.waiting_tickets() == 2


def test_a_short_task_takes_identifiers() -> None:
    queue.run_short_task("workorders.tasks.recover", 7, "wo-abcd2345")
    message = OrmQ.objects.get()
    assert message.func() == "workorders.tasks.recover"
    assert message.task["args"] == (7, "wo-abcd2345")


def test_the_names_the_queue_calls_exist() -> None:
    for name in (queue.WORK_TASK, queue.RECOVERY_TASK):
        assert callable(import_string(name))


def test_schedules_are_made_once_and_mended() -> None:
    queue.ensure_schedules()
    Schedule.objects.update(minutes=99)
    queue.ensure_schedules()
    schedule = Schedule.objects.get()
    assert (schedule.func, schedule.schedule_type, schedule.minutes, schedule.repeats) == (
        queue.RECOVERY_TASK,
        Schedule.MINUTES,
        1,
        -1,
    )


@pytest.mark.parametrize(("asked", "found"), [(None, 6), (3, 3), (0, 1)])
def test_the_number_of_steps_at_once(asked: int | None, found: int, settings: LazySettings) -> None:
    settings.WORKORDERS_WORKERS = 6
    queue.set_workers(asked)
    assert queue.describe()["workers"] == found


@pytest.mark.parametrize(
    ("steps", "processes", "shares"),
    [(1, 8, [1]), (4, 8, [1, 1, 1, 1]), (10, 4, [3, 3, 2, 2]), (50, 8, [7, 7, 6, 6, 6, 6, 6, 6])],
)
def test_no_step_shares_a_process_until_there_are_more_of_them(
    steps: int, processes: int, shares: list[int], settings: LazySettings
) -> None:
    settings.WORKORDERS_WORKERS, settings.WORKORDERS_WORKER_PROCESSES = steps, processes
    assert [queue.share_of(slot) for slot in range(queue.supervising_processes())] == shares


def test_the_grace_period_is_part_of_the_stop_budget(settings: LazySettings) -> None:
    settings.WORKORDERS_DRAIN_SECONDS = 7.5
    assert queue.stop_budget_seconds() > 7.5
    assert not queue.is_draining()
