"""The dead-man guard and the workspace's lock, with real processes: a worker of the test is killed and stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from sandboxes.errors import WorkspaceBusy
from sandboxes.local.workspace_lock import WorkspaceLock, remove_if_free
from sandboxes.processes.dead_man import DeadManGuard
from sandboxes.processes.guard import Watch, boot_seconds, end_tagged, processes_holding, tagged_processes
from sandboxes.processes.run import (
    ExitReason,
    ProcessControl,
    ProcessLimits,
    controlled_by,
    finishing_within,
    run,
)

ROOT = Path(__file__).resolve().parents[3]
ENV = {"PATH": os.environ["PATH"]}
# A worker that runs one hostile command: it ignores SIGTERM and starts a daemon in a session of its own.
WORKER = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from sandboxes.processes import run as process
    from sandboxes.processes.dead_man import DeadManGuard
    guard = DeadManGuard()
    process.guarded_by(guard)
    guard.trust("step", time.monotonic() + float(sys.argv[3]))
    print(guard.pid, flush=True)
    script = "trap '' TERM; setsid sh -c 'trap \\"\\" TERM; sleep 60' & sleep 60"
    with process.controlled_by(process.ProcessControl("step")):
        result = process.run(["sh", "-c", script], env={"PATH": sys.argv[4]}, tag_prefix=sys.argv[2], sweep=True,
                             limits=process.ProcessLimits(total_seconds=60))
    print(result.reason, result.exit_code, flush=True)
"""


def until(look: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def tag() -> Iterator[str]:
    prefix = f"guard-test-{time.monotonic_ns()}."
    yield prefix
    end_tagged(prefix)


def start_worker(tag: str, trusted_seconds: float) -> "subprocess.Popen[str]":
    worker = subprocess.Popen(
        [sys.executable, "-c", dedent(WORKER), str(ROOT), tag, str(trusted_seconds), ENV["PATH"]],
        stdout=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(tagged_processes(tag)) >= 4, 15, "the worker's children")
    return worker


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def first_line(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def test_nothing_outlives_a_killed_worker(tag: str) -> None:
    worker = start_worker(tag, 60)
    guard = int(first_line(worker))
    worker.kill()
    worker.communicate()
    until(lambda: not tagged_processes(tag), 5, "the end of the children")
    until(lambda: not alive(guard), 5, "the end of the guard")


def test_nothing_of_a_stopped_worker_outlives_its_trust_and_it_sees_that_when_it_wakes(tag: str) -> None:
    worker = start_worker(tag, 4)
    first_line(worker)
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        assert tagged_processes(tag)
        until(lambda: not tagged_processes(tag), 8, "the end of the children")
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    said, _ = worker.communicate(timeout=10)
    assert said.strip() == "exited -9"


def test_a_killed_guard_is_replaced_and_knows_everything(tag: str) -> None:
    guard = DeadManGuard()
    sleeper = subprocess.Popen(["sleep", "60"], env={**ENV, "WORKORDERS_PROCESS_TAG": f"{tag}1"})
    try:
        guard.starting(f"{tag}1", "step")
        guard.started(f"{tag}1", sleeper.pid)
        guard.trust("step", time.monotonic() + 60)
        os.kill(guard.pid, signal.SIGKILL)
        until(lambda: not alive(guard.pid), 5, "the end of the guard")
        guard.trust("step", time.monotonic() + 60)
        assert alive(guard.pid)
        assert sleeper.poll() is None
        guard.trust("step", time.monotonic() - 1)
        assert sleeper.wait(5) == -signal.SIGKILL
    finally:
        sleeper.kill()
        sleeper.wait()
        guard.close()


def test_groups_are_trusted_each_by_itself_and_a_late_child_ends_at_once() -> None:
    watch = Watch()
    for line in ("starting a one", "starting b two", "trust one 5", f"trust two {boot_seconds() + 60}"):
        watch.read(line)
    assert watch.next_moment() == 5
    watch.end_expired()
    assert list(watch.children) == ["b"]
    watch.read("starting c one")
    watch.end_expired()
    assert list(watch.children) == ["b"]
    watch.read("forget one")
    watch.read("starting d one")
    watch.end_expired()
    assert sorted(watch.children) == ["b", "d"]


# --- commands of a step that was stopped ---


def test_a_trusted_command_of_a_stopped_step_ends_with_it_and_no_new_one_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sandboxes.processes.run._PATIENCE_SECONDS", 0.2)
    control = ProcessControl()
    control.exit_within(0.3, ExitReason.STOPPED)
    limits = ProcessLimits(total_seconds=20, grace_seconds=0.2)
    with controlled_by(control):
        assert run(["sleep", "20"], env=ENV, limits=limits).reason is ExitReason.STOPPED
        refused = run(["touch", str(tmp_path / "late")], env=ENV, limits=limits)
        assert (refused.reason, refused.ok) == (ExitReason.STOPPED, False)
        with finishing_within(5):
            assert run(["touch", str(tmp_path / "saved")], env=ENV, limits=limits).ok
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


# --- the workspace's lock ---


def lock_of(path: Path, attempt: int, tag: str) -> WorkspaceLock:
    return WorkspaceLock(path, attempt=attempt, tag_prefix=tag)


def test_the_next_attempt_ends_what_holds_the_workspace_and_the_last_one_may_do_nothing_more(
    tmp_path: Path, tag: str
) -> None:
    path = tmp_path / "locks" / "place.lock"
    first, second = lock_of(path, 1, tag), lock_of(path, 2, tag)
    first.take_over(sweep=False)
    descriptor = first.share()
    stray = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; sleep 60"], env=ENV, pass_fds=(descriptor,), start_new_session=True
    )
    os.close(descriptor)
    until(lambda: processes_holding(path), 5, "the descriptor")
    second.take_over(sweep=False)
    assert stray.wait(5) == -signal.SIGKILL
    assert processes_holding(path) == []
    with pytest.raises(WorkspaceBusy, match="belongs to another attempt"):
        first.share()
    with pytest.raises(WorkspaceBusy, match="taken place over from 1"):
        first.take_over(sweep=False)
    assert (first.is_ours(), second.is_ours()) == (False, True)
    os.close(second.share())


def test_two_commands_of_one_attempt_share_it_and_it_is_removed_only_when_free(
    tmp_path: Path, tag: str
) -> None:
    lock = lock_of(tmp_path / "place.lock", 3, tag)
    lock.take_over(sweep=False)
    descriptors = [lock.share(), lock.share()]
    assert not remove_if_free(tmp_path / "place.lock")
    for descriptor in descriptors:
        os.close(descriptor)
    assert remove_if_free(tmp_path / "place.lock")
    with pytest.raises(WorkspaceBusy, match="not this attempt's workspace"):
        lock.share()


def test_what_cannot_be_ended_gives_a_typed_error_in_bounded_time(
    tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxes.local.workspace_lock.TAKE_OVER_SECONDS", 0.3)
    lock = lock_of(tmp_path / "place.lock", 1, tag)
    lock.take_over(sweep=False)
    descriptor = lock.share()  # held by this very process, which it does not end
    with pytest.raises(WorkspaceBusy, match="still use place"):
        lock_of(tmp_path / "place.lock", 2, tag).take_over(sweep=False)
    os.close(descriptor)


def test_a_stopped_step_does_not_wait_for_what_cannot_be_ended(
    tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxes.local.workspace_lock.TAKE_OVER_SECONDS", 10)
    lock = lock_of(tmp_path / "place.lock", 1, tag)
    lock.take_over(sweep=False)
    descriptor = lock.share()
    started = time.monotonic()
    with finishing_within(0.1), pytest.raises(WorkspaceBusy):
        lock_of(tmp_path / "place.lock", 2, tag).take_over(sweep=False)
    assert time.monotonic() - started < 5
    os.close(descriptor)
