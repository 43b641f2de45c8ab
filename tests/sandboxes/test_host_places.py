"""Places that threads and processes of a host share."""

import os
import threading
import time
from pathlib import Path

import pytest

from sandboxes.host_places import HostPlaces


class Stopped(Exception):
    pass


def nothing() -> None:
    """Nobody stops the wait."""


def test_no_more_are_held_at_once_than_there_are(tmp_path: Path) -> None:
    places = [HostPlaces(tmp_path / "starts", 2) for _ in range(3)]  # as three processes would have
    lock, held, most = threading.Lock(), 0, 0

    def work(number: int) -> None:
        nonlocal held, most
        with places[number % 3].one(nothing):
            with lock:
                held += 1
                most = max(most, held)
            time.sleep(0.02)
            with lock:
                held -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (held, most) == (0, 2)


def test_a_place_may_be_left_early_and_only_once(tmp_path: Path) -> None:
    places, other = HostPlaces(tmp_path, 1), HostPlaces(tmp_path, 1)
    with places.one(nothing) as leave:
        leave()
        with other.one(nothing):
            leave()
            with pytest.raises(Stopped), places.one(_stop):
                pass  # it is the other's: a second leave has taken nothing from it


def test_who_waits_hears_that_he_is_stopped(tmp_path: Path) -> None:
    places = HostPlaces(tmp_path, 1)
    with places.one(nothing), pytest.raises(Stopped), places.one(_stop):
        pass


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    places = HostPlaces(tmp_path, 1)
    pid = os.fork()
    if pid == 0:
        places.one(nothing).__enter__()
        os._exit(0)
    os.waitpid(pid, 0)
    with places.one(nothing):
        pass


def _stop() -> None:
    raise Stopped
