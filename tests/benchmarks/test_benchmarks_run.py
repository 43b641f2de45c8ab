"""Every benchmark runs and compares what it measures with a floor. No number is judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import NAMES
from tests.support import require_program

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_produces_ratios(name: str, tmp_path: Path) -> None:
    require_program("bwrap")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", name, "--tiny", "--format=json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    for row in rows:
        assert row["what"].startswith(name)
        assert row["n"] > 0
        assert row["floor"] > 0
        assert row["ratio"] > 0
    assert list(tmp_path.glob("wo-bench-*")) == []


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert all(name in done.stderr for name in NAMES)
