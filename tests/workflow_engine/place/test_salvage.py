"""Uncommitted work is never lost with a place: it comes into git, or the place is kept and the order's log says so."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.utils import timezone

from sandboxes.base import AgentSandbox, Remains
from sandboxes.errors import SandboxError
from sandboxes.processes.host_lock import exclusive_lock
from tests.factories import make_order, make_run
from tests.fakes.git_http import branches, git
from tests.workflow_engine.engine import finished, local_order, running_engine, starts
from tests.workflow_engine.places import (
    abandoned,
    cancelled,
    in_mirror,
    kept_files,
    mirror_of,
    sweep,
    wait_until_place,
)
from workorders import wiring
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowType
from workorders.management.cluster.gateway import GatewayKeeper
from workorders.management.cluster.housekeeping import Housekeeper
from workorders.models import AgentWorkOrder
from workorders.workflow_engine.place.salvage import Salvage
from workorders.workflow_engine.planning.retries import RULES
from workorders.workflow_engine.upkeep.retention import Retention, prune

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]
AT_WORK = "agent[#1]: leave notes.txt\nagent[#1]: sleep 60"
BREAK = f'echo {"1" * 40} > "$(git rev-parse --git-dir)/$(git symbolic-ref HEAD)"'
"""The branch is at a commit that is nowhere: nothing can be told from its files then."""
LEFT = "left uncommitted"


def spoil(place: Path) -> None:
    subprocess.run(["sh", "-c", BREAK], cwd=place, check=True)


def on_branch(folder: Path, order: AgentWorkOrder, name: str) -> str:
    return git("show", f"{order.git_branch_name}:{name}", folder=folder / "remote.git")


def kept_events(order: AgentWorkOrder, event: str = "sandbox_kept") -> list[str]:
    """The reasons the order's log gives, oldest first."""
    found = order.log_entries.filter(event=event).order_by("sequence")
    return [entry.fields["reason"] for entry in found]


# --- by the step that ends, or that comes after ---


def test_what_a_cancelled_order_left_is_brought_into_git_and_a_retry_goes_on_from_it(tmp_path: Path) -> None:
    order, data_dir = local_order(tmp_path, AT_WORK), tmp_path / "data"
    with running_engine():
        place = wait_until_place(order, data_dir, "notes.txt")
        AgentWorkOrder.objects.filter(pk=order.pk).update(cancel_requested_at=timezone.now())
        assert finished(order).status == "cancelled"
        assert not place.exists()
    assert in_mirror(data_dir, order, "notes.txt") == LEFT
    assert branches(tmp_path / "remote.git").keys() == {"main"}, "nothing is pushed of a cancelled order"


@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_an_attempt_goes_on_from_what_a_dead_worker_left(tmp_path: Path, sandbox_type: str) -> None:
    order, _place = abandoned(tmp_path, AT_WORK, sandbox_type=sandbox_type)
    with running_engine():
        finished(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert starts(tmp_path) == ["planning", "planning"]
    assert on_branch(tmp_path, order, "notes.txt") == LEFT
    assert kept_events(order) == []


@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_a_cancel_after_a_workers_death_takes_the_work_first(tmp_path: Path, sandbox_type: str) -> None:
    order, place = abandoned(tmp_path, AT_WORK, sandbox_type=sandbox_type)
    AgentWorkOrder.objects.filter(pk=order.pk).update(cancel_requested_at=timezone.now())
    with running_engine():
        assert finished(order).status == "cancelled"
    assert not place.exists()
    assert in_mirror(tmp_path / "data", order, "notes.txt") == LEFT


def test_each_attempts_work_that_cannot_be_taken_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "evidence_missing", replace(RULES["evidence_missing"], attempts=3))
    order = local_order(tmp_path, f"agent: leave notes.txt\nagent[#1]: then {BREAK}\nagent[#2]: then {BREAK}")
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert len(kept_files(tmp_path / "data", "notes.txt")) == 2
    assert len(kept_events(order)) == 2
    assert on_branch(tmp_path, order, "notes.txt") == LEFT


def test_a_half_made_place_is_no_work(tmp_path: Path) -> None:
    order, data_dir = local_order(tmp_path), tmp_path / "data"
    half = data_dir / "sandboxes" / order.expected_sandbox_identifier / order.expected_sandbox_identifier
    half.mkdir(parents=True)
    (half / "README.md").write_text("half")
    with running_engine():
        assert finished(order).status == "completed"
    assert not (data_dir / "kept").exists()


def test_a_place_that_cannot_be_emptied_in_time_is_left_to_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel cannot wait; nothing is given up for that."""
    order, place = abandoned(tmp_path, AT_WORK)
    monkeypatch.setattr("workorders.workflow_engine.place.salvage.HURRIED_SECONDS", 0.0)
    AgentWorkOrder.objects.filter(pk=order.pk).update(cancel_requested_at=timezone.now())
    with running_engine():
        assert finished(order).status == "cancelled"
    assert (place / "notes.txt").exists()
    sweep(tmp_path / "data")
    assert not place.exists()
    assert in_mirror(tmp_path / "data", order, "notes.txt") == LEFT


# --- what git does not take ---


@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_a_stale_lock_neither_hides_work_nor_costs_the_next_phase_an_attempt(
    tmp_path: Path, sandbox_type: str
) -> None:
    lock = 'touch "$(git rev-parse --git-dir)/index.lock" "$(git rev-parse --git-dir)/HEAD.lock"'
    order = local_order(
        tmp_path,
        "agent[planning]: commit specs/x.md\nagent[planning]: leave notes.txt\n"
        f"agent[planning]: run {lock}\nagent[planning]: nothing",
        workflow_type=AgentWorkflowType.PLAN_BUILD,
        sandbox_type=sandbox_type,
    )
    with running_engine():
        finished(order)
    assert order.status == "completed"
    assert starts(tmp_path) == ["planning", "implementing"]
    assert on_branch(tmp_path, order, "notes.txt") == LEFT
    assert kept_events(order) == []


def test_more_new_files_than_somebodys_work_are_kept_and_said(tmp_path: Path) -> None:
    many = "mkdir g; cd g; for i in $(seq 501); do echo $i > $i.txt; done"
    order = local_order(tmp_path, f"agent: leave notes.txt\nagent: run {many}")
    with running_engine():
        assert finished(order).status == "completed"
    assert "specs/" in git(
        "ls-tree", "-r", "--name-only", order.git_branch_name, folder=tmp_path / "remote.git"
    )
    [kept] = kept_files(tmp_path / "data", "notes.txt")
    assert (kept.parent / "g" / "501.txt").exists()
    [said] = kept_events(order, "sandbox_work_left_out")
    assert said.startswith("502 new files")
    assert said in kept_events(order)[0]


# --- by the sweep ---


@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_the_sweep_takes_the_work_before_it_removes_the_place(tmp_path: Path, sandbox_type: str) -> None:
    order, place = abandoned(tmp_path, AT_WORK, sandbox_type=sandbox_type)
    cancelled(order)
    sweep(tmp_path / "data")
    assert not place.exists()
    assert in_mirror(tmp_path / "data", order, "notes.txt") == LEFT


def test_it_takes_what_the_place_began_with_whoever_ran_last(tmp_path: Path) -> None:
    """Another host finished the order; this one's mirror knows nothing of that."""
    order, place = abandoned(tmp_path, AT_WORK)
    make_run(order, status=PhaseRunStatus.SUCCEEDED, attempt=2, start_sha="1" * 40)
    cancelled(order)
    AgentWorkOrder.objects.filter(pk=order.pk).update(head_sha="2" * 40)
    sweep(tmp_path / "data")
    assert not place.exists()
    mirror = mirror_of(tmp_path / "data")
    [salvaged] = git("for-each-ref", "--format=%(refname)", "refs/salvaged", folder=mirror).split()
    assert git("show", f"{salvaged}:notes.txt", folder=mirror) == LEFT
    assert git("for-each-ref", "refs/work-orders", folder=mirror) == "", "a retry does not go on from there"


def test_what_cannot_be_taken_stays_until_a_person_gives_it_up(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    order, place = abandoned(tmp_path, AT_WORK)
    cancelled(order)
    spoil(place)
    for _ in range(2):
        sweep(data_dir)
        [kept] = kept_files(data_dir, "notes.txt")
    assert not place.exists()
    assert len(kept_events(order)) == 1, "said once"
    [said] = prune(wiring.engine_parts(), Retention(1, 1, 1)).kept
    assert said.startswith(f"kept/git-branch-{order}")
    out = StringIO()
    with pytest.raises(CommandError, match="cancel it first"):
        call_command("prune", "--discard-work", str(make_order()), stdout=out)
    call_command("prune", "--discard-work", str(order), "--dry-run", stdout=out)
    assert kept.exists()
    call_command("prune", "--discard-work", str(order), stdout=out)
    assert not kept.exists()
    assert f"place with its work git-branch-{order}" in out.getvalue()


def test_a_note_that_cannot_be_read_is_no_leave_to_delete(tmp_path: Path) -> None:
    order, place = abandoned(tmp_path, AT_WORK)
    cancelled(order)
    (place.parent / "trusted" / "note.json").write_text("")
    sweep(tmp_path / "data")
    assert kept_files(tmp_path / "data", "notes.txt")


def test_a_mirror_that_is_gone_costs_no_work(tmp_path: Path) -> None:
    order, _place = abandoned(tmp_path, AT_WORK)
    cancelled(order)
    shutil.rmtree(mirror_of(tmp_path / "data"))
    sweep(tmp_path / "data")
    assert kept_files(tmp_path / "data", "notes.txt")
    assert len(kept_events(order)) == 1


@pytest.mark.parametrize("how", ["by another attempt", "by its end"])
def test_a_sweep_that_is_cut_short_moves_nothing(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, place = abandoned(tmp_path, AT_WORK)
    cancelled(order)
    lock = tmp_path / "data" / "locks" / "workspaces" / f"{order.expected_sandbox_identifier}.lock"
    stopped = False
    take = Salvage._take

    def cut_short(self: Salvage, sandbox: AgentSandbox, remains: Remains) -> None:
        nonlocal stopped
        if how == "by another attempt":
            lock.write_text("999")
        stopped = True
        take(self, sandbox, remains)
        raise SandboxError("ended before it was done")

    monkeypatch.setattr(Salvage, "_take", cut_short)
    is_stopped: Callable[[], bool] = (lambda: stopped) if how == "by its end" else (lambda: False)
    assert not wiring.may_remove_sandbox(order.expected_sandbox_identifier, is_stopped)
    assert stopped
    assert (place / "notes.txt").exists()
    assert kept_events(order) == []


def test_two_sweeps_do_not_end_each_others_work(tmp_path: Path) -> None:
    order, place = abandoned(tmp_path, AT_WORK)
    cancelled(order)
    with exclusive_lock(tmp_path / "data" / "locks" / "salvage.lock"):
        sweep(tmp_path / "data")
        assert (place / "notes.txt").exists()
    sweep(tmp_path / "data")
    assert in_mirror(tmp_path / "data", order, "notes.txt") == LEFT


def test_a_cluster_sweeps_no_work_away(tmp_path: Path, engine_settings: LazySettings) -> None:
    order, place = abandoned(tmp_path, AT_WORK)
    cancelled(order)
    Housekeeper(GatewayKeeper())._sweep()
    assert not place.exists()
    assert in_mirror(tmp_path / "data", order, "notes.txt") == LEFT
