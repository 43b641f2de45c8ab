"""A short chaos run on each database; docs/operations.md says how to run the long one."""

from pathlib import Path

import pytest

from tests.chaos.run import ChaosOptions, run_chaos
from tests.e2e.conftest import database_url
from tests.support import require_program

__all__ = ["database_url"]  # the fixture of the end-to-end tests
pytestmark = pytest.mark.e2e


@pytest.mark.timeout(600)
def test_the_law_holds_after_a_short_chaos(tmp_path: Path, database_url: str) -> None:
    require_program("gh")
    require_program("bwrap")
    options = ChaosOptions(
        orders=6,
        workers=3,
        seed="ci",
        faults=0.15,
        lease_seconds=12,
        silence_seconds=20,
        timeout_seconds=200,
        judge_times=False,  # other tests run beside it
    )
    said: list[str] = []
    summary = run_chaos(tmp_path, options, database_url, tell=said.append)
    assert summary.holds, "\n".join([summary.text(), *said])
