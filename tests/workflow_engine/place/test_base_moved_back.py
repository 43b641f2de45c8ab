"""Work that the base branch has no more, or never had, is not taken for merged: none of it is left out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.workflow_engine.order_life.life import COMMIT, Life, events, living, prompt, run

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]


@pytest.fixture
def life(tmp_path: Path, engine_settings: LazySettings) -> Iterator[Life]:
    with living(tmp_path, engine_settings) as found:
        yield found


@pytest.mark.parametrize("branch", ["left", "deleted"])
def test_squash_merged_and_the_base_branch_was_pushed_back(life: Life, branch: str) -> None:
    order, before = life.delivered(), life.sha("main")
    life.merge(order, "squash")
    life.person("push", "-q", "--force", "origin", f"{before}:refs/heads/main")
    if branch == "deleted":
        life.delete(order.git_branch_name)
    prompt(order, COMMIT)
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    ours = {f"one-{order}.txt", f"two-{order}.txt"}
    assert life.new_files(order.git_branch_name, "main") == {*ours, "more.txt"}
    assert events(order, "git_branch_renewed") == []
    assert [item.state for item in life.pull_requests(order)] == ["closed", "open"]


def test_a_merge_that_was_reverted_stays_merged(life: Life) -> None:
    order = life.delivered()
    life.merge(order, "squash")
    life.person("revert", "--no-edit", "HEAD")
    life.person("push", "-q", "origin", "main")
    prompt(order, COMMIT)
    run(order)
    assert order.status == "completed"
    assert life.new_files(order.git_branch_name, "main") == {"more.txt"}


@pytest.mark.parametrize("state", ["open", "closed"])
def test_the_branch_was_put_where_the_base_branch_is(life: Life, state: str) -> None:
    """Somebody dropped all of it: that is no merge, and ours is kept beside."""
    order = life.delivered()
    branch, ours = order.git_branch_name, order.head_sha
    life.commit("main", "meanwhile.txt")
    life.person("push", "-q", "--force", "origin", f"main:refs/heads/{branch}")
    life.pull_request(order).state = state
    prompt(order, COMMIT)
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    [said] = events(order, "git_branch_followed")
    assert (said["how"], said["kept_sha"]) == ("rewritten", ours)
    assert life.new_files(branch, "main") == {"more.txt"}
    assert (order.git_commit_count, order.git_files_changed) == (1, 1)
