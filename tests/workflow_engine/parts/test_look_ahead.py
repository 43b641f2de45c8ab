"""Looking at the remote for an order's next step: what counts as an answer, and that the engine uses it."""

import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from sandboxes.trusted_git.git import GitSettings, RemoteRefs, RemoteRepository, TrustedGit
from tests.fakes.git_http import create_bare_repository, git
from tests.workflow_engine.engine import finished, local_order, running_engine, starts
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.workflow_engine.parts import look_ahead
from workorders.workflow_engine.parts.look_ahead import LookAhead

BRANCH = "feat-wo-00000001"


class CountingGit(TrustedGit):
    asked = 0

    def remote_refs(self, *arguments: Any) -> RemoteRefs:
        type(self).asked += 1
        return super().remote_refs(*arguments)


@pytest.fixture
def remote(tmp_path: Path) -> RemoteRepository:
    path = tmp_path / "remote.git"
    create_bare_repository(path)
    git("branch", BRANCH, "main", folder=path)
    return RemoteRepository(str(path))


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> type[CountingGit]:
    class Counting(CountingGit):
        pass

    return Counting


@pytest.fixture
def looking(asking: type[CountingGit]) -> LookAhead:
    return LookAhead(asking(GitSettings(search_path="/usr/bin:/bin", allow_local=True)))


def order_at(remote: RemoteRepository, pk: int = 1) -> AgentWorkOrder:
    head = git("rev-parse", BRANCH, folder=Path(remote.url))
    return AgentWorkOrder(pk=pk, git_branch_name=BRANCH, base_branch="main", head_sha=head)


def test_the_answer_is_given_once(looking: LookAhead, remote: RemoteRepository) -> None:
    order = order_at(remote)
    looking.begin(order, remote, "main")
    assert looking.take(order, remote) == RemoteRefs(
        "main", {BRANCH: order.head_sha, "main": order.head_sha, "HEAD": order.head_sha}
    )
    assert looking.take(order, remote) is None


def test_only_to_the_same_question(looking: LookAhead, remote: RemoteRepository) -> None:
    order = order_at(remote)
    looking.begin(order, remote, "main")
    assert looking.take(order_at(remote, pk=2), remote) is None
    assert looking.take(order, RemoteRepository(remote.url, token="another")) is None
    looking.begin(order, remote, "release")
    assert looking.take(order, remote) is None


def test_a_branch_that_somebody_moved_is_looked_at_again(
    looking: LookAhead, remote: RemoteRepository
) -> None:
    order = order_at(remote)
    order.head_sha = "1" * 40  # what the order had pushed
    looking.begin(order, remote, "main")
    assert looking.take(order, remote) is None


def test_an_old_answer_is_none(
    looking: LookAhead, remote: RemoteRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_ahead, "_FRESH_SECONDS", 0.05)
    order = order_at(remote)
    looking.begin(order, remote, "main")
    time.sleep(0.1)
    assert looking.take(order, remote) is None


def test_a_remote_that_does_not_answer_is_the_next_steps_own_matter(
    looking: LookAhead, remote: RemoteRepository, tmp_path: Path
) -> None:
    order, gone = order_at(remote), RemoteRepository(str(tmp_path / "gone.git"))
    looking.begin(order, gone, "main")
    assert looking.take(order, gone) is None


def test_nothing_is_asked_while_nobody_takes_the_answers(
    looking: LookAhead, remote: RemoteRepository, asking: type[CountingGit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy server, where other orders have waited longer."""
    order, other = order_at(remote), order_at(remote, pk=2)
    looking.begin(other, remote, "main")
    with monkeypatch.context() as patched:
        patched.setattr(look_ahead, "_FRESH_SECONDS", 0.0)
        looking.begin(order, remote, "main")
    asked = asking.asked
    looking.begin(other, remote, "main")
    assert looking.take(other, remote) is None
    assert asking.asked == asked, "it was spared, but would have been taken"
    looking.begin(order, remote, "main")
    assert looking.take(order, remote) is not None


def test_a_push_tells_where_the_branch_is(
    looking: LookAhead, remote: RemoteRepository, asking: type[CountingGit]
) -> None:
    order = order_at(remote)
    looking.note_push(order, remote, "main", head=order.head_sha, base_sha="b" * 40)
    found = looking.take(order, remote)
    assert found is not None
    assert found.branches[order.git_branch_name] == order.head_sha
    assert found.branches["main"] == "b" * 40
    assert asking.asked == 0
    assert looking.take(order, remote) is None, "once"


def test_a_push_tells_nothing_of_another_commit(looking: LookAhead, remote: RemoteRepository) -> None:
    order = order_at(remote)
    looking.note_push(order, remote, "main", head="c" * 40, base_sha="b" * 40)
    assert looking.take(order, remote) is None


@pytest.mark.django_db(transaction=True)
def test_an_order_in_one_process_looks_once_and_then_ahead(
    tmp_path: Path, engine_settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[str, bool]] = []
    ask, take = TrustedGit.remote_refs, LookAhead.take

    def asked(self: TrustedGit, *arguments: Any) -> RemoteRefs:
        looks.append(("asked", True))
        return ask(self, *arguments)

    def taken(self: LookAhead, order: AgentWorkOrder, remote: RemoteRepository) -> RemoteRefs | None:
        found = take(self, order, remote)
        looks.append(("taken", found is not None))
        return found

    monkeypatch.setattr(TrustedGit, "remote_refs", asked)
    monkeypatch.setattr(LookAhead, "take", taken)
    order = local_order(tmp_path, workflow_type=AgentWorkflowType.PLAN_BUILD_TEST)
    with running_engine(share=1):
        assert finished(order).status == "completed"
    assert starts(tmp_path) == ["planning", "implementing", "testing"]
    assert [found for name, found in looks if name == "taken"] == [False, True, True, True]
    assert sum(name == "asked" for name, _ in looks) == 2, "when its place is opened, and for its delivery"
