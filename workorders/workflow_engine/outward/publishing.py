"""The one way out: commits of a step reach the order's branch on the remote here, after the gate, or not at all."""

import re
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from github_app.protected_paths import parse_patterns
from sandboxes.errors import ExpectedError, PushContentRefused, PushRejected
from sandboxes.extras.lfs_client import LfsUnavailable
from sandboxes.extras.lfs_pointers import LfsPointer
from sandboxes.processes.concurrency import both
from sandboxes.sweep.rules import merged
from sandboxes.trusted_git.push_words import as_another_matter, names_one_of
from sandboxes.trusted_git.rewriting import reworded
from workorders.domain.errors import EvidenceMissing
from workorders.domain.states import EffectKind, EffectState, Wait, WaitingReason
from workorders.models import AgentWorkOrder
from workorders.models.clock import database_now
from workorders.text import redaction
from workorders.workflow_engine.claims.control import StepPutBack, StepWaits
from workorders.workflow_engine.evidence.inspection import Inspection, Inspector
from workorders.workflow_engine.evidence.leftover_commit import (
    DroppedLeftovers,
    hint_of,
    in_agents_words,
    leftovers_in,
)
from workorders.workflow_engine.outward.lfs_upload import LfsContentMissing, LfsUploader
from workorders.workflow_engine.outward.push_gate import REFUSED_CONTENT, ProtectedChange, PushGate
from workorders.workflow_engine.place.extras import SubmoduleCommitMissing
from workorders.workflow_engine.place.salvage import salvaged_ref
from workorders.workflow_engine.place.workplace import Place, Workplace
from workorders.workflow_engine.planning.phase_tracker import GitProgress
from workorders.workflow_engine.record.claimed_step import ClaimedStep

_NAMED_PATHS = 5
_NO_MERGES = re.compile(r"\bmerges?\b|\blinear\b", re.IGNORECASE)
FORGOTTEN = (*REFUSED_CONTENT, LfsContentMissing, SubmoduleCommitMissing)
"""What is wrong with the commits themselves: an attempt that started from them would fail for the same."""
type Accepted = tuple[Inspection, tuple[ProtectedChange, ...]]
"""What the gate let pass, and what of it a person must approve."""


def _may_be_another_matter(error: ExpectedError, place: Place, progress: GitProgress) -> bool:
    """Whether a hook's unknown words, heard of these commits for the first time, name nothing of them."""
    if not (isinstance(error, PushContentRefused) and error.is_guess):
        return False
    names = set[str]()
    for commit in progress.commits:
        names |= {commit.sha, *(touched.path for touched in commit.touched)}
        names |= {touched.path.rpartition("/")[2] for touched in commit.touched}
    words = str(error)
    quoted = any(len(commit.subject) > 5 and commit.subject in words for commit in progress.commits)
    return place.start_sha == place.published_sha and not quoted and not names_one_of(words, names)


class Publisher:
    """Pushes for one claimed step. What is refused for its content (`FORGOTTEN`) is the caller's to `forget`."""

    def __init__(self, step: ClaimedStep, workplace: Workplace) -> None:
        self._step = step
        self._workplace = workplace
        self._blocked_sha = ""
        self._lfs_pointers: dict[LfsPointer, str] = {}

    def accept(self, place: Place, inspector: Inspector, head: str, progress: GitProgress) -> Accepted:
        """A step's evidence, in commits that passed the gate. Raises `EvidenceMissing` and what the gate raises."""
        try:
            return both(
                lambda: inspector.evidence(progress, head), lambda: self.examine(place, head, progress)
            )
        except REFUSED_CONTENT as error:
            without = self._without_leftovers(place, inspector, head, progress, error)
            if without is None:
                raise
            return without, self.examine(place, without.head_sha, without.progress)

    def push(
        self,
        place: Place,
        inspector: Inspector,
        accepted: Accepted,
        *,
        beside: Callable[[], None] = lambda: None,
    ) -> Inspection:
        """The inspected commit, and no other, to the order's branch; noted before, so that it can be adopted.

        Where a person must approve it first, this raises `StepWaits`. `beside` is done while it is pushed. Returns what
        was pushed: the same, or the same without the leftovers that the remote refuses, or with another message of the
        server's own commit.
        """
        found, changes = accepted
        try:
            return self._push_noted(place, inspector.with_patches(found), changes, beside)
        except PushContentRefused as error:
            self._step.log.error("git_push_refused", git_commit_sha=found.head_sha, error=str(error))
            place.mirror.keep(salvaged_ref(f"{self._step.plan.order}-{uuid4().hex[:8]}"), found.head_sha)
            another = self._without_leftovers(place, inspector, found.head_sha, found.progress, error)
            another = another or self._reworded(place, inspector, found, error)
            if another is None:
                if _may_be_another_matter(error, place, found.progress):
                    raise as_another_matter(error) from error
                raise
        changes = self.examine(place, another.head_sha, another.progress)
        try:
            return self._push_noted(place, inspector.with_patches(another), changes, lambda: None)
        except PushContentRefused as error:
            if _may_be_another_matter(error, place, another.progress):
                raise as_another_matter(error) from error
            error.args = (f"{error} {hint_of(found.progress)}".strip(),)
            raise

    def _push_noted(
        self,
        place: Place,
        found: Inspection,
        changes: tuple[ProtectedChange, ...],
        beside: Callable[[], None],
    ) -> Inspection:
        head = found.head_sha
        if changes:
            self._ask(head, changes, found)
        self._step.control.check()
        pushes = head != place.published_sha
        try:
            self._upload(place, head)
        except LfsUnavailable:  # a later attempt goes on from here, without the agent
            self._step.journal.plan_push(head, pushes=pushes)
            self._step.journal.end_push(head, EffectState.PLANNED)
            raise
        self._step.journal.plan_push(head, pushes=pushes)
        both(lambda: self._record_beside(place, found, beside), lambda: self._push(place, head))
        return found

    def _record_beside(self, place: Place, found: Inspection, beside: Callable[[], None]) -> None:
        if not place.is_untouched_line(found.head_sha):  # it would only say that the base branch has it all
            self._step.journal.record_statistics(self._step.plan.phase, found.progress, found.patches)
        beside()

    def _push(self, place: Place, head: str) -> None:
        order = self._step.plan.order
        branch = order.git_branch_name
        if head != place.published_sha:
            if not place.remote_sha:  # later the branch itself shows that it is the same repository
                self._workplace.identity.require_same()
            try:
                place.mirror.push(place.remote, sha=head, git_branch_name=branch, seen=place.remote_sha)
            except ExpectedError as error:
                refused = isinstance(error, PushRejected)
                self._step.journal.end_push(head, EffectState.PLANNED if refused else EffectState.UNKNOWN)
                raise
            self._workplace.kept_sha = ""
            self._step.log.info("git_push_completed", git_branch_name=branch, git_commit_sha=head)
        self._tell_next_step(place, head)

    def _tell_next_step(self, place: Place, head: str) -> None:
        """An agent's next step needs only the branch, which this push moved; a delivery looks at all of it again."""
        order, looks = self._step.plan.order, self._step.parts.look_ahead
        if self._step.plan.precedes_delivery or head == place.published_sha:
            looks.begin(order, place.remote, place.base_branch)
        else:
            looks.note_push(order, place.remote, place.base_branch, head=head, base_sha=place.upstream_sha)

    def _upload(self, place: Place, head: str) -> None:
        """What the commits point to in submodules is there, and what in Git LFS is brought there before they are."""
        try:
            self._workplace.require_submodule_commits(place, head)
            LfsUploader(self._step, self._workplace.reference).upload(place, head, self._lfs_pointers)
        except FORGOTTEN as error:
            self._step.log.error("git_push_blocked", git_commit_sha=head, error=str(error))
            raise

    def push_unfinished(
        self, place: Place, inspector: Inspector, head: str, progress: GitProgress
    ) -> ExpectedError | None:
        """Commits of a failed attempt survive this host too; the failure itself is what gets reported.

        Where they are refused for their content they are forgotten, and the refusal is returned.
        """
        if head in {place.start_sha, place.published_sha}:
            return None
        try:
            if self.examine(place, head, progress):
                return None
            if not place.remote_sha:
                self._workplace.identity.require_same()
            self._upload(place, head)
            branch = self._step.plan.order.git_branch_name
            place.mirror.push(place.remote, sha=head, git_branch_name=branch, seen=place.remote_sha)
            self._step.journal.fenced(lambda order: self._record_push(order, head))
            self._workplace.kept_sha = ""
        except FORGOTTEN as error:
            if _may_be_another_matter(error, place, progress):
                return None
            self.forget(place, inspector)
            return error
        except (ExpectedError, StepPutBack):  # the next attempt sees the new name
            pass
        return None

    def _record_push(self, order: AgentWorkOrder, head: str) -> None:
        """Commits of a failed attempt are on the remote."""
        seen = {"state": EffectState.CONFIRMED, "confirmed_at": database_now(), "settled": False}
        order.effects.update_or_create(kind=EffectKind.PUSH, key=head, defaults=seen)
        self._step.journal.claim.write(head_sha=head)

    def examine(self, place: Place, head: str, progress: GitProgress) -> tuple[ProtectedChange, ...]:
        """What of the new commits a person must approve first, and has not. Raises `REFUSED_CONTENT`."""
        gate = PushGate(
            self._step.parts.git,
            place.mirror.path,
            redactor=redaction.current(),
            file_limit_bytes=self._step.parts.settings.push_file_max_bytes,
        )
        try:
            changes = gate.inspect(
                head=head,
                known=(place.remote_sha, place.published_sha, place.base_sha, place.upstream_sha),
                base_sha=place.base_sha,
                patterns=parse_patterns(self._step.plan.repository.protected_paths),
                net_paths=[change.path for change in progress.changes],
                commits=progress.commits,
            )
        except REFUSED_CONTENT as error:
            if head != self._blocked_sha:  # a failed attempt's commits are examined once more
                self._step.log.error("git_push_blocked", git_commit_sha=head, error=str(error))
            self._blocked_sha = head
            raise
        self._lfs_pointers = gate.lfs_pointers
        return () if head == self._step.plan.order.approved_sha else changes

    def forget(self, place: Place, inspector: Inspector) -> None:
        """Go back to what the remote has, in mirror and rows: or the next attempt would start from the rest."""
        self._workplace.forget_unpushed(place)
        pushed = place.published_sha
        found = inspector.with_patches(Inspection(pushed, inspector.progress(pushed)))
        self._step.journal.record_statistics(self._step.plan.phase, found.progress, found.patches)

    def _without_leftovers(
        self, place: Place, inspector: Inspector, head: str, progress: GitProgress, error: ExpectedError
    ) -> Inspection | None:
        """The step's evidence without the server's own commit of leftovers; None where there is nothing to go on with.

        The place goes, for that commit is in it, and nothing may start from it any more.
        """
        commit = leftovers_in(progress, head)
        if commit is None or commit.parents[0] == place.start_sha:
            return None
        kept = commit.parents[0]
        try:
            found = inspector.evidence(inspector.progress(kept), kept)
        except EvidenceMissing:
            return None
        left = DroppedLeftovers(head, tuple(touched.path for touched in commit.touched), str(error))
        self._workplace.forget_unpushed(place, keep_sha=kept)
        self._step.log.warning(
            "git_leftovers_dropped",
            git_commit_sha=head,
            paths=list(left.paths[:_NAMED_PATHS]),
            path_count=len(left.paths),
            reason=left.reason,
        )
        self._workplace.note_left_out(merged(place.sandbox.left_out, left.findings()))
        return replace(found, dropped=left)

    def _reworded(
        self, place: Place, inspector: Inspector, found: Inspection, error: PushContentRefused
    ) -> Inspection | None:
        """The same with the server's own newest commit in the agent's words; None where the newest is the agent's.

        Where merges are refused it is none: the agent's files follow on what was pushed, in one commit.
        """
        last, message = found.progress.latest, in_agents_words(found.progress, found.head_sha)
        if last is None or not message:
            return None
        is_join = place.start_sha in last.parents and _NO_MERGES.search(str(error)) is not None
        joined = [sha for sha in last.parents if sha != place.start_sha] if is_join else []
        git, path = self._step.parts.git, place.mirror.path
        sha = reworded(git, path, head=found.head_sha, message=message, without_parents=joined)
        self._workplace.forget_unpushed(place, keep_sha=sha)
        return replace(found, head_sha=sha, progress=inspector.progress(sha))

    def _ask(self, head: str, changes: tuple[ProtectedChange, ...], found: Inspection) -> None:
        paths = [{"path": change.path, "commit_sha": change.commit_sha} for change in changes]
        names = ", ".join(change.path for change in changes[:_NAMED_PATHS])
        more = f" and {len(changes) - _NAMED_PATHS} more" if len(changes) > _NAMED_PATHS else ""
        self._step.log.warning("git_push_held", git_commit_sha=head, paths=[item["path"] for item in paths])
        prompted = self._step.journal.request_approval(head, paths, found.progress, found.patches)
        words = f"The commit {head[:12]} changes protected paths ({names}{more}) and was not pushed."
        seconds = 0 if prompted else None  # somebody has said already how to go on
        raise StepWaits(Wait(WaitingReason.APPROVAL_REQUIRED, words, seconds))
