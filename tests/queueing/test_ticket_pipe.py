"""What a cluster's processes share, with real processes that are killed at the worst moment."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workorders.queueing.ticket_pipe import Flag, TicketPipe, Timer

fork = multiprocessing.get_context("fork")
MakePipe = Callable[[int], TicketPipe]


@pytest.fixture
def make_pipe() -> Iterator[MakePipe]:
    made: list[TicketPipe] = []

    def make(buffer_bytes: int) -> TicketPipe:
        made.append(TicketPipe(buffer_bytes))
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()
        assert (pipe.empty(), pipe.qsize()) == (True, 0)


def started(function: Callable[..., Any], *arguments: Any) -> Any:
    child = fork.Process(target=function, args=arguments, daemon=True)
    child.start()
    return child


def test_a_reader_killed_while_it_waits_holds_up_nobody(make_pipe: MakePipe) -> None:
    tickets, answers = make_pipe(32 * 1024), make_pipe(32 * 1024)

    def read() -> None:
        for item in iter(tickets.get, "STOP"):
            answers.put((os.getpid(), item))

    readers = [started(read) for _ in range(3)]
    time.sleep(0.2)  # all of them wait in the kernel now
    for reader in readers[:2]:
        os.kill(reader.pid, signal.SIGKILL)
        reader.join(5)
    for number in range(20):
        tickets.put({"number": number})
    assert [answers.get()[1]["number"] for _ in range(20)] == list(range(20))
    tickets.put("STOP")
    readers[2].join(5)
    assert readers[2].exitcode == 0
    assert (tickets.empty(), tickets.qsize()) == (True, 0)


def test_a_writer_waits_for_room_and_goes_on(make_pipe: MakePipe) -> None:
    tickets = make_pipe(8 * 1024)

    def write() -> None:
        for number in range(200):
            tickets.put({"number": number, "text": "x" * 500})

    writer = started(write)
    time.sleep(0.2)
    assert writer.is_alive(), "the pipe takes no more than its bound"
    assert [tickets.get()["number"] for _ in range(200)] == list(range(200))
    writer.join(5)
    assert writer.exitcode == 0


def test_a_result_too_large_for_the_kernel_is_cut_and_anything_else_is_refused(make_pipe: MakePipe) -> None:
    results = make_pipe(8 * 1024)
    results.put({"id": 1, "result": "y" * 1_000_000})
    cut = results.get()
    assert (cut["id"], len(cut["result"])) == (1, 2000)
    with pytest.raises(OSError, match="too long"):
        results.put("z" * 1_000_000)


def test_a_flag_is_seen_by_others_also_when_who_waited_for_it_was_killed() -> None:
    flag, timer = Flag(), Timer()

    def wait() -> None:
        timer.value = 7
        flag.wait(60)

    waiting = [started(wait), started(wait)]
    time.sleep(0.2)
    os.kill(waiting[0].pid, signal.SIGKILL)
    waiting[0].join(5)
    before = flag.beat
    assert time.monotonic() - before < 5
    flag.set()  # `multiprocessing.Event` would wait here for the dead to wake
    waiting[1].join(5)
    assert (waiting[1].exitcode, flag.is_set(), timer.value) == (0, True, 7)
    flag.clear()
    assert not flag.wait(0.05)
    with timer.get_lock():
        timer.value = -1
    assert timer.value == -1
