"""Late is not dead: supervisors that no longer turn are told from those that get no processor."""

import os
from pathlib import Path
from typing import Any

import pytest

from workorders.management.cluster import watchdog
from workorders.management.cluster.watchdog import Silent, Watchdog, cpu_pressure
from workorders.management.commands import qcluster
from workorders.queueing.liveness import Tick, Ticks
from workorders.workflow_engine.claims.workers import Death

LEASE = 6.0
LIMIT = LEASE + 2


class Clock:
    """A watchdog's, with what it sees; `pass_` looks every tenth of a second meanwhile."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pressure = 0.0
        self.dog = Watchdog(LEASE, pressure=lambda: self.pressure, clock=lambda: self.now)

    def pass_(self, seconds: float, tick: Tick, *, late: float = 0.0, step: float = 0.1) -> list[Silent]:
        found: list[Silent] = []
        end = self.now + seconds
        while self.now < end - step / 2 and not found:
            self.now += step
            found = self.dog.look([tick], late_seconds=late)
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_on_a_quiet_machine_silence_counts_from_the_last_tick(clock: Clock) -> None:
    assert clock.pass_(LIMIT - 0.5, Tick(7, 1.0)) == []
    assert clock.pass_(LIMIT - 0.5, Tick(7, 2.0)) == [], "it has turned meanwhile"
    [found] = clock.pass_(1.5, Tick(7, 2.0))
    assert (found.pid, found.under_pressure) == (7, False)


@pytest.mark.parametrize("busy", ["pressure", "late here", "late there"])
def test_on_a_busy_machine_the_clock_runs_at_a_quarter_of_its_speed(clock: Clock, busy: str) -> None:
    clock.pressure = 80.0 if busy == "pressure" else 0.0
    options: dict[str, Any] = {
        "pressure": {},
        "late here": {"step": 0.7},
        "late there": {"late": 0.7},
    }[busy]
    assert clock.pass_(LIMIT * 3.5, Tick(7, 1.0), **options) == []
    [found] = clock.pass_(LIMIT, Tick(7, 1.0), **options)
    assert found.under_pressure


def test_pressure_that_has_just_ended_still_counts(clock: Clock) -> None:
    clock.pressure = 80.0
    clock.pass_(1, Tick(7, 1.0))
    clock.pressure = 0.0
    assert clock.pass_(LIMIT + 1, Tick(7, 1.0)) == []
    assert clock.pass_(LIMIT, Tick(7, 1.0)), "but not for ever"


def test_after_ten_leases_it_is_ended_all_the_same(clock: Clock) -> None:
    dog = Watchdog(LEASE, pressure=lambda: 100.0, clock=lambda: clock.now)
    watchdog_slowed = LIMIT / 0.25
    assert watchdog_slowed < LEASE * 10
    seconds = 0.0
    while not dog.look([Tick(7, 1.0)]):
        clock.now += 0.1
        seconds += 0.1
    assert watchdog_slowed - 1 < seconds <= LEASE * 10


def test_who_is_gone_is_forgotten(clock: Clock) -> None:
    clock.pass_(LIMIT - 1, Tick(7, 1.0))
    clock.dog.look([])
    assert clock.pass_(LIMIT - 1, Tick(7, 1.0)) == []


def test_pressure_is_read_as_the_kernel_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "some avg10=61.50 avg60=50.80 avg300=30.14 total=182073786\nfull avg10=0.00 avg60=0 avg300=0 total=0\n"
    (tmp_path / "cpu").write_text(text)
    monkeypatch.setattr(watchdog, "_PRESSURE_FILES", (tmp_path / "none", tmp_path / "cpu"))
    assert cpu_pressure() == 61.5
    (tmp_path / "cpu").write_text("")
    assert cpu_pressure() == 0.0


def test_ticks_are_seen_by_other_processes() -> None:
    ticks = Ticks()
    ticks.ticker(200, 41)()
    pid = os.fork()
    if pid == 0:  # no assertion in here: it would run the rest of the suite twice
        ticks.ticker(3, os.getpid())()
        os._exit(0)
    os.waitpid(pid, 0)
    assert [tick.pid for tick in ticks.read()] == [pid, 41]
    ticks.forget(3)
    assert [tick.pid for tick in ticks.read()] == [41]


class _Cluster:
    """As much of `WorkCluster` as is asked; nothing in it dies."""

    late_seconds = 0.0

    def __init__(self) -> None:
        self.killed: list[int] = []

    def ticks(self) -> list[Tick]:
        return [Tick(7, 1.0)]

    def processes(self) -> list[int]:
        return []

    def end_process(self, pid: int) -> bool:
        self.killed.append(pid)
        return True


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(
        qcluster.logger, "error", lambda event, **fields: found.append({"event": event, **fields})
    )
    return found


def test_a_worker_is_replaced_and_told_of_once(
    tmp_path: Path, clock: Clock, lines: list[dict[str, Any]]
) -> None:
    cluster, useless = _Cluster(), qcluster.UselessProcesses(clock.dog, tmp_path)
    for _ in range(200):
        clock.now += 0.1
        useless.end(cluster)  # type: ignore[arg-type]  # what it needs is there
    assert cluster.killed == [7]
    assert [line["event"] for line in lines] == ["worker_replaced"]
    assert (tmp_path / "replaced-7").exists(), Death.__doc__
