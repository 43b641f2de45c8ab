"""What an agent left in a place to work is brought into the trusted mirror before the place is removed.

Used where no step is there to do it: the order failed, was cancelled, or its worker died. The commits are kept in the
mirror under the order's own ref, from where a retry goes on.
"""

from uuid import uuid4

import structlog

from sandboxes.base import SandboxSpec
from sandboxes.errors import ExpectedError
from sandboxes.kinds import SandboxType
from sandboxes.leftovers import tag_prefix, workspace_lock_path
from sandboxes.mirror import BUNDLE_LIMIT_BYTES, RepositoryMirror
from sandboxes.registry import create_sandbox
from sandboxes.workspace_lock import WorkspaceLock
from workorders.models import AgentWorkOrder, PhaseRun
from workorders.workflow_definitions import AgentWorkflowPhase
from workorders.workflow_engine import phase_tracker
from workorders.workflow_engine.parts import EngineParts

logger = structlog.get_logger("workorders")
LEFTOVERS_MESSAGE = "keep changes the agent left uncommitted"


def kept_ref(agent_work_order_id: str) -> str:
    """Where this host's mirror keeps an order's newest inspected commit."""
    return f"refs/work-orders/{agent_work_order_id}"


def may_remove(parts: EngineParts, sandbox_identifier: str) -> bool:
    """False where a place holds work of an order that could not be brought into git; it stays, and the log says so."""
    order = (
        AgentWorkOrder.objects.select_related("repository")
        .filter(agent_work_order_id=sandbox_identifier[-11:])
        .first()
    )
    if order is None or order.expected_sandbox_identifier != sandbox_identifier:
        return True  # nobody's
    last = order.phase_runs.exclude(start_sha="").order_by("-sequence").first()
    if last is None:
        return True  # no agent has been there
    try:
        head = _take(parts, order, last)
    except (ExpectedError, OSError) as error:
        logger.warning(
            "sandbox_kept",
            agent_work_order_id=order.agent_work_order_id,
            sandbox_identifier=sandbox_identifier,
            reason=str(error)[:500],
        )
        return False
    if head is not None:
        logger.info("sandbox_work_kept", agent_work_order_id=order.agent_work_order_id, git_commit_sha=head)
    return True


def _take(parts: EngineParts, order: AgentWorkOrder, last: PhaseRun) -> str | None:
    """The head of what was there, now in the mirror; None without commits. Raises `ExpectedError`."""
    data_dir = parts.settings.data_dir
    reference = parts.parse_reference(order.repository.repository_url)
    mirror = RepositoryMirror(data_dir, str(reference.key), parts.git)
    phase = AgentWorkflowPhase(last.phase)
    identifier = order.expected_sandbox_identifier
    WorkspaceLock(
        workspace_lock_path(data_dir, identifier),
        attempt=order.claim_epoch,
        tag_prefix=tag_prefix(data_dir, identifier),
    ).take_over(sweep=parts.settings.isolation.mode == "none")
    sandbox = create_sandbox(
        SandboxType(order.sandbox_type),
        SandboxSpec(
            sandbox_identifier=identifier,
            attempt=order.claim_epoch,
            repository_key=str(reference.key),
            git_branch_name=order.git_branch_name,
            base_branch=order.base_branch or "main",
            base_sha=order.base_sha,
            start_sha=last.start_sha,
            mirror_path=mirror.path,
            data_dir=data_dir,
            trailers=phase_tracker.trailers_for(order.agent_work_order_id, phase, last.agent_session_id),
            isolation=parts.settings.isolation,
            providers=parts.settings.providers,
        ),
    )
    bundle = data_dir / "outbox" / f"salvaged-{order.agent_work_order_id}-{uuid4().hex}.bundle"
    try:
        taken = sandbox.export_bundle(
            bundle, limit_bytes=BUNDLE_LIMIT_BYTES, leftovers_message=f"{phase}: {LEFTOVERS_MESSAGE}"
        )
        if not taken:
            return None
        return mirror.accept_bundle(
            bundle,
            git_branch_name=order.git_branch_name,
            descends_from=last.start_sha,
            keep_as=kept_ref(order.agent_work_order_id),
        )
    finally:
        bundle.unlink(missing_ok=True)
