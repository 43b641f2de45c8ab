"""The supervisor with real parts: git, sandboxes, processes and rows; only the agent follows a script."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError

from sandboxes.errors import SandboxError
from sandboxes.kinds import SandboxType
from sandboxes.processes.host_lock import exclusive_lock
from tests.e2e.harness import processes_with, wait_for
from tests.factories import make_run
from tests.fakes.git_http import branches, git
from tests.support import require_program
from tests.workflow_engine.engine import (
    Engine,
    finished,
    local_order,
    running_engine,
    starts,
    until_gone,
    wait_until,
)
from tests.workflow_engine.rows import all_rows, take_over
from workorders import wiring
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentWorkOrder
from workorders.models.clock import database_now
from workorders.models.phase_run import WORKER_LOST
from workorders.services import work_orders as services
from workorders.workflow_engine.place.workplace import Place, Workplace
from workorders.workflow_engine.record.recorder import DatabaseThread
from workorders.workflow_engine.worker import supervisor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]
SLEEP = "agent: sleep 60"
Run = PhaseRunStatus


def agents_of(order: AgentWorkOrder) -> list[int]:
    return processes_with(order.agent_work_order_id)


def until_agent_runs(folder: Path, order: AgentWorkOrder, times: int = 1) -> None:
    wait_for(lambda: len(starts(folder)) >= times and agents_of(order), 15, f"the agent of {order}")


def runs(order: AgentWorkOrder) -> list[tuple[str, str, int]]:
    return list(order.phase_runs.order_by("sequence").values_list("phase", "status", "attempt"))


def cancel(order: AgentWorkOrder) -> None:
    services.cancel_agent_work_order(agent_work_order_id=str(order), by="test")


def waits_for(lock: Path) -> bool:
    """Whether somebody of this process has the file open beside its holder."""
    opened = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            opened += path.readlink() == lock
    return opened > 1


def settled_rows() -> dict[str, list[dict[str, Any]]]:
    """All rows but the logs, which may tell what the loser saw before it knew."""
    rows = all_rows()
    del rows["workorders.WorkOrderLog"]
    for row in rows["workorders.AgentWorkOrder"]:
        del row["log_sequence"]
    return rows


@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
@pytest.mark.parametrize("sandbox_type", [SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE])
def test_an_order_is_completed(
    sandbox_type: SandboxType, isolation: str, tmp_path: Path, engine_settings: LazySettings
) -> None:
    if isolation == "bubblewrap":
        require_program("bwrap")
    engine_settings.WORKORDERS_AGENT_ISOLATION = isolation
    order = local_order(tmp_path, sandbox_type=sandbox_type, workflow_type=AgentWorkflowType.PLAN_BUILD_TEST)
    with running_engine():
        finished(order)
    assert (order.status, order.outcome, order.error_message) == ("completed", "branch_pushed", None)
    remote = tmp_path / "remote.git"
    assert branches(remote)[order.git_branch_name] == order.head_sha
    assert git("show", f"{order.head_sha}:specs/plan-{order}.md", folder=remote).startswith("# A plan")
    assert order.git_commit_count == 3
    trailers = git(
        "log", "-3", "--format=%(trailers:key=Work-Order,valueonly)", str(order.head_sha), folder=remote
    )
    assert trailers.split() == [order.agent_work_order_id] * 3
    phases = ["planning", "implementing", "testing", "testing"]
    assert runs(order) == [(phase, "succeeded", 1) for phase in phases]
    assert order.phase_runs.get(phase="testing", kind="phase").tests_passed == 2
    assert order.claim_epoch == 4
    assert list((tmp_path / "data" / "sandboxes").iterdir()) == []
    events = list(order.log_entries.order_by("sequence").values_list("event", flat=True))
    assert events[0] == "agent_work_order_created"
    assert events[-1] == "agent_work_order_completed"
    assert events.count("agent_command_started") == 3


def test_a_cancel_ends_the_agent_and_pushes_nothing(tmp_path: Path) -> None:
    order = local_order(tmp_path, "agent: run setsid sleep 60 & sleep 60")
    with running_engine():
        until_agent_runs(tmp_path, order)
        asked_at = time.monotonic()
        services.cancel_agent_work_order(agent_work_order_id=order.agent_work_order_id, by="ann")
        finished(order, 10)
        assert time.monotonic() - asked_at < 8
        assert agents_of(order) == []
    assert order.status == "cancelled"
    assert runs(order) == [("planning", "cancelled", 1)]
    assert set(branches(tmp_path / "remote.git")) == {"main"}
    assert list((tmp_path / "data" / "sandboxes").iterdir()) == []
    assert order.transitions.filter(to_status="cancelled").count() == 1


def test_a_lost_lease_ends_the_agent_and_the_loser_changes_nothing(
    tmp_path: Path, engine_settings: LazySettings
) -> None:
    engine_settings.WORKORDERS_LEASE_SECONDS = 9  # renewed every 1.5 s; without an answer the guard waits 6 s
    order = local_order(tmp_path, f"agent: commit early.txt\n{SLEEP}")
    with running_engine() as engine:
        until_agent_runs(tmp_path, order)
        take_over(order.pk)
        before = settled_rows()
        until_gone(lambda: agents_of(order), 4)
        wait_for(lambda: not engine.supervisor._steps, 5, "the step's end")
        assert engine.is_alive
    assert settled_rows() == before
    assert set(branches(tmp_path / "remote.git")) == {"main"}
    assert starts(tmp_path) == ["planning"]


class Away:
    """A database that can be switched off: calls raise, or hang until it is back."""

    def __init__(self, database: DatabaseThread, *, hangs: bool) -> None:
        self._database, self._hangs = database, hangs
        self.here = threading.Event()
        self.here.set()

    def call[T](
        self, function: Callable[[], T], *, first: bool = False, waiting: Callable[[], None] | None = None
    ) -> T:
        if not self.here.is_set():
            if not self._hangs:
                raise OperationalError("the server closed the connection")
            self.here.wait(30)
        return self._database.call(function, first=first, waiting=waiting)


@pytest.mark.parametrize(("hangs", "second_attempt"), [(False, 2), (True, 1)], ids=["raises", "hangs"])
def test_without_a_database_the_agent_is_ended_before_its_lease_and_the_work_goes_on_later(
    hangs: bool,
    second_attempt: int,
    tmp_path: Path,
    engine_settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "_GUARD_SECONDS", 0.1)
    engine_settings.WORKORDERS_LEASE_SECONDS = 3
    order = local_order(tmp_path, once(tmp_path))
    switched: list[Away] = []

    def switch(thread: DatabaseThread) -> Away:
        switched.append(Away(thread, hangs=hangs))
        return switched[0]

    with running_engine(database=switch):
        until_agent_runs(tmp_path, order)
        switched[0].here.clear()
        order.refresh_from_db()
        before = settled_rows()
        until_gone(lambda: agents_of(order), 5)
        assert order.lease_expires_at is not None
        assert database_now() < order.lease_expires_at
        assert settled_rows() == before
        time.sleep(0.5)
        switched[0].here.set()
        finished(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert starts(tmp_path) == ["planning", "planning"]
    # put back by itself where the database took that, found open by the next claim where it did not
    assert runs(order)[:2] == [("planning", "interrupted", 1), ("planning", "succeeded", second_attempt)]


def test_a_long_step_after_another_of_the_same_order_keeps_its_lease(
    tmp_path: Path, engine_settings: LazySettings
) -> None:
    """Regression: steps were kept by order, so that the end of one forgot the next, which the same process held."""
    engine_settings.WORKORDERS_LEASE_SECONDS = 3
    order = local_order(tmp_path, "agent[implementing]: sleep 4", workflow_type=AgentWorkflowType.PLAN_BUILD)
    with running_engine():
        wait_until(order, lambda row: len(starts(tmp_path)) == 2)
        finished(order)
    assert (order.status, order.error_message) == ("completed", None)
    assert starts(tmp_path) == ["planning", "implementing"]
    assert order.claim_epoch == 3
    assert [status for _phase, status, _attempt in runs(order)] == ["succeeded"] * 3


def once(tmp_path: Path) -> str:
    """The agent sleeps at its first start only."""
    flag = tmp_path / "slept"
    return f"agent: run test -e {flag} || {{ touch {flag}; sleep 60; }}"


def test_draining_puts_steps_back_and_another_process_goes_on(tmp_path: Path) -> None:
    order = local_order(tmp_path, once(tmp_path))
    with running_engine() as engine:
        until_agent_runs(tmp_path, order)
        started = time.monotonic()
        engine.drain()
        assert time.monotonic() - started < 8
    assert agents_of(order) == []
    order.refresh_from_db()
    assert (order.status, order.claim_owner, order.lease_expires_at) == ("running", "", None)
    assert runs(order) == [("planning", "interrupted", 1)]
    with running_engine(owner="other:2:2"):
        finished(order)
    assert order.status == "completed"
    assert runs(order)[:2] == [("planning", "interrupted", 1), ("planning", "succeeded", 1)]


def test_a_step_that_ends_within_the_grace_period_is_finished_and_nothing_new_is_claimed(
    tmp_path: Path, engine_settings: LazySettings
) -> None:
    engine_settings.WORKORDERS_DRAIN_SECONDS = 15.0
    order = local_order(tmp_path, "agent: sleep 1")
    with running_engine() as engine:
        until_agent_runs(tmp_path, order)
        waiting = local_order(tmp_path)
        wait_until(waiting, lambda row: bool(row.claim_owner))
        engine.drain(20)
    order.refresh_from_db()
    assert (order.status, order.claim_owner, runs(order)) == ("running", "", [("planning", "succeeded", 1)])
    assert branches(tmp_path / "remote.git")[order.git_branch_name] == order.head_sha


def test_a_step_that_waits_for_the_repositorys_lock_hears_a_shutdown_and_a_cancel(
    tmp_path: Path, engine_settings: LazySettings
) -> None:
    """As while another order's first fetch takes minutes."""
    order = local_order(tmp_path)
    key = wiring.reference_of(order.repository.repository_url).key
    lock = engine_settings.WORKORDERS_DATA_DIR / "locks" / f"{key}.lock"
    with exclusive_lock(lock):
        with running_engine() as engine:
            wait_for(lambda: waits_for(lock), 15, "a step that waits")
            engine.drain(5)
        assert runs(order) == [("planning", "interrupted", 1)]
        with running_engine(owner="other:2:2"):
            wait_for(lambda: waits_for(lock), 15, "a step that waits again")
            cancel(order)
            finished(order, 10)
    assert (order.status, runs(order)[-1]) == ("cancelled", ("planning", "cancelled", 1))


def test_a_step_that_hears_no_brake_is_no_dead_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, entered, go_on = local_order(tmp_path), threading.Event(), threading.Event()

    def deaf(_place: Workplace) -> Place:
        entered.set()
        go_on.wait(30)
        raise SandboxError("too late")

    monkeypatch.setattr(Workplace, "open", deaf)
    monkeypatch.setattr(supervisor, "_END_SECONDS", 0.1)
    with running_engine() as engine:
        assert entered.wait(15)
        engine.drain()
        (run,) = order.phase_runs.all()
        order.refresh_from_db()
        go_on.set()
    assert (run.status, run.lost_its_worker) == ("interrupted", False)
    assert order.claim_owner == engine.owner


def test_a_mistake_of_ours_fails_its_own_order_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, sound = local_order(tmp_path), local_order(tmp_path)
    real = Workplace.open

    def open_place(self: Workplace, *arguments: Any) -> Place:
        if self._order.pk == broken.pk:
            raise RuntimeError("we made a mistake")
        return real(self, *arguments)

    monkeypatch.setattr(Workplace, "open", open_place)
    with running_engine() as engine:
        finished(sound)
        finished(broken)
        assert engine.is_alive
        later = finished(local_order(tmp_path))
    assert (broken.status, broken.error_category) == ("failed", "internal")
    assert broken.error_message is not None
    assert "RuntimeError: we made a mistake" in broken.error_message
    assert runs(broken) == [("planning", "failed", 1), ("planning", "failed", 2)]
    assert (sound.status, later.status) == ("completed", "completed")


def test_a_step_that_takes_its_worker_down_each_time_is_not_tried_again(tmp_path: Path) -> None:
    order = local_order(tmp_path)
    for attempt in (1, 2, 3):
        make_run(order, status=Run.INTERRUPTED, error_category=WORKER_LOST, attempt=attempt)
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "worker_lost")
    assert starts(tmp_path) == []


def test_a_repository_the_settings_refuse_by_now_is_reported_as_that(
    tmp_path: Path, engine_settings: LazySettings
) -> None:
    order = local_order(tmp_path)
    engine_settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES = False
    with running_engine():
        finished(order)
    assert (order.status, order.error_category) == ("failed", "repository_refused")
    assert runs(order) == [("planning", "failed", 1)]


def test_a_process_runs_no_more_steps_than_its_share(tmp_path: Path) -> None:
    orders = [local_order(tmp_path, "agent: sleep 0.3") for _ in range(3)]
    most = 0

    def watch(engine: Engine) -> bool:
        nonlocal most
        most = max(most, len(engine.supervisor._steps))
        return AgentWorkOrder.objects.filter(status="completed").count() == len(orders)

    with running_engine(share=2) as engine:
        wait_for(lambda: watch(engine), 30, "all orders")
    assert most == 2
    assert sorted(starts(tmp_path)) == ["planning"] * 3
