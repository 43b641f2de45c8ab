"""Somebody else at work on an order's branch, at any moment of its life: nothing of theirs is overwritten or lost.

The cells of the life after the first end are in test_order_life.py; here are the moments between, and the odd ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from sandboxes.trusted_git.git import TrustedGit
from tests.factories import make_order, make_run
from tests.fakes.git_http import branches, git
from tests.workflow_engine.engine import finished, local_order, running_engine, wait_until
from tests.workflow_engine.order_life.life import (
    COMMIT,
    QUESTION,
    Life,
    events,
    living,
    prompt,
    retry,
    run,
)
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.models.clock import database_now
from workorders.workflow_engine.handlers.delivery import Delivery
from workorders.workflow_engine.outward.github_delivery import GitHubDelivery
from workorders.workflow_engine.parts.look_ahead import LookAhead
from workorders.workflow_engine.place.salvage import kept_ref

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
MOVES: dict[str, Callable[[Life, str], object]] = {
    "forwarded": Life.commit,
    "rewritten": Life.rewrite,
    "moved back": Life.move_back,
}


@pytest.fixture
def life(tmp_path: Path, engine_settings: LazySettings) -> Iterator[Life]:
    with living(tmp_path, engine_settings) as found:
        yield found


def mirror_of(life: Life) -> Path:
    [found] = (life.folder / "data" / "mirrors").rglob("*.git")
    return found


def slow(life: Life, text: str = COMMIT) -> str:
    """A prompt whose first run waits for `go`; a second one does not."""
    return f"agent: say here\nagent: run until test -e {life.folder}/go; do sleep 0.05; done\n{text}"


@contextmanager
def at_work(life: Life, order: AgentWorkOrder) -> Iterator[None]:
    """The agent is at work in it; at the end it goes on, to the order's end."""
    with running_engine():
        wait_until(order, lambda row: row.log_entries.filter(event="agent_message").exists())
        yield
        (life.folder / "go").touch()
        finished(order)


# --- while the agent runs ---


@pytest.mark.parametrize("how", MOVES)
def test_moved_while_the_agent_runs(life: Life, how: str) -> None:
    order = life.delivered()
    branch = order.git_branch_name
    asked = prompt(order, slow(life))
    with at_work(life, order):
        MOVES[how](life, branch)
        found = life.sha(branch)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    assert f"Somebody else moved {branch} on the remote to {found[:12]}" in (order.error_message or "")
    assert "Retry" in (order.error_advice or "")
    assert life.sha(branch) == found
    kept = order.kept_sha
    assert kept[:12] in (order.error_advice or "")
    retry(order)
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    asked.refresh_from_db()
    assert asked.status == "done"
    head = life.sha(branch)
    assert life.contains(head, found)
    assert "more.txt" in life.files(head)
    assert life.lost() == []
    assert life.starts() == 2
    salvaged = git("for-each-ref", "--contains", kept, "refs/salvaged/", folder=mirror_of(life))
    assert (kept in git("rev-list", head, folder=life.bare)) or salvaged, "the agent's first commits are kept"


def test_deleted_while_the_agent_runs_and_not_merged(life: Life) -> None:
    order = life.delivered()
    prompt(order, slow(life))
    with at_work(life, order):
        life.delete(order.git_branch_name)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    assert "Somebody else deleted" in (order.error_message or "")
    assert life.sha(order.git_branch_name) == ""
    retry(order)
    run(order)
    assert order.status == "completed"
    assert "more.txt" in life.files(order.git_branch_name)
    assert life.starts() == 1, "its commits were adopted"


def test_squash_merged_and_deleted_while_the_agent_runs(life: Life) -> None:
    order = life.delivered()
    prompt(order, slow(life))
    with at_work(life, order):
        main = life.merge(order, "squash")
        life.delete(order.git_branch_name)
    assert order.status == "failed"
    retry(order)
    run(order)
    assert order.status == "completed"
    assert life.contains(order.git_branch_name, main)
    assert life.new_files(order.git_branch_name, "main") == {"more.txt"}
    assert [item.state for item in life.pull_requests(order)] == ["closed", "open"]


@pytest.mark.parametrize("how", MOVES)
def test_a_failing_attempt_pushes_nothing_over_it(life: Life, how: str) -> None:
    order = life.delivered()
    branch = order.git_branch_name
    prompt(order, slow(life, "agent: commit half.txt\nagent: fail I cannot"))
    with at_work(life, order):
        MOVES[how](life, branch)
        found = life.sha(branch)
    assert (order.status, order.error_category) == ("failed", "agent_reported_error")
    assert life.sha(branch) == found
    assert life.lost() == []


def test_moved_between_looking_and_pushing(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    order, push = life.delivered(), TrustedGit.push
    moved: list[str] = []

    def push_later(self: TrustedGit, *arguments: Any, **named: Any) -> None:
        if not moved:
            moved.append(life.rewrite(order.git_branch_name))
        push(self, *arguments, **named)

    monkeypatch.setattr(TrustedGit, "push", push_later)
    prompt(order, COMMIT)
    run(order)
    assert (order.status, life.sha(order.git_branch_name)) == ("failed", moved[0])
    assert "Somebody else moved" in (order.error_message or "")
    retry(order)
    run(order)
    assert order.status == "completed"
    assert life.contains(order.git_branch_name, moved[0])


# --- between steps, and before the first ---


def halfway(life: Life) -> AgentWorkOrder:
    """Planned and pushed; the implementing phase comes next. No pull request yet."""
    order = life.delivered(pr=False, workflow_type=AgentWorkflowType.PLAN_BUILD)
    order.phase_runs.all().delete()
    make_run(order, AgentWorkflowPhase.PLANNING, start_sha=order.base_sha, end_sha=order.head_sha)
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        status="running", outcome=None, current_phase="planning", claimable_at=database_now()
    )
    order.refresh_from_db()
    return order


@pytest.mark.parametrize("how", MOVES)
def test_moved_between_two_phases(life: Life, how: str) -> None:
    order = halfway(life)
    branch = order.git_branch_name
    MOVES[how](life, branch)
    found = life.sha(branch)
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert life.contains(branch, found)
    assert life.lost() == []
    gone = f"two-{order}.txt"
    assert (gone in life.files(branch)) == (how != "moved back"), "what was dropped stays so"
    [told] = events(order, "git_branch_followed")
    assert (told["how"], told["found_sha"]) == (how.replace(" ", "_"), found)


def test_a_person_had_a_branch_of_that_name_before_the_first_step(life: Life) -> None:
    order = make_order(repository="acme/widgets", workflow_type=AgentWorkflowType.BUILD)
    life.person("push", "-q", "origin", f"origin/main:refs/heads/{order.git_branch_name}")
    theirs = life.commit(order.git_branch_name)
    life.commit("main", "later.txt")
    run(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert life.contains(order.git_branch_name, theirs)
    assert order.git_files_changed == 2
    assert order.head_sha == life.sha(order.git_branch_name)


@pytest.mark.parametrize("first", [True, False], ids=["before the first step", "before a follow-up"])
def test_what_shares_no_history_stops_the_order(life: Life, first: bool) -> None:
    order = (
        make_order(repository="acme/widgets", workflow_type=AgentWorkflowType.BUILD)
        if first
        else life.delivered()
    )
    life.person("checkout", "-q", "--orphan", "other")
    life.person("commit", "-q", "-m", "Another project")
    life.person("push", "-q", "--force", "origin", f"other:refs/heads/{order.git_branch_name}")
    found = life.sha(order.git_branch_name)
    if not first:
        prompt(order, COMMIT)
    run(order)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    assert "no history in common" in (order.error_message or "")
    assert life.sha(order.git_branch_name) == found
    assert life.starts() == 0


def test_what_a_person_dropped_does_not_come_back_on_a_host_that_has_it(life: Life) -> None:
    order = life.delivered()
    life.move_back(order.git_branch_name)
    prompt(order, "agent: fail Not today")
    run(order)
    git("update-ref", kept_ref(str(order)), order.head_sha, folder=mirror_of(life))
    dropped = order.effects.get(kind="push", state="confirmed").key
    git("update-ref", kept_ref(str(order)), dropped, folder=mirror_of(life))  # as another host has it
    retry(order)
    order.prompts.update(prompt_text=COMMIT)
    run(order)
    assert order.status == "completed"
    assert f"two-{order}.txt" not in life.files(order.git_branch_name)


def test_a_deleted_branch_that_this_machine_does_not_have(life: Life, engine_settings: LazySettings) -> None:
    order = life.delivered()
    old = order.head_sha
    life.delete(order.git_branch_name)
    engine_settings.WORKORDERS_DATA_DIR = life.folder / "another host"
    asked = prompt(order, COMMIT)
    run(order)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    assert "Restore the branch" in (order.error_advice or "")
    life.person("push", "-q", "origin", f"{old}:refs/heads/{order.git_branch_name}")
    retry(order)
    run(order)
    asked.refresh_from_db()
    assert (order.status, asked.status) == ("completed", "done")


# --- at the delivery ---


@pytest.mark.parametrize("how", MOVES)
def test_moved_before_the_delivery(life: Life, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order, deliver = life.delivered(), Delivery.deliver
    moved: list[str] = []

    def deliver_later(self: Delivery, *arguments: Any) -> Any:
        if not moved:
            MOVES[how](life, order.git_branch_name)
            moved.append(life.sha(order.git_branch_name))
        return deliver(self, *arguments)

    monkeypatch.setattr(Delivery, "deliver", deliver_later)
    monkeypatch.setattr(LookAhead, "take", lambda *_: None)  # nobody has just looked
    prompt(order, COMMIT)
    run(order)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    assert "Somebody else moved" in (order.error_message or "")
    assert life.sha(order.git_branch_name) == moved[0]
    retry(order)
    run(order)
    assert (order.status, order.head_sha, life.sha(order.git_branch_name)) == (
        "completed",
        moved[0],
        moved[0],
    )
    assert life.lost() == []
    assert life.starts() == 1
    assert len(life.pull_requests(order)) == 1


@pytest.mark.parametrize("how", [*MOVES, "deleted"])
def test_moved_while_it_is_delivered(life: Life, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pull request shows what is there; the record says the same."""
    order, shown = life.delivered(), GitHubDelivery.pull_request

    def show_and_move(self: GitHubDelivery, **values: Any) -> Any:
        found = shown(self, **values)
        {**MOVES, "deleted": Life.delete}[how](life, order.git_branch_name)
        return found

    monkeypatch.setattr(GitHubDelivery, "pull_request", show_and_move)
    prompt(order, COMMIT)
    run(order)
    found = life.sha(order.git_branch_name)
    assert (order.status, order.error_message) == ("completed", None)
    assert found in {"", order.head_sha}
    assert (found == "") == (how == "deleted")
    assert life.lost() == []


def test_deleted_before_the_delivery_of_new_work(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    order, deliver = life.delivered(), Delivery.deliver
    done: list[int] = []

    def deliver_later(self: Delivery, *arguments: Any) -> Any:
        if not done:
            life.delete(order.git_branch_name)
            done.append(1)
        return deliver(self, *arguments)

    monkeypatch.setattr(LookAhead, "take", lambda *_: None)  # what it saw may be from before
    monkeypatch.setattr(Delivery, "deliver", deliver_later)
    prompt(order, COMMIT)
    run(order)
    assert (order.status, life.sha(order.git_branch_name)) == ("completed", order.head_sha)
    assert events(order, "git_branch_restored")


# --- merged ---


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_merged_with_a_persons_commit_that_never_came_here(life: Life, how: str) -> None:
    order = life.delivered()
    life.commit(order.git_branch_name)
    main = life.merge(order, how)
    life.delete(order.git_branch_name)
    life.theirs.clear()  # a squash keeps none of the commits
    prompt(order, COMMIT)
    run(order)
    assert order.status == "completed"
    assert life.contains(order.git_branch_name, main)
    assert life.new_files(order.git_branch_name, "main") == {"more.txt"}
    assert (order.git_commit_count, order.git_files_changed) == (1, 1)


def test_squashed_with_a_persons_commit_and_the_branch_is_still_there(life: Life) -> None:
    order = life.delivered()
    life.commit(order.git_branch_name)
    life.merge(order, "squash")
    prompt(order, COMMIT)
    run(order)
    assert order.status == "completed"
    assert life.lost() == []
    assert life.new_files(order.git_branch_name, "main") == {"more.txt"}
    assert (order.git_commit_count, order.git_files_changed) == (1, 1)


def test_merged_time_and_again(life: Life) -> None:
    order = life.delivered()
    for number in (1, 2):
        life.merge(order, "squash") if number == 1 else squash_newest(life, order)
        life.delete(order.git_branch_name)
        prompt(order, f"agent: commit more{number}.txt\nagent: nothing")
        run(order)
        assert order.status == "completed", order.error_message
        assert len(life.pull_requests(order)) == number + 1
        assert life.new_files(order.git_branch_name, "main") == {f"more{number}.txt"}
    prompt(order, "agent: commit last.txt\nagent: nothing")
    run(order)
    assert [item.state for item in life.pull_requests(order)] == ["closed", "closed", "open"]
    assert life.new_files(order.git_branch_name, "main") == {"more2.txt", "last.txt"}


def squash_newest(life: Life, order: AgentWorkOrder) -> None:
    life.person("fetch", "-q", "--prune", "origin")
    life.person("checkout", "-q", "-B", "main", "origin/main")
    life.person("merge", "-q", "--squash", f"origin/{order.git_branch_name}")
    life.person("commit", "-q", "-m", "More")
    life.person("push", "-q", "origin", "main")
    item = life.pull_requests(order)[-1]
    item.state, item.is_merged = "closed", True


def test_a_local_branch_that_was_merged_by_hand_and_deleted(tmp_path: Path) -> None:
    order = local_order(tmp_path, workflow_type=AgentWorkflowType.BUILD)
    run(order)
    remote = tmp_path / "remote.git"
    git("update-ref", "refs/heads/main", order.head_sha, folder=remote)
    git("update-ref", "-d", f"refs/heads/{order.git_branch_name}", folder=remote)
    before = order.head_sha
    prompt(order, QUESTION)
    run(order)
    assert (order.status, set(branches(remote))) == ("completed", {"main"})
    prompt(order, COMMIT)
    run(order)
    assert order.status == "completed"
    assert git("rev-list", "--count", f"{before}..{order.git_branch_name}", folder=remote) == "1"


def test_a_local_branch_that_was_squashed_by_hand_and_deleted(tmp_path: Path) -> None:
    order = local_order(tmp_path, workflow_type=AgentWorkflowType.BUILD)
    run(order)
    remote = tmp_path / "remote.git"
    tree = git("rev-parse", f"{order.head_sha}^{{tree}}", folder=remote)
    by = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    squashed = git(*by, "commit-tree", tree, "-p", "main", "-m", "All of it", folder=remote)
    git("update-ref", "refs/heads/main", squashed, folder=remote)
    git("update-ref", "-d", f"refs/heads/{order.git_branch_name}", folder=remote)
    prompt(order, COMMIT)
    run(order)
    assert order.status == "completed"
    assert git("rev-list", f"main..{order.git_branch_name}", folder=remote).split() == [order.head_sha]


# --- the base branch ---


def test_the_base_branch_is_deleted_after_the_order_began(life: Life) -> None:
    life.person("push", "-q", "origin", "origin/main:refs/heads/develop")
    order = halfway(life)
    AgentWorkOrder.objects.filter(pk=order.pk).update(base_branch="develop")
    life.delete("develop")
    run(order)
    assert (order.status, order.error_category) == ("failed", "base_branch_missing")
    assert "develop of acme/widgets was deleted" in (order.error_message or "")
    assert "default branch main" in (order.error_advice or "")
    assert life.starts() == 0
    retry(order)
    run(order)
    assert (order.status, order.base_branch) == ("completed", "main")
    assert life.pull_request(order).base_branch == "main"
    assert events(order, "git_base_branch_followed")


def test_the_base_branch_was_never_there(life: Life) -> None:
    order = make_order(
        repository="acme/widgets", workflow_type=AgentWorkflowType.BUILD, base_branch="develop"
    )
    for _ in range(2):
        run(order)
        assert (order.status, order.error_category) == ("failed", "base_branch_missing")
        assert "develop does not exist in acme/widgets" in (order.error_message or "")
        assert "default branch main" in (order.error_advice or "")
        retry(order)


def test_the_pull_request_was_moved_to_another_base_branch_that_stays(life: Life) -> None:
    life.person("push", "-q", "origin", "origin/main:refs/heads/release")
    order = life.delivered()
    life.pull_request(order).base_branch = "release"
    prompt(order, COMMIT)
    run(order)
    assert (order.status, order.base_branch) == ("completed", "release")
    assert len(life.pull_requests(order)) == 1
