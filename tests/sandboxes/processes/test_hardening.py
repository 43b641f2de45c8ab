"""The server's memory is its own, and an isolated program cannot use the machine up."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandboxes.processes import hardening
from sandboxes.processes.hardening import close_folder
from sandboxes.processes.isolation import IsolationSettings, bounded_argv
from tests.sandboxes.processes.test_isolation import isolated
from tests.support import require_program
from workorders.serving.web import web_server_argv

ROOT = Path(__file__).resolve().parents[3]
LOOK = "cat /proc/$1/environ /proc/$1/mem 2>/dev/null | head -c 10000; ls /proc/$1/fd 2>/dev/null"


def ordinary() -> list[str]:
    """Root may look at everything; the promise is about a server that runs as an account of its own."""
    if os.geteuid() != 0:
        return []
    return [require_program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]


def seen_of(pid: int) -> str:
    """What another process of the same account gets to see of a process."""
    argv = [*ordinary(), "sh", "-c", LOOK, "sh", str(pid)]
    return subprocess.run(argv, capture_output=True, timeout=20, check=False).stdout.decode(errors="replace")


@pytest.mark.parametrize("protected", [True, False])
def test_an_undumpable_process_shows_nothing(protected: bool) -> None:
    code = Path(hardening.__file__).read_text()
    call = "make_undumpable()" if protected else ""
    forked = "os.fork() and print(flush=True)"  # what it forks is as it is
    child = subprocess.Popen(
        [
            *ordinary(),
            shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin") or sys.executable,
            "-c",
            f"{code}\n{call}\n{forked}\nimport time; time.sleep(20)",
        ],
        env={"SECRET_OF_THE_SERVER": "yes", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    assert child.stdout is not None
    try:
        child.stdout.readline()
        forks = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        assert len(forks) == 1
        for pid in (child.pid, *map(int, forks)):
            assert ("SECRET_OF_THE_SERVER" in seen_of(pid)) is not protected
            assert bool(seen_of(pid)) is not protected
    finally:
        os.killpg(child.pid, 9)
        child.wait(10)
        child.stdout.close()


@pytest.mark.parametrize(
    "entry",
    [
        "import manage; sys.argv = ['manage.py', 'check']; manage.main()",
        "import runpy; runpy.run_path('config/gunicorn.py')['on_starting'](None); said()",
        "import config.wsgi; said()",
        "import config.asgi; said()",
    ],
)
def test_every_way_into_the_server_makes_it_undumpable(entry: str, tmp_path: Path) -> None:
    script = f"""
import sys
import django.core.management
from sandboxes.processes.hardening import is_dumpable
def said(*_arguments):
    print("dumpable" if is_dumpable() else "closed")
django.core.management.execute_from_command_line = said
{entry}
"""
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "WORKORDERS_SECRET_KEY": "for-this-test-only-for-this-test-only-0123456789",
        "WORKORDERS_DATA_DIR": str(tmp_path / "data"),
    }
    argv = [sys.executable, "-c", script]
    done = subprocess.run(
        argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "closed\n", done.stderr
    assert f"--config={ROOT / 'config' / 'gunicorn.py'}" in web_server_argv(3, 4)


def test_it_can_be_dumpable_for_a_moment() -> None:
    script = """
import os
import shutil
from sandboxes.processes.hardening import dumpable, is_dumpable, make_undumpable
with dumpable():
    assert is_dumpable()
assert is_dumpable()
make_undumpable()
with dumpable():
    assert is_dumpable()
assert not is_dumpable()
"""
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT)}, timeout=20, check=True)


def test_a_data_folder_that_others_may_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    close_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    close_folder(tmp_path / "missing")


class TestBounds:
    def run(self, tmp_path: Path, script: str, **settings: int) -> str:
        require_program("prlimit")
        bounds = IsolationSettings("bubblewrap", **settings)  # type: ignore[arg-type]  # numbers only
        return isolated(bounded_argv(["sh", "-c", script], bounds), tmp_path).stdout.decode()

    def test_they_are_set_inside(self, tmp_path: Path) -> None:
        said = self.run(tmp_path, "cat /proc/self/limits /proc/self/oom_score_adj", processes=77)
        limits = {line[:26].strip(): line[26:].split()[:2] for line in said.splitlines()[1:-1]}
        assert limits["Max processes"] == ["77", "77"]
        assert limits["Max core file size"] == ["0", "0"]
        assert limits["Max file size"] == [str(32 * 1024**3)] * 2
        assert limits["Max data size"] == ["unlimited", "unlimited"]
        assert said.splitlines()[-1] == "800"

    def test_memory(self, tmp_path: Path) -> None:
        script = "python3 -c 'print(len(bytearray(400_000_000)))' 2>&1 | tail -1"
        assert self.run(tmp_path, script).strip() == "400000000"
        assert self.run(tmp_path, script, memory_bytes=200_000_000).strip() == "MemoryError"

    def test_a_fork_bomb_stays_small(self) -> None:
        """As an account without root's powers, for which the kernel counts."""
        bomb = (
            "n=0; while [ $n -lt 200 ]; do sleep 5 & n=$((n+1)); done 2>/dev/null; ls -d /proc/[0-9]* | wc -l"
        )
        argv = bounded_argv(["bash", "-c", bomb], IsolationSettings("bubblewrap", processes=30))
        bare = [
            require_program("bwrap"),
            "--unshare-user",
            "--unshare-pid",
            "--die-with-parent",
            "--cap-drop",
            "ALL",
        ]
        bare += [
            "--uid",
            "1000",
            "--ro-bind",
            "/usr",
            "/usr",
            "--symlink",
            "usr/bin",
            "/bin",
            "--proc",
            "/proc",
        ]
        bare += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--dev", "/dev"]
        started = time.monotonic()
        done = subprocess.run(
            [*ordinary(), *bare, "--", *argv], capture_output=True, cwd="/", timeout=60, check=False
        )
        left = done.stdout.decode().split() or ["0"]
        assert int(left[-1]) <= 40, done.stderr
        assert time.monotonic() - started < 50
