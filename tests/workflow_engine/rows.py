"""Claims, journals and values for the engine's tests, and a picture of all rows to compare."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.models import F

from sandboxes.trusted_git.objects import Commit, FileChange
from tests.factories import make_order, make_run
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase
from workorders.model_gateway.access import CredentialKind
from workorders.models import AgentWorkOrder
from workorders.models.clock import database_now
from workorders.models.phase_run import WORKER_LOST
from workorders.workflow_engine.claims.lease import Claim, claim_steps
from workorders.workflow_engine.planning.phase_tracker import GitProgress
from workorders.workflow_engine.planning.step_plan import StepPlan
from workorders.workflow_engine.record.journal import StepJournal
from workorders.workflow_engine.record.recorder import InlineDatabase
from workorders.workflow_engine.record.usage import ModelGrant

OWNER = "host:1:1"
HEAD = "c" * 40


def claim(order: AgentWorkOrder, *, owner: str = OWNER, lease_seconds: float = 30) -> Claim:
    """The order's next step for `owner`; the order must be the only claimable one."""
    (found,) = claim_steps(owner=owner, lease_seconds=lease_seconds, limit=5)
    assert found.pk == order.pk
    return found


def begun(order: AgentWorkOrder | None = None, *, session_id: str = "") -> tuple[StepJournal, StepPlan]:
    """A claimed step with its run open."""
    journal = StepJournal(claim(order or make_order()), InlineDatabase())
    plan = journal.begin()
    journal.update_run(agent_session_id=session_id)
    return journal, plan


def placed(
    journal: StepJournal,
    kind: CredentialKind = CredentialKind.GATEWAY_TOKEN,
    *,
    budget_usd: Decimal | None = None,
    lifetime_seconds: float = 60,
) -> str:
    """Have the step stand in a place; its token for the model."""
    grant = ModelGrant(kind, budget_usd, lifetime_seconds)
    return journal.record_place(start_sha=HEAD, session_id="s", start_seconds=0.1, access=grant).token


def again(order: AgentWorkOrder, owner: str = OWNER) -> tuple[StepJournal, StepPlan]:
    """The next claim of the same order, whatever its pause or lease, with its run open."""
    AgentWorkOrder.objects.filter(pk=order.pk).update(claimable_at=database_now())
    expire(order)
    journal = StepJournal(claim(order, owner=owner), InlineDatabase())
    return journal, journal.begin()


def expire(order: AgentWorkOrder) -> None:
    """Let the lease end, as when its worker is gone."""
    past = database_now() - timedelta(seconds=1)
    AgentWorkOrder.objects.filter(pk=order.pk, lease_expires_at__isnull=False).update(lease_expires_at=past)


def lost_workers(deaths: int, **fields: Any) -> AgentWorkOrder:
    """A claimable order whose phase has lost so many workers; the last one left its run open."""
    values = {"status": "running", "current_phase": "planning", "claim_epoch": deaths, **fields}
    order = make_order(**values)
    for attempt in range(1, deaths):
        make_run(order, status=PhaseRunStatus.INTERRUPTED, error_category=WORKER_LOST, attempt=attempt)
    make_run(order, status=PhaseRunStatus.RUNNING, attempt=deaths)
    return order


def take_over(order_pk: int, owner: str = "other:2:2") -> None:
    """What another process's claim does to the row."""
    until = database_now() + timedelta(seconds=300)
    AgentWorkOrder.objects.filter(pk=order_pk).update(
        claim_epoch=F("claim_epoch") + 1, claim_owner=owner, lease_expires_at=until
    )


def progress(*subjects: str, phase: AgentWorkflowPhase = AgentWorkflowPhase.PLANNING) -> GitProgress:
    """One commit for each subject, oldest first, all of one phase, and one changed file."""
    time = "2026-11-22T10:00:00+00:00"
    commits = tuple(
        Commit(f"{number:040x}", (), "Agent", time, time, subject, ())
        for number, subject in enumerate(subjects, start=1)
    )
    changes = (FileChange("specs/plan.md", "A", 3, 1),) if commits else ()
    return GitProgress(commits, changes, {commit.sha: phase for commit in commits})


def all_rows() -> dict[str, list[dict[str, Any]]]:
    """Every row of the product, the repositories and the queue."""
    models = [
        *apps.get_app_config("workorders").get_models(),
        *apps.get_app_config("github_app").get_models(),
    ]
    models.append(apps.get_model("django_q", "OrmQ"))
    return {model._meta.label: list(model._default_manager.order_by("pk").values()) for model in models}


def at_once[T](count: int, function: Callable[[int], T]) -> list[T]:
    """What `function(number)` returns in each of `count` threads that start together."""
    barrier = Barrier(count)

    def run(number: int) -> T:
        barrier.wait(10)
        try:
            return function(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
