"""Tests that use the database run a second time, on Postgres, in a session of its own; but those marked `once`."""

import subprocess

import pytest

from tests.on_postgres import IN_CI, ROOT, argv, environment


@pytest.mark.timeout(2400)
def test_database_tests_pass_on_postgres(postgres_url: str) -> None:
    done = subprocess.run(
        argv(IN_CI),
        env=environment(postgres_url),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
