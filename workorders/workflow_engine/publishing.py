"""The one way out: commits of a step reach the order's branch on the remote here, after the gate, or not at all."""

import contextlib
from collections.abc import Callable

from github_app.protected_paths import parse_patterns
from sandboxes.errors import ExpectedError, PushRejected
from workorders import redaction
from workorders.concurrency import both
from workorders.states import EffectState, Wait, WaitingReason
from workorders.workflow_engine.claimed_step import ClaimedStep
from workorders.workflow_engine.control import StepPutBack, StepWaits
from workorders.workflow_engine.inspection import Inspection
from workorders.workflow_engine.phase_tracker import GitProgress
from workorders.workflow_engine.push_gate import ProtectedChange, PushGate, SecretInCommits
from workorders.workflow_engine.workplace import Place, Workplace

_NAMED_PATHS = 5


class Publisher:
    """Pushes for one claimed step."""

    def __init__(self, step: ClaimedStep, workplace: Workplace) -> None:
        self._step = step
        self._workplace = workplace
        self._blocked_sha = ""

    def push(
        self,
        place: Place,
        found: Inspection,
        changes: tuple[ProtectedChange, ...],
        *,
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        """The inspected commit, and no other, to the order's branch; noted before, so that it can be adopted.

        `changes` are what `examine` found in it: where there are some, it raises `StepWaits`. `beside` is done while
        it is pushed.
        """
        head = found.head_sha
        if changes:
            self._ask(head, changes, found)
        self._step.control.check()
        self._step.journal.plan_push(head)
        both(lambda: self._record_beside(found, beside), lambda: self._push(place, head))

    def _record_beside(self, found: Inspection, beside: Callable[[], None]) -> None:
        self._step.journal.record_statistics(self._step.plan.phase, found.progress, found.patches)
        beside()

    def _push(self, place: Place, head: str) -> None:
        order = self._step.plan.order
        branch = order.git_branch_name
        if head != (place.remote_sha or place.base_sha):
            if not place.remote_sha:  # later the branch itself shows that it is the same repository
                self._workplace.identity.require_same()
            try:
                place.mirror.push(place.remote, sha=head, git_branch_name=branch, seen=place.remote_sha)
            except ExpectedError as error:
                refused = isinstance(error, PushRejected)
                self._step.journal.end_push(head, EffectState.PLANNED if refused else EffectState.UNKNOWN)
                raise
            self._step.log.info("git_push_completed", git_branch_name=branch, git_commit_sha=head)
        self._step.parts.look_ahead.begin(order, place.remote, place.base_branch)

    def push_unfinished(self, place: Place, head: str, progress: GitProgress) -> None:
        """Commits of a failed attempt survive this host too; the failure itself is what gets reported."""
        if head == place.start_sha:
            return
        with contextlib.suppress(ExpectedError, StepPutBack):  # the next attempt sees the new name
            if self.examine(place, head, progress):
                return
            if not place.remote_sha:
                self._workplace.identity.require_same()
            place.mirror.push(place.remote, sha=head, git_branch_name=self._step.plan.order.git_branch_name)
            self._step.journal.update_order(head_sha=head)

    def examine(self, place: Place, head: str, progress: GitProgress) -> tuple[ProtectedChange, ...]:
        """What of the new commits a person must approve first, and has not. Raises `SecretInCommits`."""
        gate = PushGate(self._step.parts.git, place.mirror.path, redactor=redaction.current())
        try:
            changes = gate.inspect(
                head=head,
                known=(place.remote_sha, place.base_sha, place.upstream_sha),
                base_sha=place.base_sha,
                patterns=parse_patterns(self._step.plan.repository.protected_paths),
                net_paths=[change.path for change in progress.changes],
                commits=progress.commits,
            )
        except SecretInCommits as error:
            if head != self._blocked_sha:  # a failed attempt's commits are examined once more
                self._step.log.error("git_push_blocked", git_commit_sha=head, error=str(error))
            self._blocked_sha = head
            self._workplace.forget_unpushed(place)  # or the next attempt would start from them
            raise
        return () if head == self._step.plan.order.approved_sha else changes

    def _ask(self, head: str, changes: tuple[ProtectedChange, ...], found: Inspection) -> None:
        paths = [{"path": change.path, "commit_sha": change.commit_sha} for change in changes]
        names = ", ".join(change.path for change in changes[:_NAMED_PATHS])
        more = f" and {len(changes) - _NAMED_PATHS} more" if len(changes) > _NAMED_PATHS else ""
        self._step.log.warning("git_push_held", git_commit_sha=head, paths=[item["path"] for item in paths])
        prompted = self._step.journal.request_approval(head, paths, found.progress, found.patches)
        words = f"The commit {head[:12]} changes protected paths ({names}{more}) and was not pushed."
        seconds = 0 if prompted else None  # somebody has said already how to go on
        raise StepWaits(Wait(WaitingReason.APPROVAL_REQUIRED, words, seconds))
