"""Rows for tests: made through the real services, then brought into the wanted state by targeted updates."""

from datetime import timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from github_app.models import Repository
from sandboxes.kinds import SandboxType
from workorders.domain.states import FINISHED, AgentWorkOrderOutcome, AgentWorkOrderStatus, PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType, StepKind
from workorders.models import AgentWorkOrder, PhaseRun
from workorders.models.logs import LogEvent, append_log_events
from workorders.services import work_orders as services
from workorders.services.work_orders import NewWorkOrder

SHA = "a" * 40
_REQUEST_FIELDS = {
    "sandbox_type",
    "workflow_type",
    "github_issue_number",
    "initial_prompt",
    "base_branch",
    "model",
}


def make_repository(reference: str = "octo/spoon", **overrides: Any) -> Repository:
    parsed = services.parse_repository(reference)
    row = services.record_repository_verification(parsed, found=None)
    if overrides:
        Repository.objects.filter(pk=row.pk).update(**overrides)
        row.refresh_from_db()
    return row


def make_order(*, repository: str = "octo/spoon", **overrides: Any) -> AgentWorkOrder:
    """A pending order; a `status` or any other column among the overrides is written afterwards."""
    asked = {name: overrides.pop(name) for name in _REQUEST_FIELDS & set(overrides)}
    request = NewWorkOrder(
        repository=services.parse_repository(repository),
        sandbox_type=asked.pop("sandbox_type", SandboxType.GIT_BRANCH),
        workflow_type=asked.pop("workflow_type", AgentWorkflowType.PLAN_BUILD_TEST),
        **asked,
    )
    order = services.create_agent_work_order(request=request, by="test")
    changes = {**_needed_by(overrides.get("status")), **overrides}
    if changes:
        AgentWorkOrder.objects.filter(pk=order.pk).update(**changes)
    order.refresh_from_db()
    return order


def _needed_by(status: str | None) -> dict[str, Any]:
    """What the database's constraints ask of an order in this status."""
    if status is None:
        return {}
    needed: dict[str, Any] = {}
    if status in FINISHED:
        needed = {"claimable_at": None, "claim_owner": "", "execution_completed_at": timezone.now()}
    if status == AgentWorkOrderStatus.COMPLETED:
        needed |= {"outcome": AgentWorkOrderOutcome.PULL_REQUEST_OPENED, "head_sha": SHA}
    if status == AgentWorkOrderStatus.FAILED:
        needed |= {"error_message": "It broke.", "error_category": "agent_failed", "error_advice": "Retry."}
    return needed


def held() -> dict[str, Any]:
    """Columns of an order that a worker is at."""
    return {"claim_owner": "host:1:1", "lease_expires_at": timezone.now() + timedelta(hours=1)}


_minutes = count()


def make_run(
    order: AgentWorkOrder,
    phase: AgentWorkflowPhase = AgentWorkflowPhase.PLANNING,
    status: PhaseRunStatus = PhaseRunStatus.SUCCEEDED,
    **overrides: Any,
) -> PhaseRun:
    started = timezone.now() + timedelta(minutes=next(_minutes))
    values: dict[str, Any] = {
        "sequence": order.phase_runs.count() + 1,
        "kind": StepKind.PHASE,
        "attempt": 1,
        "claim_epoch": 1,
        "worker": "test",
        "started_at": started,
        "completed_at": None if status == PhaseRunStatus.RUNNING else started + timedelta(seconds=30),
        **overrides,
    }
    return PhaseRun.objects.create(agent_work_order=order, phase=phase, status=status, **values)


def make_log(order: AgentWorkOrder, *events: str, level: str = "info", **fields: Any) -> None:
    append_log_events(order.pk, [LogEvent(timezone.now(), level, event, fields) for event in events])
