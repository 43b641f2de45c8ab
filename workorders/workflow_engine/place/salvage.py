"""What an agent left in a place to work is brought into the trusted mirror before the place is removed or made anew.

Where that is not possible the place is set aside as it is, and the order's log says so: no work is deleted that is in
no git. Used by a step, for what an earlier attempt or its own agent left, and by the sweep, where no step is there.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import structlog

from sandboxes.base import AgentSandbox, Remains, SandboxSpec
from sandboxes.errors import ExpectedError, WorkspaceBusy
from sandboxes.extras.lfs_store import LfsStore
from sandboxes.files.disk import says_disk_full
from sandboxes.kinds import SandboxCondition, SandboxType
from sandboxes.processes.host_lock import exclusive_lock
from sandboxes.processes.run import bounded_by, finishing_within
from sandboxes.registry import create_sandbox
from sandboxes.sweep.rules import LEFTOVERS_SUBJECT, SweepLimits, merged, work_in
from sandboxes.trusted_git.mirror import BUNDLE_LIMIT_BYTES, RepositoryMirror
from workorders.domain.states import FINISHED
from workorders.models import AgentWorkOrder
from workorders.models.logs import record_order_event
from workorders.text import redaction
from workorders.workflow_engine.claims.lease import this_host
from workorders.workflow_engine.parts.engine import EngineParts
from workorders.workflow_engine.place.sweep_gate import SweepGate
from workorders.workflow_engine.planning.phase_tracker import rewritten_message

logger = structlog.get_logger("workorders")
_SALVAGE_SECONDS = 120.0
HURRIED_SECONDS = 5.0  # for the work of an agent that was stopped


class OrderLog(Protocol):
    """Where an order's events go."""

    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...


def kept_ref(agent_work_order_id: str) -> str:
    """Where this host's mirror keeps an order's newest inspected commit."""
    return f"refs/work-orders/{agent_work_order_id}"


def salvaged_ref(name: str) -> str:
    """Where this host's mirror keeps what was salvaged, also where the order went on from other commits."""
    return f"refs/salvaged/{name}"


def bring_out(
    sandbox: AgentSandbox,
    mirror: RepositoryMirror,
    order: AgentWorkOrder,
    data_dir: Path,
    *,
    start_sha: str,
    keep_as: str,
    sweep: SweepGate | None = None,
    joined_by: Callable[[str], str] | None = None,
    reached: Callable[[str], None] = lambda _point: None,
) -> str | None:
    """The branch's commits after `start_sha` by bundle into the mirror: the accepted head, or None without commits.

    With `sweep` leftovers are committed first, and judged by it; what was left out is in `sandbox.left_out`.
    `joined_by` gives the message of the commit by which a rewritten history is kept on top of `start_sha`. `reached`
    hears "committed" and "fetched". Raises `ExpectedError`.
    """
    bundle = data_dir / "outbox" / f"{order.agent_work_order_id}-{uuid4().hex}.bundle"
    try:
        message = LEFTOVERS_SUBJECT if sweep else ""
        if not sandbox.export_bundle(bundle, limit_bytes=BUNDLE_LIMIT_BYTES, leftovers_message=message):
            if not (sweep and joined_by and (at := sandbox.last_export.branch_at)):
                return None
            return mirror.accept_rewind(at, start_sha=start_sha, keep_as=keep_as, message=joined_by)
        reached("committed")
        head = mirror.accept_bundle(
            bundle,
            git_branch_name=order.git_branch_name,
            descends_from=start_sha,
            keep_as=keep_as,
            may_be_rewritten=joined_by is not None,
        )
        if sweep and sandbox.last_export.swept:  # before it may be joined, which hides whose commit it is
            head = _judged(sandbox, mirror, sweep, head, start_sha, keep_as)
        if joined_by is not None:
            head = mirror.kept_on_top(head, start_sha=start_sha, keep_as=keep_as, message=joined_by)
        reached("fetched")
        return head if head != start_sha else None
    finally:
        bundle.unlink(missing_ok=True)


def bring_out_lfs(
    sandbox: AgentSandbox, data_dir: Path, *, agent_work_order_id: str, repository_key: str, limit_bytes: int
) -> int:
    """Contents of Git LFS that were made in the place, verified, to where this host keeps the repository's; how many.

    Raises `SandboxError` where they are too much, or no archive.
    """
    archive = data_dir / "outbox" / f"{agent_work_order_id}-{uuid4().hex}.tar"
    try:
        if not limit_bytes or not sandbox.export_lfs(archive, limit_bytes=limit_bytes):
            return 0
        return len(LfsStore(data_dir, repository_key).take_archive(archive))
    finally:
        archive.unlink(missing_ok=True)


def _judged(
    sandbox: AgentSandbox, mirror: RepositoryMirror, sweep: SweepGate, head: str, start_sha: str, keep_as: str
) -> str:
    """The head without what may not be committed unasked; the place it came from then is no longer at the head."""
    judged = sweep.judge(head, start=start_sha)
    if judged.head != head:
        mirror.keep(keep_as, judged.head)
        sandbox.left_out = merged(sandbox.left_out, judged.left_out)
        sandbox.last_export = replace(sandbox.last_export, settled=False)
    return judged.head


def sweep_gate(parts: EngineParts, mirror: RepositoryMirror) -> SweepGate:
    limits = SweepLimits(file_bytes=parts.settings.leftover_file_bytes)
    return SweepGate(parts.git, mirror.path, redactor=redaction.current(), limits=limits)


class Salvage:
    """Empties the places of one order. `log` is the order's.

    `is_stopped` says whether there is hurry, and what failed was maybe only cut short.
    """

    def __init__(
        self,
        parts: EngineParts,
        order: AgentWorkOrder,
        mirror: RepositoryMirror,
        log: OrderLog,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._parts = parts
        self._order = order
        self._mirror = mirror
        self._log = log
        self._is_stopped = is_stopped
        self.head_sha: str | None = None
        """What came into the mirror."""

    def empty(self, sandbox: AgentSandbox) -> bool:
        """Bring what was left in it into the mirror, or set the place aside; whether the place is still where it was.

        Raises `ExpectedError` or `OSError` where another try may do better, and nothing was moved: somebody is at work
        there, the disk is full, the step was stopped.
        """
        over = self._order.sandbox_state == SandboxCondition.REMOVED
        remains = sandbox.reclaim("" if over else self._order.sandbox_handle)
        if remains is None:
            return True
        reason = remains.left_out
        if not reason:
            try:
                hurried = self._is_stopped()
                with finishing_within(HURRIED_SECONDS) if hurried else bounded_by(_SALVAGE_SECONDS):
                    self._take(sandbox, remains)
            except WorkspaceBusy:
                raise
            except (ExpectedError, OSError) as error:
                if self._is_stopped() or says_disk_full(error):
                    raise
                reason = str(error)
            else:
                sandbox.mark_taken()
                reason = work_in(sandbox.left_out)
        return not reason or self._set_aside(sandbox, reason)

    def _take(self, sandbox: AgentSandbox, remains: Remains) -> None:
        """Always under a ref of its own: whether the order goes on from there is for the next step to see."""
        order, git, path = self._order, self._parts.git, self._mirror.path
        self.head_sha = head = bring_out(
            sandbox,
            self._mirror,
            order,
            self._parts.settings.data_dir,
            start_sha=remains.start_sha,
            keep_as=salvaged_ref(f"{order.agent_work_order_id}-{uuid4().hex[:8]}"),
            sweep=sweep_gate(self._parts, self._mirror),
            joined_by=self._join,
        )
        if head is None:
            return
        settings = self._parts.settings
        bring_out_lfs(
            sandbox,
            settings.data_dir,
            agent_work_order_id=order.agent_work_order_id,
            repository_key=str(self._parts.parse_reference(order.repository.repository_url).key),
            limit_bytes=settings.lfs.max_bytes,
        )
        known = git.known_commits(path, [kept_ref(order.agent_work_order_id)])
        if all(
            git.is_ancestor(path, earlier, head) for earlier in (*known.values(), order.head_sha) if earlier
        ):
            self._mirror.keep(kept_ref(order.agent_work_order_id), head)
        self._log.info("sandbox_work_kept", git_commit_sha=head)

    def _join(self, head: str) -> str:
        self._log.warning("git_history_rewritten", git_commit_sha=head)
        order = self._order
        return rewritten_message(order.agent_work_order_id, order.current_phase or "", "")

    def _set_aside(self, sandbox: AgentSandbox, reason: str) -> bool:
        kept_at = sandbox.set_aside()
        self._log.warning(
            "sandbox_kept" if kept_at else "sandbox_work_lost",
            sandbox_identifier=sandbox.sandbox_identifier,
            reason=f"Work in it could not be brought into git: {reason[:500]}",
            kept_at=kept_at,
        )
        return not kept_at


def may_remove(
    parts: EngineParts, sandbox_identifier: str, is_stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Whether a place that no live order owns can go, its work being in git; False where it was set aside, or stays.

    One at a time on a host: whoever takes a place over ends what another has running there.
    """
    order = (
        AgentWorkOrder.objects.select_related("repository")
        .filter(agent_work_order_id=sandbox_identifier[-11:])
        .first()
    )
    if order is None or order.expected_sandbox_identifier != sandbox_identifier:
        return True  # nobody's
    try:
        mirror = RepositoryMirror(parts.settings.data_dir, order.mirror_key, parts.git)
        sandbox = create_sandbox(
            SandboxType(order.sandbox_type), _spec(parts, order, order.mirror_key, mirror)
        )
        with exclusive_lock(parts.settings.data_dir / "locks" / "salvage.lock", timeout_seconds=0):
            if is_stopped():
                return False
            salvage = Salvage(parts, order, mirror, _StoredLog(order), is_stopped)
            is_empty = salvage.empty(sandbox)
            _note_kept(order, salvage.head_sha)
            return is_empty
    except (ExpectedError, OSError) as error:
        logger.warning(
            "sandbox_not_emptied",
            agent_work_order_id=order.agent_work_order_id,
            sandbox_identifier=sandbox_identifier,
            error=str(error)[:500],
        )
        return False


def _note_kept(order: AgentWorkOrder, head_sha: str | None) -> None:
    """A follow-up may go on from it, on this host."""
    if head_sha and head_sha != order.head_sha:
        ended = AgentWorkOrder.objects.filter(pk=order.pk, status__in=sorted(FINISHED))
        ended.update(kept_sha=head_sha, preferred_host=this_host())


def _spec(
    parts: EngineParts, order: AgentWorkOrder, repository_key: str, mirror: RepositoryMirror
) -> SandboxSpec:
    base_sha = order.base_sha or "0" * 40
    return SandboxSpec(
        sandbox_identifier=order.expected_sandbox_identifier,
        attempt=order.claim_epoch,
        repository_key=repository_key,
        git_branch_name=order.git_branch_name,
        base_branch=order.base_branch or "main",
        base_sha=base_sha,
        start_sha=base_sha,
        mirror_path=mirror.path,
        data_dir=parts.settings.data_dir,
        trailers=(),  # those of the attempt that worked there are in the place
        isolation=parts.settings.isolation,
        providers=parts.settings.providers,
        leftover_file_bytes=parts.settings.leftover_file_bytes,
    )


class _StoredLog:
    """An order's log outside of a step."""

    def __init__(self, order: AgentWorkOrder) -> None:
        self._order = order

    def info(self, event: str, **fields: Any) -> None:
        record_order_event(self._order, event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        record_order_event(self._order, event, level="warning", **fields)
