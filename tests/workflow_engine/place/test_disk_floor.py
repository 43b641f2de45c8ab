"""The disk governor: nothing starts without space, what is old goes, and what is in no git stays."""

import errno
import json
import os
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.utils import timezone

from sandboxes.files.disk import discard, in_units, says_disk_full, tree_bytes
from tests.workflow_engine.engine import finished, local_order, running_engine, starts, wait_until
from tests.workflow_engine.places import abandoned, cancelled, mirror_of, sweep
from workorders import wiring
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services
from workorders.workflow_engine.place import disk_floor as space
from workorders.workflow_engine.place.workplace import Place, Workplace
from workorders.workflow_engine.upkeep import retention
from workorders.workflow_engine.upkeep.retention import Retention, prune, prune_when_due

pytestmark = pytest.mark.django_db(transaction=True)
Usage = namedtuple("Usage", "total used free")
EVERYTHING_OLD = Retention(homes_days=1, mirrors_days=1, logs_days=1)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many bytes are free."""
    now = [10**12]
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(10**12, 0, now[0]))
    monkeypatch.setattr(space, "LOOK_AGAIN_SECONDS", 0.3)

    def say(size: int) -> None:
        now[0] = size

    return say


def age(path: Path, days: float = 100) -> None:
    then = time.time() - days * 86400
    for each in (path, *path.rglob("*")):
        os.utime(each, (then, then), follow_symlinks=False)


def aged(order: AgentWorkOrder, days: int = 100) -> None:
    AgentWorkOrder.objects.filter(pk=order.pk).update(updated_at=timezone.now() - timedelta(days=days))


# --- the floor ---


def test_nothing_starts_below_the_floor_and_it_goes_on_by_itself(
    engine_settings: LazySettings, tmp_path: Path, free: Callable[[int], None]
) -> None:
    free(5_000_000)
    order = local_order(tmp_path)
    with running_engine():
        waiting = wait_until(order, lambda row: row.waiting_reason == "disk_full")
        assert "5.0 MB are free" in waiting.waiting_message
        time.sleep(1)  # it looks again more than once
        assert starts(tmp_path) == []
        free(2_000_000_000)
        done = finished(order)
    assert (done.status, done.waiting_reason) == ("completed", "")
    assert done.log_entries.filter(event="workflow_step_waiting").count() == 1
    assert [run.attempt for run in done.phase_runs.all()] == [1, 1]


def test_a_delivery_gives_space_back_and_is_let_through(
    engine_settings: LazySettings, tmp_path: Path, free: Callable[[int], None]
) -> None:
    order = local_order(tmp_path, f"agent: run touch {tmp_path}/full; sleep 1")
    with running_engine():
        wait_until(order, lambda _row: (tmp_path / "full").exists())
        free(1000)
        assert finished(order).status == "completed"


def test_a_disk_that_becomes_full_in_a_step_is_a_wait_and_no_attempt(
    engine_settings: LazySettings,
    tmp_path: Path,
    free: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take, failures = Workplace.take_commits, [OSError(errno.ENOSPC, "No space left on device")]

    def take_or_fail(self: Workplace, place: Place, *, final: bool = False) -> str | None:
        if final and failures:
            raise failures.pop()
        return take(self, place, final=final)

    monkeypatch.setattr(Workplace, "take_commits", take_or_fail)
    order = local_order(tmp_path)
    with running_engine():
        waiting = wait_until(order, lambda row: row.waiting_reason == "disk_full")
        assert "became full" in waiting.waiting_message
        done = finished(order)
    assert done.status == "completed"
    assert {run.attempt for run in done.phase_runs.all()} == {1}


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (RuntimeError("fatal: write error: No space left on device"), True),
        (OSError(13, "Permission denied"), False),
        (ValueError("space"), False),
    ],
)
def test_a_full_disk_is_told_from_other_failures(error: Exception, full: bool) -> None:
    assert says_disk_full(error) is full
    wrapped = RuntimeError("The workspace could not be made.")
    wrapped.__cause__ = error
    assert says_disk_full(wrapped) is full


# --- retention ---


def complete(tmp_path: Path) -> AgentWorkOrder:
    order = local_order(tmp_path)
    with running_engine():
        return finished(order)


def test_prune_removes_what_is_old_and_says_how_much(engine_settings: LazySettings, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    order, parts = complete(tmp_path), wiring.engine_parts()
    home = data_dir / "homes" / order.expected_sandbox_identifier
    (home / "big").write_bytes(b"x" * 100_000)
    day = data_dir / "logs" / "agent_work_orders" / "2020-01-01"
    day.mkdir(parents=True)
    [removed] = prune(parts, EVERYTHING_OLD).removed
    assert (removed.what, removed.name) == ("log files", "logs/agent_work_orders/2020-01-01")
    assert home.exists()
    assert mirror_of(data_dir).exists()
    assert not day.exists()

    aged(order)
    age(home)
    age(mirror_of(data_dir))
    dry = prune(parts, EVERYTHING_OLD, dry_run=True)
    assert home.exists()
    assert {item.what for item in dry.removed} == {"agent's home", "repository", "log entries"}
    assert dry.size_bytes > 100_000
    report = prune(parts, EVERYTHING_OLD)
    assert [item.what for item in report.removed] == [item.what for item in dry.removed]
    assert not home.exists()
    assert not list((data_dir / "mirrors").glob("*/*.git"))
    assert list((data_dir / "trash").iterdir()) == []
    assert not order.log_entries.exists()
    assert order.phase_runs.exists()
    assert prune(parts, EVERYTHING_OLD).removed == ()

    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="More, please", by="test")
    with running_engine():  # what is needed again is made again
        assert finished(order).status == "completed"


def test_a_mirror_with_commits_that_are_nowhere_else_stays(
    engine_settings: LazySettings, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    order, _place = abandoned(tmp_path, "agent: leave notes.txt\nagent: sleep 60")
    cancelled(order)
    sweep(data_dir)
    aged(order)
    age(mirror_of(data_dir))
    report = prune(wiring.engine_parts(), EVERYTHING_OLD)
    assert mirror_of(data_dir).exists()
    assert len(report.kept) == 1
    assert str(order) in report.kept[0]


def test_zero_days_keep_for_ever(engine_settings: LazySettings, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    order = complete(tmp_path)
    aged(order)
    age(data_dir)
    report = prune(wiring.engine_parts(), Retention(0, 0, 0, queue_days=0))
    assert report.removed == ()


def test_active_orders_keep_everything(engine_settings: LazySettings, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    order = complete(tmp_path)
    aged(order)
    age(data_dir)
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        status="running", updated_at=timezone.now() - timedelta(days=99)
    )
    kinds = {item.what for item in prune(wiring.engine_parts(), EVERYTHING_OLD, dry_run=True).removed}
    assert not kinds & {"agent's home", "repository", "log entries"}


def test_it_runs_at_most_once_an_hour(engine_settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = wiring.engine_parts()
    assert prune_when_due(parts, EVERYTHING_OLD) is not None
    assert prune_when_due(parts, EVERYTHING_OLD) is None
    monkeypatch.setattr(retention, "_EVERY_SECONDS", 0.0)
    assert prune_when_due(parts, EVERYTHING_OLD) is not None


def test_the_command_as_json(engine_settings: LazySettings) -> None:
    out = StringIO()
    call_command("prune", "--dry-run", "--json", stdout=out)
    assert json.loads(out.getvalue())["dry_run"] is True


def test_discard_survives_what_agents_leave(tmp_path: Path) -> None:
    folder, trash = tmp_path / "place", tmp_path / "trash"
    locked = folder / "locked"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x" * 10_000)
    (folder / "link").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    locked.chmod(0o000)
    assert tree_bytes(folder) > 0
    discard(folder, trash)
    discard(folder, trash)  # another pass was faster
    assert list(trash.iterdir()) == []
    assert tmp_path.exists()


@pytest.mark.parametrize("mode", [0o000, 0o500], ids=["locked", "read-only"])
def test_a_home_that_its_agent_locked_is_as_old_as_any_and_goes(tmp_path: Path, mode: int) -> None:
    home, trash = tmp_path / "data" / "home", tmp_path / "data" / "trash"
    (home / ".claude").mkdir(parents=True)
    (home / "file").write_text("x")
    age(home)
    home.chmod(mode)
    with as_an_ordinary_account(tmp_path / "data"):
        assert retention._older(home, timezone.now() - timedelta(days=50))
        discard(home, trash)
    assert not home.exists()
    assert list(trash.iterdir()) == []


def test_a_home_nobody_can_look_into_keeps_no_other_from_being_removed(
    engine_settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = tmp_path / "data" / "homes"
    for name in ("a-wo-aaaaaaaa", "b-wo-bbbbbbbb"):
        (homes / name).mkdir(parents=True)
        age(homes / name)
    older = retention._older

    def refuses_one(path: Path, limit: datetime) -> bool:
        if path.name.startswith("a"):
            raise OSError(errno.EIO, "Input/output error")
        return older(path, limit)

    monkeypatch.setattr(retention, "_older", refuses_one)
    report = prune(wiring.engine_parts(), EVERYTHING_OLD)
    assert [item.name for item in report.removed] == ["homes/b-wo-bbbbbbbb"]
    assert [words.split(":")[0] for words in report.failed] == ["homes/a-wo-aaaaaaaa"]


@contextmanager
def as_an_ordinary_account(folder: Path) -> Iterator[None]:
    """Root may do everything: where tests run as root, what is below the folder is somebody's who is not."""
    if os.geteuid() != 0:
        yield
        return
    ancestors = [parent for parent in folder.parents if not parent.stat().st_mode & 0o001]
    modes = [parent.stat().st_mode for parent in ancestors]
    for place in (folder, *folder.rglob("*")):
        os.chown(place, 65534, 65534)
    for parent in ancestors:
        parent.chmod(0o711)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent, mode in zip(ancestors, modes, strict=True):
            parent.chmod(mode)


@pytest.mark.parametrize(
    "depth", [1_200, 4_000], ids=["deeper than Python recurses", "longer than a path may be"]
)
def test_folders_nested_deeper_than_anybody_can_follow_are_measured_and_removed(
    tmp_path: Path, depth: int
) -> None:
    folder = tmp_path / "place"
    nest(folder, depth)
    assert tree_bytes(folder) > depth * 500
    discard(folder, tmp_path / "trash")
    assert list((tmp_path / "trash").iterdir()) == []


def nest(folder: Path, depth: int) -> None:
    """As an agent's program does it, one step after another."""
    script = "import os, sys\nfor _ in range(int(sys.argv[1])):\n os.mkdir('d'); os.chdir('d')"
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", script, str(depth)], cwd=folder, check=True)


def test_one_thing_that_cannot_be_looked_after_keeps_the_pass_from_no_other(
    engine_settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    nest(data_dir / "kept" / "place", 1_200)
    for name in ("a", "b"):
        (data_dir / "trash" / name).mkdir(parents=True)

    def fail_for_one(path: Path) -> int:
        if path.name == "a":
            raise RecursionError("maximum recursion depth exceeded")
        return tree_bytes(path)

    monkeypatch.setattr(retention, "tree_bytes", fail_for_one)
    report = prune(wiring.engine_parts(), EVERYTHING_OLD)
    assert [item.name for item in report.removed] == ["trash/b"]
    assert [words.split(":")[0] for words in report.failed] == ["trash/a"]
    assert len(report.kept) == 1


def test_sizes_in_words() -> None:
    assert [in_units(size) for size in (0, 999, 1500, 123_456_789, 2_500_000_000)] == [
        *("0 bytes", "999 bytes", "1.5 kB", "123 MB", "2.5 GB")
    ]
