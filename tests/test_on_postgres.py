"""Tests that use the database run a second time, on Postgres, in a session of its own; but those marked `once`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.timeout(2400)
def test_database_tests_pass_on_postgres(postgres_url: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "tests",
            "-m",
            "django_db and not e2e and not once",
            "-n",
            "0",
            "-q",
        ],
        env={**_outer_environment(), "WORKORDERS_TEST_DATABASE_URL": postgres_url},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def _outer_environment() -> dict[str, str]:
    """Without what this session set for Django: the inner one must read its settings after its own conftest."""
    ours = ("WORKORDERS_", "DJANGO_", "DATABASE_URL", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
