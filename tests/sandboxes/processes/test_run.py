"""`sandboxes.processes.run.run` with real processes: clocks, bounds, whole trees, nothing left behind."""

import os
import resource
import signal
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sandboxes.errors import ExpectedError, ProgramMissing, SandboxError
from sandboxes.processes.run import (
    TAG_VARIABLE,
    ExitReason,
    ProcessControl,
    ProcessLimits,
    ProcessResult,
    end_tagged,
    run,
    tagged_processes,
)

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
LIMITS = ProcessLimits(total_seconds=20)


def shell(
    script: str, *, limits: ProcessLimits = LIMITS, sweep: bool = False, control: ProcessControl | None = None
) -> ProcessResult:
    return run(["sh", "-c", script], env=ENVIRONMENT, limits=limits, sweep=sweep, control=control)


def python(script: str, *arguments: str, limits: ProcessLimits = LIMITS) -> ProcessResult:
    return run([sys.executable, "-c", script, *arguments], env=ENVIRONMENT, limits=limits, sweep=True)


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def is_gone(pid: int, *, seconds: float = 2.0) -> bool:
    """A killed orphan is not waited for by anyone here, so it may need a moment to be gone."""
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


def wait_for_pid(path: Path, *, seconds: float = 5.0) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            return int(path.read_text().strip())
        time.sleep(0.01)
    raise AssertionError(f"{path} holds no process id")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """Where a hostile child writes its id; whoever is there at the end is ended by that id."""
    path = tmp_path / "pid"
    yield path
    with suppress(OSError, ValueError):
        pid = int(path.read_text().strip())
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


class TestExit:
    @pytest.mark.parametrize("code", [0, 1, 42, 137, 143, 255])
    def test_exit_code(self, code: int) -> None:
        result = shell(f"exit {code}")
        assert (result.exit_code, result.reason, result.ok) == (code, ExitReason.EXITED, code == 0)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
    def test_end_by_a_signal_is_negative(self, number: signal.Signals) -> None:
        result = shell(f"kill -{int(number)} $$; sleep 5")
        assert (result.exit_code, result.reason) == (-number, ExitReason.EXITED)

    def test_both_streams(self) -> None:
        result = shell("echo out; echo err >&2")
        assert (result.stdout, result.stderr_text, result.truncated) == (b"out\n", "err", False)

    def test_bytes_are_kept_as_they_are(self) -> None:
        result = run(["cat"], env=ENVIRONMENT, limits=LIMITS, stdin=b"\xff\x00\xfe\r\n")
        assert result.stdout == b"\xff\x00\xfe\r\n"


class TestInput:
    def test_a_megabyte_as_bytes(self) -> None:
        data = os.urandom(1024 * 1024)
        result = run(["cat"], env=ENVIRONMENT, limits=LIMITS, stdin=data)
        assert result.ok
        assert result.stdout == data

    def test_a_file_is_read_from_its_offset(self, tmp_path: Path) -> None:
        path = tmp_path / "input"
        path.write_bytes(b"header\nrest of it")
        with path.open("rb", buffering=0) as file:
            file.readline()
            result = run(["cat"], env=ENVIRONMENT, limits=LIMITS, stdin=file)
        assert result.stdout == b"rest of it"

    def test_no_input_is_an_end_of_file(self) -> None:
        assert run(["cat"], env=ENVIRONMENT, limits=LIMITS).stdout == b""

    def test_a_child_that_does_not_read_its_input(self) -> None:
        result = run(["true"], env=ENVIRONMENT, limits=LIMITS, stdin=b"x" * 4 * 1024 * 1024)
        assert result.ok
        assert result.duration_seconds < 5

    def test_a_child_that_closes_its_input_and_goes_on(self) -> None:
        script = "exec 0<&-; sleep 0.3; echo done"
        result = run(["sh", "-c", script], env=ENVIRONMENT, limits=LIMITS, stdin=b"x" * 1024 * 1024)
        assert (result.ok, result.stdout) == (True, b"done\n")


class TestEnvironment:
    def test_is_what_was_given_and_the_tag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVER_SECRET", "canary")
        given = {"PATH": "/usr/bin:/bin", "ONE": "1", "ODD": "a\nb=c ü"}
        result = run(["env", "-0"], env=given, limits=LIMITS)
        seen = dict(item.split("=", 1) for item in result.stdout.decode().split("\0")[:-1])
        tag = seen.pop(TAG_VARIABLE)
        assert seen == given
        assert len(tag) == 32

    def test_working_folder(self, tmp_path: Path) -> None:
        result = run(["pwd"], env=ENVIRONMENT, limits=LIMITS, cwd=tmp_path)
        assert result.stdout.decode().strip() == str(tmp_path)

    def test_descriptors_of_the_server_are_not_inherited(self, tmp_path: Path) -> None:
        with (tmp_path / "secret").open("w") as secret:
            os.set_inheritable(secret.fileno(), True)
            result = run(["ls", "/proc/self/fd"], env=ENVIRONMENT, limits=LIMITS)
        assert result.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the folder being listed


class TestOutput:
    def test_stdout_keeps_its_head(self) -> None:
        limits = ProcessLimits(total_seconds=20, output_bytes=10)
        result = shell("printf 0123456789; printf abc", limits=limits)
        assert (result.stdout, result.truncated, result.ok) == (b"0123456789", True, True)

    def test_exactly_the_limit_is_not_truncated(self) -> None:
        result = shell("printf 0123456789", limits=ProcessLimits(total_seconds=20, output_bytes=10))
        assert (result.stdout, result.truncated) == (b"0123456789", False)

    def test_stderr_keeps_its_tail(self) -> None:
        result = shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo the end >&2")
        assert len(result.stderr) == 64 * 1024
        assert result.stderr.endswith(b"the end\n")
        assert not result.truncated

    def test_200_megabytes_need_little_memory(self) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        limits = ProcessLimits(total_seconds=60, output_bytes=1024 * 1024)
        result = shell("head -c 200000000 /dev/zero", limits=limits)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert (len(result.stdout), result.truncated, result.ok) == (1024 * 1024, True, True)
        assert grown < 30 * 1024  # KiB

    def test_200_megabytes_through_a_callback(self) -> None:
        seen = 0

        def count(chunk: bytes) -> None:
            nonlocal seen
            seen += len(chunk)

        result = run(
            ["head", "-c", "200000000", "/dev/zero"], env=ENVIRONMENT, limits=LIMITS, on_stdout=count
        )
        assert (seen, result.stdout, result.truncated) == (200_000_000, b"", False)

    def test_into_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        limits = ProcessLimits(total_seconds=20, output_bytes=100_000)
        result = run(["head", "-c", "300000", "/dev/zero"], env=ENVIRONMENT, limits=limits, stdout_path=path)
        assert (result.stdout, result.truncated, path.stat().st_size) == (b"", True, 100_000)

    def test_a_full_disk_is_a_typed_error(self) -> None:
        before = open_descriptors()
        with pytest.raises(SandboxError, match="No space left"):
            run(
                ["head", "-c", "300000", "/dev/zero"],
                env=ENVIRONMENT,
                limits=LIMITS,
                stdout_path=Path("/dev/full"),
            )
        assert open_descriptors() == before

    def test_a_full_disk_seen_only_at_the_end_is_a_typed_error(self) -> None:
        with pytest.raises(SandboxError, match="No space left"):
            run(["echo", "short"], env=ENVIRONMENT, limits=LIMITS, stdout_path=Path("/dev/full"))

    def test_an_output_file_that_cannot_be_made_starts_nothing(self, tmp_path: Path, pid_file: Path) -> None:
        before = open_descriptors()
        with pytest.raises(SandboxError, match="missing"):
            run(
                ["sh", "-c", f"echo $$ > {pid_file}; sleep 30"],
                env=ENVIRONMENT,
                limits=LIMITS,
                stdout_path=tmp_path / "missing" / "out",
            )
        time.sleep(0.2)
        assert not pid_file.exists()
        assert open_descriptors() == before

    def test_a_callback_that_raises_ends_the_child_and_is_called_once(self, pid_file: Path) -> None:
        class Lost(Exception):
            pass

        calls = 0

        def refuse(chunk: bytes) -> None:
            nonlocal calls
            calls += 1
            raise Lost

        before = open_descriptors()
        script = f"echo $$ > {pid_file}; while :; do echo x; done"
        with pytest.raises(Lost):
            run(["sh", "-c", script], env=ENVIRONMENT, limits=LIMITS, on_stdout=refuse)
        assert calls == 1
        assert is_gone(wait_for_pid(pid_file))
        assert open_descriptors() == before


class TestClocks:
    def test_total(self) -> None:
        result = shell("while :; do echo x; sleep 0.05; done", limits=ProcessLimits(total_seconds=0.5))
        assert result.reason is ExitReason.TIMED_OUT
        assert not result.ok
        assert 0.4 < result.duration_seconds < 2

    def test_total_with_a_flood_of_output(self) -> None:
        limits = ProcessLimits(total_seconds=0.5, output_bytes=1000)
        result = shell("exec cat /dev/zero", limits=limits)
        assert result.reason is ExitReason.TIMED_OUT
        assert result.duration_seconds < 3

    def test_silence(self) -> None:
        limits = ProcessLimits(total_seconds=20, silence_seconds=0.4)
        result = shell("echo a; sleep 0.2; echo b; sleep 10", limits=limits)
        assert (result.reason, result.stdout) == (ExitReason.SILENT, b"a\nb\n")
        assert 0.5 < result.duration_seconds < 2

    def test_output_on_either_stream_breaks_the_silence(self) -> None:
        limits = ProcessLimits(total_seconds=20, silence_seconds=0.5)
        result = shell("for i in 1 2 3 4 5; do sleep 0.2; echo x >&2; done", limits=limits)
        assert result.ok

    def test_stop_from_another_thread(self) -> None:
        control = ProcessControl()
        timer = threading.Timer(0.2, control.stop)
        timer.start()
        result = shell("sleep 30", control=control)
        timer.join()
        assert result.reason is ExitReason.STOPPED
        assert result.duration_seconds < 1.2

    def test_stop_before_the_start(self) -> None:
        control = ProcessControl()
        control.stop()
        result = shell("sleep 30", control=control)
        assert result.reason is ExitReason.STOPPED
        assert result.duration_seconds < 1

    def test_lingering_after_the_last_output(self) -> None:
        control = ProcessControl()
        result = run(
            ["sh", "-c", "echo result; sleep 30"],
            env=ENVIRONMENT,
            limits=LIMITS,
            control=control,
            on_stdout=lambda chunk: control.exit_within(0.3, ExitReason.LINGERED),
        )
        assert result.reason is ExitReason.LINGERED
        assert result.duration_seconds < 2

    def test_an_exit_in_time_is_an_exit(self) -> None:
        control = ProcessControl()
        control.exit_within(10, ExitReason.LINGERED)
        assert shell("sleep 0.1; exit 3", control=control).reason is ExitReason.EXITED

    def test_the_earlier_deadline_wins(self) -> None:
        control = ProcessControl()
        control.exit_within(0.2, ExitReason.LINGERED)
        control.exit_within(60, ExitReason.STOPPED)
        assert shell("sleep 30", control=control).reason is ExitReason.LINGERED

    def test_what_ends_the_outer_one_ends_the_inner_one_and_not_the_other_way(self) -> None:
        outer = ProcessControl()
        inner, other = ProcessControl(within=outer), ProcessControl(within=outer)
        inner.exit_within(0, ExitReason.LINGERED)
        assert (inner.overdue, other.overdue, outer.overdue) == (ExitReason.LINGERED, None, None)
        outer.stop()
        assert other.overdue is ExitReason.STOPPED

    def test_last_words_after_a_stop_are_kept(self) -> None:
        limits = ProcessLimits(total_seconds=0.3)
        result = shell("trap 'echo bye; exit 9' TERM; while :; do sleep 0.05; done", limits=limits)
        assert (result.reason, result.exit_code, result.stdout) == (ExitReason.TIMED_OUT, 9, b"bye\n")


class TestWholeTree:
    def test_a_child_that_ignores_sigterm(self, pid_file: Path) -> None:
        limits = ProcessLimits(total_seconds=0.3, grace_seconds=0.3)
        result = shell(f"echo $$ > {pid_file}; trap '' TERM; while :; do sleep 0.1; done", limits=limits)
        assert (result.reason, result.exit_code) == (ExitReason.TIMED_OUT, -signal.SIGKILL)
        assert result.duration_seconds < 2
        assert is_gone(wait_for_pid(pid_file))

    def test_a_background_child_that_keeps_stdout(self, pid_file: Path) -> None:
        result = shell(f"sleep 30 & echo $! > {pid_file}; echo over")
        assert (result.ok, result.stdout) == (True, b"over\n")
        assert result.duration_seconds < 1
        assert is_gone(wait_for_pid(pid_file))

    def test_a_daemon_of_its_own_session_that_keeps_stdout(self, pid_file: Path) -> None:
        inner = f"echo $$ > {pid_file}; trap '' TERM HUP; while :; do echo daemon; sleep 0.05; done"
        result = shell(f'setsid sh -c "{inner.replace("$", chr(92) + "$")}" & sleep 0.3', sweep=True)
        assert result.ok
        assert result.duration_seconds < 3
        assert is_gone(wait_for_pid(pid_file))

    def test_without_a_sweep_a_daemon_does_not_hold_the_call_up(self, pid_file: Path) -> None:
        inner = f"echo \\$\\$ > {pid_file}; exec sleep 30"
        result = shell(f'setsid sh -c "{inner}" & while [ ! -s {pid_file} ]; do sleep 0.02; done')
        assert result.ok
        assert result.duration_seconds < 2
        assert is_alive(wait_for_pid(pid_file))  # ended by the fixture

    def test_double_forks_and_a_fork_chain_are_swept(self, tmp_path: Path) -> None:
        script = """
import os, sys, time
for number in range(4):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
            time.sleep(30)
        os._exit(0)
time.sleep(0.3)
"""
        result = python(script, str(tmp_path))
        pids = [int(path.name) for path in tmp_path.iterdir()]
        assert result.ok
        assert len(pids) == 4
        assert all(is_gone(pid) for pid in pids)

    def test_a_child_that_closes_its_pipes_and_lives_on(self) -> None:
        result = shell("exec 1>&- 2>&-; sleep 0.4; exit 7")
        assert (result.exit_code, result.reason) == (7, ExitReason.EXITED)
        assert result.duration_seconds < 2

    def test_a_child_that_closes_its_pipes_is_still_timed(self) -> None:
        result = shell("exec 1>&- 2>&-; sleep 30", limits=ProcessLimits(total_seconds=0.4))
        assert result.reason is ExitReason.TIMED_OUT
        assert result.duration_seconds < 2

    def test_a_stopped_child_is_ended(self) -> None:
        limits = ProcessLimits(total_seconds=0.3, grace_seconds=0.2)
        result = shell("kill -STOP $$", limits=limits)
        assert result.reason is ExitReason.TIMED_OUT
        assert result.duration_seconds < 2

    def test_only_the_tagged_are_ended(self, pid_file: Path) -> None:
        """A sweep never touches a process of another run."""
        control = ProcessControl()
        done: list[ProcessResult] = []
        thread = threading.Thread(
            target=lambda: done.append(
                shell(f"echo $$ > {pid_file}; exec sleep 30", sweep=True, control=control)
            )
        )
        thread.start()
        other = wait_for_pid(pid_file)
        assert shell("setsid sleep 30 & sleep 0.05", sweep=True).ok
        assert is_alive(other)
        control.stop()
        thread.join(5)
        assert done[0].reason is ExitReason.STOPPED

    def test_nothing_carries_an_unknown_tag(self) -> None:
        tag = uuid.uuid4().hex
        assert tagged_processes(tag) == []
        assert end_tagged(tag) == 0


class TestCannotStart:
    def test_missing_program(self) -> None:
        with pytest.raises(ProgramMissing, match="no-such-program"):
            run(["no-such-program"], env=ENVIRONMENT, limits=LIMITS)

    def test_missing_absolute_program(self, tmp_path: Path) -> None:
        with pytest.raises(ProgramMissing):
            run([str(tmp_path / "nothing")], env=ENVIRONMENT, limits=LIMITS)

    def test_not_executable(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\n")
        with pytest.raises(ProgramMissing, match="Permission denied"):
            run([str(program)], env=ENVIRONMENT, limits=LIMITS)

    def test_missing_interpreter(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_text("#!/no/such/interpreter\n")
        program.chmod(0o755)
        with pytest.raises(ProgramMissing):
            run([str(program)], env=ENVIRONMENT, limits=LIMITS)

    def test_not_a_program(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_bytes(b"\x7fELF nonsense")
        program.chmod(0o755)
        with pytest.raises(SandboxError):
            run([str(program)], env=ENVIRONMENT, limits=LIMITS)

    def test_missing_working_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SandboxError, match="working folder") as caught:
            run(["true"], env=ENVIRONMENT, limits=LIMITS, cwd=tmp_path / "missing")
        assert not isinstance(caught.value, ProgramMissing)

    def test_nul_in_an_argument(self) -> None:
        with pytest.raises(SandboxError):
            run(["echo", "a\0b"], env=ENVIRONMENT, limits=LIMITS)

    def test_an_argument_list_too_long_for_the_kernel(self) -> None:
        with pytest.raises(ExpectedError):
            run(["echo", "x" * 3_000_000], env=ENVIRONMENT, limits=LIMITS)


class TestNothingIsLeft:
    def test_descriptors(self, tmp_path: Path) -> None:
        shell("true")
        before = open_descriptors()
        for number in range(50):
            with suppress(ExpectedError):
                if number % 5 == 0:
                    run(["no-such-program"], env=ENVIRONMENT, limits=LIMITS)
                if number % 5 == 1:
                    shell("sleep 5", limits=ProcessLimits(total_seconds=0.01, grace_seconds=0.1))
                run(
                    ["cat"],
                    env=ENVIRONMENT,
                    limits=LIMITS,
                    stdin=b"x" * number,
                    stdout_path=tmp_path / "out",
                )
        assert open_descriptors() == before

    def test_zombies(self) -> None:
        for script in ("true", "exit 3", "sleep 30 &"):
            shell(script)
        shell("sleep 5", limits=ProcessLimits(total_seconds=0.05))
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children]
        assert "Z" not in states

    def test_a_trivial_run_is_quick(self) -> None:
        times = [run(["true"], env=ENVIRONMENT, limits=LIMITS).duration_seconds for _ in range(15)]
        assert statistics.median(times) < 0.05
