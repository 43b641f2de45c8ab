"""The way out of the real engine: a secret stops it, a protected path asks a person about one sha."""

from pathlib import Path
from typing import Any

import pytest

from sandboxes.errors import GitError
from sandboxes.trusted_git.git import TrustedGit
from tests.e2e.harness import wait_for
from tests.fakes.git_http import branches, git
from tests.workflow_engine.engine import finished, local_order, running_engine, starts, wait_until
from tests.workflow_engine.rows import all_rows
from workorders.domain.errors import ConflictError
from workorders.domain.states import EffectKind, EffectState, WaitingReason
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services
from workorders.text import redaction

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]
KEY = "Vx7kQ2mPz9TnR4wLsB8cYd3FhJ6gA1eU"
TOKEN = "ghp_" + "a1B2c3" * 6
WORKFLOW = ".github/workflows/evil.yml"


def committing(path: str, content: str, *, when: str = "") -> str:
    half = len(content) // 2  # in two pieces: a request that holds a secret is itself stored without it
    write = f"printf %s '{content[:half]}' > {path}; echo '{content[half:]}' >> {path}"
    shell = f"mkdir -p $(dirname {path}); {write}; git add -A; git commit -qm 'Add a file'"
    return f"agent{when}: run {shell}"


def mirror_of(folder: Path) -> Path:
    [found] = (folder / "data" / "mirrors").rglob("*.git")
    return found


def asked(order: AgentWorkOrder) -> AgentWorkOrder:
    return wait_until(
        order, lambda row: row.waiting_reason == WaitingReason.APPROVAL_REQUIRED and not row.claim_owner
    )


@pytest.fixture(autouse=True)
def known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction._Known())
    redaction.register(("MODEL_KEY", KEY))


def test_a_known_secret_fails_the_order_and_nothing_is_pushed(tmp_path: Path) -> None:
    order = local_order(
        tmp_path, f"agent: run env > a.txt; printf %s {KEY[:9]} > k; echo {KEY[9:]} >> k; git add k"
    )
    with running_engine():
        finished(order)
    assert (order.status, order.error_category, order.head_sha) == ("failed", "secret_in_commits", "")
    assert set(branches(tmp_path / "remote.git")) == {"main"}
    assert "MODEL_KEY is in 'k' of commit" in (order.error_message or "")
    assert "Replace the secret" in (order.error_advice or "")
    assert KEY not in repr(all_rows())
    assert starts(tmp_path) == ["planning"]
    kept = git("rev-parse", f"refs/work-orders/{order}", folder=mirror_of(tmp_path))
    assert kept == order.base_sha, "a retry starts from what the remote has"


def test_a_secret_where_the_evidence_is_missing_too_is_told_once(tmp_path: Path) -> None:
    order = local_order(tmp_path, f"{committing('k', KEY)}\nagent: nothing")
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "evidence_missing")
    assert set(branches(tmp_path / "remote.git")) == {"main"}
    told = [row.fields["git_commit_sha"] for row in order.log_entries.filter(event="git_push_blocked")]
    assert len(told) == len(set(told)) == order.phase_runs.count() == 2
    removed = order.log_entries.filter(event="sandbox_cleanup_completed").count()
    assert removed == 2, "nobody takes the secret out of the first place again"


def test_a_push_that_the_remote_refuses_is_not_left_as_sent(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    hook = tmp_path / "remote.git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
    hook.chmod(0o755)
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "push_rejected")
    push = order.effects.get(kind=EffectKind.PUSH)
    assert (push.state, push.requests) == (EffectState.PLANNED, 1)
    hook.unlink()
    services.retry_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
    with running_engine():
        finished(order)
    push.refresh_from_db()
    assert (order.status, push.state, push.requests) == ("completed", EffectState.CONFIRMED, 2)


def test_an_agent_that_committed_a_token_may_do_it_again_without(tmp_path: Path) -> None:
    order = local_order(tmp_path, committing("notes.txt", f"token {TOKEN}", when="[planning#1]"))
    with running_engine():
        finished(order)
    assert (order.status, order.outcome) == ("completed", "branch_pushed")
    runs = order.phase_runs.order_by("sequence").values_list("phase", "status", "error_category")
    assert list(runs)[:2] == [("planning", "failed", "secret_in_commits"), ("planning", "succeeded", "")]
    remote = tmp_path / "remote.git"
    assert TOKEN not in git("log", "-p", "--all", folder=remote)
    assert TOKEN not in repr(all_rows())


def test_commits_of_a_failed_attempt_pass_the_same_gate(tmp_path: Path) -> None:
    order = local_order(tmp_path, f"{committing('k.txt', KEY)}\nagent: fail I give up")
    held = local_order(tmp_path, f"{committing(WORKFLOW, 'on: push')}\nagent: fail I give up")
    with running_engine():
        finished(order)
        finished(held)
    assert {order.status, held.status} == {"failed"}
    assert set(branches(tmp_path / "remote.git")) == {"main"}


def test_a_protected_path_waits_for_a_word_about_exactly_this_commit(tmp_path: Path) -> None:
    order = local_order(
        tmp_path,
        committing(WORKFLOW, "on: push", when="[planning]"),
        workflow_type=AgentWorkflowType.PLAN_BUILD,
    )
    remote = tmp_path / "remote.git"
    with running_engine():
        asked(order)
    assert (order.status, order.waiting_until, order.head_sha) == ("running", None, "")
    assert [item["path"] for item in order.approval_paths] == [WORKFLOW]
    assert set(branches(remote)) == {"main"}
    assert "+on: push" in order.git_files.get(path=WORKFLOW).patch
    with pytest.raises(ConflictError, match="The commit that waits is"):
        services.approve_agent_work_order(agent_work_order_id=str(order), sha="f" * 40, by="ann")
    with pytest.raises(ConflictError, match="decision"):
        services.continue_agent_work_order(agent_work_order_id=str(order), by="ann")
    waited = order.approval_sha
    services.approve_agent_work_order(agent_work_order_id=str(order), sha=waited, by="ann")
    with running_engine():  # another process: nothing but rows and the mirror remember
        finished(order)
    assert (order.status, order.approved_by, order.approved_sha) == ("completed", "ann", waited)
    assert (order.approval_sha, order.approval_paths, order.preferred_host) == ("", [], "")
    pushed = git("rev-list", str(order.git_branch_name), folder=remote).split()
    assert waited in pushed
    assert starts(tmp_path) == ["planning", "implementing"], "the step that waited was not run again"
    assert {run.attempt for run in order.phase_runs.all()} == {1}
    event = order.log_entries.get(event="agent_work_order_approved")
    assert (event.fields["by"], event.fields["git_commit_sha"]) == ("ann", waited)


def test_what_comes_after_an_approved_commit_is_asked_about_again(tmp_path: Path) -> None:
    order = local_order(
        tmp_path, committing(WORKFLOW, "on: push"), workflow_type=AgentWorkflowType.PLAN_BUILD
    )
    again = "agent[implementing]: run echo more >> " + WORKFLOW + "; git commit -qam More"
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="later", by="ann")
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt=f"{order.initial_prompt}\n{again}")
    order.prompts.all().delete()
    with running_engine():
        asked(order)
        first = order.approval_sha
        services.approve_agent_work_order(agent_work_order_id=str(order), sha=first, by="ann")
        wait_until(order, lambda row: row.approval_sha not in {"", first} and row.waiting_reason != "")
        assert branches(tmp_path / "remote.git")[order.git_branch_name] == first
        services.cancel_agent_work_order(agent_work_order_id=str(order), by="ann")
    order.refresh_from_db()
    assert (order.status, order.waiting_reason) == ("cancelled", "")


def test_a_follow_up_prompt_goes_on_from_the_commit_that_waits(tmp_path: Path) -> None:
    order = local_order(tmp_path, committing(WORKFLOW, "on: push", when="[planning]"))
    with running_engine():
        asked(order)
        first = order.approval_sha
        services.prompt_agent_work_order(
            agent_work_order_id=str(order),
            prompt_text=f"agent[planning]: run git rm -q {WORKFLOW}; git commit -qm 'Take it back'\nagent: nothing",
            by="ann",
        )
        wait_until(order, lambda row: row.approval_sha not in {"", first} and row.waiting_reason != "")
        second = order.approval_sha
        parent = git("rev-parse", f"{second}~1", folder=mirror_of(tmp_path))
        assert git("ls-tree", "-r", "--name-only", second, folder=mirror_of(tmp_path)).count(WORKFLOW) == 0
        assert parent == first
        assert set(branches(tmp_path / "remote.git")) == {"main"}, "the commit in between would be pushed too"
        services.approve_agent_work_order(agent_work_order_id=str(order), sha=second, by="bob")
        finished(order)
    assert (order.status, order.head_sha, order.approved_by) == ("completed", second, "bob")
    assert starts(tmp_path) == ["planning", "planning"]
    assert order.prompts.get().status == "done"


def test_another_host_leaves_the_commits_to_the_one_that_has_them(tmp_path: Path) -> None:
    order = local_order(tmp_path, committing(WORKFLOW, "on: push"))
    with running_engine(owner="one:1:1"):
        asked(order)
    services.approve_agent_work_order(agent_work_order_id=str(order), sha=order.approval_sha, by="ann")
    with running_engine(owner="two:1:1"):
        order.refresh_from_db()
        assert order.claim_owner == ""
    assert set(branches(tmp_path / "remote.git")) == {"main"}
    with running_engine(owner="one:2:2"):
        finished(order)
    assert order.status == "completed"
    assert starts(tmp_path) == ["planning"]


def test_paths_are_the_repositorys_own_and_may_be_none(tmp_path: Path) -> None:
    order = local_order(tmp_path, committing(WORKFLOW, "on: push"))
    services.update_protected_paths(repository_pk=order.repository_id, protected_paths="", by="ann")
    with running_engine():
        finished(order)
    assert order.status == "completed"


def test_a_last_push_that_fails_is_tried_again_without_the_agent_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place goes while the last commits are pushed; by then the mirror has them, and the row names them."""
    push, places = TrustedGit.push, tmp_path / "data" / "sandboxes"
    left: list[list[Path]] = []

    def fail_once(self: TrustedGit, *arguments: Any, **named: Any) -> None:
        if not left:
            wait_for(lambda: not list(places.iterdir()), 10, "the place's removal")
            left.append(list(places.iterdir()))
            raise GitError("The connection was lost.", retryable=True)
        push(self, *arguments, **named)

    monkeypatch.setattr(TrustedGit, "push", fail_once)
    order = local_order(tmp_path)
    with running_engine():
        assert finished(order).status == "completed"
    assert left == [[]]
    assert [run.status for run in order.phase_runs.filter(kind="phase")] == ["failed", "succeeded"]
    assert starts(tmp_path) == ["planning"], "the commits were adopted"
    assert order.head_sha == branches(tmp_path / "remote.git")[order.git_branch_name]
    assert list(places.iterdir()) == []
