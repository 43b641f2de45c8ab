"""`python -m tests.defences [words …]`: takes each line of defence out, in a copy, and sees its test fail.

With words, only those whose description or file holds one of them. Exits 1 where a test passes without its defence.
About half an hour for all. What a missing defence lets through must not reach other processes, so each run has a name
space of its own (`unshare`, as root or where the kernel lets everybody).
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from shutil import copy2

from tests.defences.table import DEFENCES, Defence

ROOT = Path(__file__).resolve().parents[2]
TEST_FAILED = 1  # pytest's other exit codes say that nothing ran
RUN_SECONDS = 400
_APART = ("unshare", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc")
_PLUGINS_LEFT_OUT = ("-p", "no:cacheprovider", "-p", "no:schemathesis")  # no use here, and slow to start


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.defences", description=__doc__)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    chosen = [row for row in DEFENCES if not words or any(word in f"{row.what} {row.file}" for word in words)]
    subprocess.run([*_apart(), "true"], check=True)
    with tempfile.TemporaryDirectory(prefix="wo-defences-") as folder:
        _copy(Path(folder))
        held = [_fails_without(Path(folder), row) for row in chosen]
    print(f"{sum(held)} of {len(held)} tests failed without their defence")
    return 0 if all(held) else 1


def _copy(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy2(ROOT / name, folder / name)


def _fails_without(folder: Path, row: Defence) -> bool:
    file, started = folder / row.file, time.monotonic()
    whole = file.read_text()
    file.write_text(whole.replace(row.code, row.without, 1))
    try:
        code = _tested(folder, row.test)
    finally:
        file.write_text(whole)
    known: dict[int | str, str] = {TEST_FAILED: "failed", 0: "PASSED"}
    said = known.get(code, f"NOT TESTED (pytest ended: {code})")
    print(f"{said:10} {time.monotonic() - started:4.0f} s  {row.what} ({row.file}): {row.test}", flush=True)
    return code == TEST_FAILED


def _apart() -> list[str]:
    return [word for word in _APART if os.geteuid() != 0 or word != "--map-current-user"]


def _tested(folder: Path, test: str) -> int | str:
    """How pytest ended."""
    pytest = (sys.executable, "-B", "-m", "pytest", "-n", "0", "-q", "-x", *_PLUGINS_LEFT_OUT)
    try:
        return subprocess.run(
            [*_apart(), *pytest, *shlex.split(test)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=RUN_SECONDS,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return "too late"


if __name__ == "__main__":
    sys.exit(main())
