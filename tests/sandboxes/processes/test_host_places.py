"""Places that threads and processes of a host share."""

import os
import threading
import time
from pathlib import Path

import pytest

from sandboxes.processes.host_places import HostPlaces, ProcessorRoom


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


@pytest.mark.parametrize(
    ("load", "is_there"),
    [
        ("0.1 0.2 0.3 1/300 4242\n", True),
        ("0.1 0.2 0.3 {some}/300 4242\n", True),
        ("0.1 0.2 0.3 {many}/300 4242\n", False),
        ("odd", True),
        (None, True),
    ],
)
def test_new_work_waits_while_more_threads_run_than_the_processors_can_serve(
    tmp_path: Path, load: str | None, is_there: bool
) -> None:
    room = room_with(tmp_path, load, patience_seconds=60)
    assert room.is_there(), "the first finds nobody to wait for"
    room.take()
    assert room.is_there() is is_there


def test_some_new_work_begins_however_busy_the_machine_is(tmp_path: Path) -> None:
    room, other = (room_with(tmp_path, "9 9 9 {many}/300 1\n", patience_seconds=0.2) for _ in range(2))
    room.take()
    assert not other.is_there(), "processes share what is left"
    time.sleep(0.25)
    assert other.is_there()


def test_a_clock_that_was_set_back_holds_nobody_up(tmp_path: Path) -> None:
    room = room_with(tmp_path, "9 9 9 {many}/300 1\n", patience_seconds=60)
    room.take()
    os.utime(tmp_path / "run" / "last-begun", (time.time() + 3600, time.time() + 3600))
    assert room.is_there()


def room_with(folder: Path, load: str | None, *, patience_seconds: float) -> ProcessorRoom:
    """`some` are threads enough for the processors, `many` are too many; the reader itself is one of them."""
    processors, file = len(os.sched_getaffinity(0)), folder / "loadavg"
    if load is not None:
        file.write_text(load.format(some=3 * processors, many=3 * processors + 1))
    return ProcessorRoom(folder / "run" / "last-begun", patience_seconds=patience_seconds, load=file)
