"""An order on a host whose copy of the repository was damaged: it completes, and its log says what was mended."""

from pathlib import Path

import pytest

from tests.fakes.git_http import branches, git
from tests.workflow_engine.engine import finished, local_order, running_engine, starts

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]


def damaged(folder: Path) -> None:
    """After a first order: all that the copy knew of the repository is gone, but the refs that name it."""
    with running_engine():
        assert finished(local_order(folder)).status == "completed"
    [mirror] = (folder / "data" / "mirrors").rglob("*.git")
    assert git("for-each-ref", folder=mirror)
    for file in (mirror / "objects").rglob("*"):
        if file.is_file():
            file.unlink()


@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_the_next_attempt_finds_it_whole(tmp_path: Path, sandbox_type: str) -> None:
    damaged(tmp_path)
    order = local_order(tmp_path, sandbox_type=sandbox_type)
    with running_engine():
        assert finished(order).status == "completed"
    assert order.log_entries.filter(event="git_mirror_repaired").count() == 1
    assert starts(tmp_path) == ["planning", "planning"], "no agent began in a place that could not be made"
    assert order.head_sha == branches(tmp_path / "remote.git")[order.git_branch_name]
