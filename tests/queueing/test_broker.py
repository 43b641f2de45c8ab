"""The broker: messages are seen when the doorbell rings, and within a second where it does not."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.brokers.orm import ORM
from django_q.cluster import Sentinel
from django_q.models import OrmQ

from workorders.queueing import broker, queue
from workorders.queueing.broker import TicketBroker
from workorders.queueing.doorbell import Doorbell, Listener, ring_all
from workorders.queueing.ticket_pipe import Flag, TicketPipe

SECONDS = 5.0


@pytest.fixture
def run_folder(settings: LazySettings, tmp_path: Path) -> Path:
    settings.WORKORDERS_DATA_DIR = tmp_path
    return tmp_path / "run"


@pytest.fixture
def messages(run_folder: Path) -> Iterator[TicketBroker]:
    found = get_broker()
    assert isinstance(found, TicketBroker)
    yield found
    found.close()
    assert list(run_folder.iterdir()) == []


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks without a ring."""
    monkeypatch.setattr(broker, "LOOK_SECONDS", 60.0)


def seconds_of_a_vain_look(messages: TicketBroker) -> float:
    started = time.monotonic()
    assert messages.dequeue() is None
    return time.monotonic() - started


def take(messages: TicketBroker) -> None:
    [(key, _payload)] = messages.dequeue() or []
    assert OrmQ.objects.get(pk=key).lock > timezone.now()


@pytest.mark.django_db(transaction=True)
def test_a_message_rings_once_it_is_committed(run_folder: Path) -> None:
    bell = Doorbell(run_folder, Listener.BROKER)
    with transaction.atomic():
        queue.issue_ticket(wake=False)
        queue.run_short_task("workorders.tasks.recover")
        assert not bell.wait(0), "nobody sees it yet"
    assert bell.wait(0)
    with transaction.atomic():
        queue.issue_ticket()
        transaction.set_rollback(True)
    assert not bell.wait(0)
    bell.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient")
def test_a_message_ends_the_wait(messages: TicketBroker) -> None:
    assert messages._bell is None, "whoever forks afterwards shares no pipe"
    threading.Timer(0.1, broker.ring).start()
    assert seconds_of_a_vain_look(messages) < SECONDS
    queue.issue_ticket()
    take(messages)
    assert seconds_of_a_vain_look(messages) < SECONDS, "the ring came before the wait"


@pytest.mark.django_db
def test_supervisors_of_this_host_go_first(
    messages: TicketBroker, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "COURTESY_SECONDS", 0.3)
    assert seconds_of_a_vain_look(messages) >= broker.LOOK_SECONDS  # it listens from now on
    supervisor = Doorbell(run_folder)
    broker.ring()
    assert 0.3 <= seconds_of_a_vain_look(messages) < SECONDS
    supervisor.close()
    monkeypatch.setattr(broker, "COURTESY_SECONDS", 60.0)
    broker.ring()
    assert seconds_of_a_vain_look(messages) < SECONDS, "an idle host's first order does not wait"


@pytest.mark.django_db
def test_without_a_ring_it_looks_again_after_a_while(
    messages: TicketBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert broker.LOOK_SECONDS <= 1
    monkeypatch.setattr(broker, "LOOK_SECONDS", 0.2)
    queue.issue_ticket()  # this test's transaction does not end, as if the ring were lost
    OrmQ.objects.update(lock=timezone.now() + timedelta(seconds=60))
    assert 0.2 <= seconds_of_a_vain_look(messages) < SECONDS
    OrmQ.objects.update(lock=timezone.now())
    take(messages)


@pytest.mark.django_db
@pytest.mark.usefixtures("patient")
def test_an_idle_pusher_looks_once_and_ends_at_once(
    messages: TicketBroker, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sentinel stops it; and what supervisors are rung for is none of its business."""
    looks: list[float] = []
    monkeypatch.setattr(ORM, "dequeue", lambda _self: looks.append(time.monotonic()))
    sentinel = queue._WorkSentinel.__new__(queue._WorkSentinel)
    sentinel.event_out = Flag()
    tickets = TicketPipe(1024)
    pusher = threading.Thread(target=queue._push, args=(tickets, sentinel.event_out, messages))

    def stop(_self: Any) -> None:
        pusher.join(SECONDS)
        assert not pusher.is_alive()

    monkeypatch.setattr(Sentinel, "stop", stop)
    pusher.start()
    try:
        time.sleep(0.3)
        ring_all(run_folder)
        time.sleep(0.3)
        assert len(looks) == 1
    finally:
        sentinel.stop()
        tickets.close()
    assert list(run_folder.iterdir()) == []
