"""`python -m tests.on_postgres [words for pytest …]`: the tests that use the database, on a private Postgres.

All of them, also those marked `once` or `whole`, which the suite's own run on Postgres leaves out.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support_postgres import private_postgres

ROOT = Path(__file__).resolve().parents[1]
ALL = "django_db and not e2e and (whole or not whole)"
IN_CI = "django_db and not e2e and not once"


def argv(marks: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "tests", "-m", marks, "-n", "0", "-q", *more]


def environment(postgres_url: str) -> dict[str, str]:
    """Without what this session set for Django: the inner one must read its settings after its own conftest."""
    ours = ("WORKORDERS_", "DJANGO_", "DATABASE_URL", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "WORKORDERS_TEST_DATABASE_URL": postgres_url}


def main(more: Sequence[str]) -> int:
    with private_postgres() as postgres:
        done = subprocess.run(argv(ALL, *more), env=environment(postgres.url), cwd=ROOT, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
