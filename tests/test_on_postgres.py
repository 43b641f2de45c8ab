"""Every test that uses the database runs a second time, on Postgres, as a session of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.timeout(600)
def test_database_tests_pass_on_postgres(postgres_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests", "-m", "django_db and not e2e", "-n", "0", "-q"],
        env={**os.environ, "WORKORDERS_TEST_DATABASE_URL": postgres_url, "PYTEST_ADDOPTS": ""},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
