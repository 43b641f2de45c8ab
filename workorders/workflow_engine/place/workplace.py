"""Where a step works: its mirror, the commit it starts from, the sandbox opened there, and the way out by bundle."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4

from django.utils import timezone

from github_app.references import RepositoryReference
from github_app.types import GitHubIssue
from sandboxes.base import AgentSandbox, SandboxSpec
from sandboxes.errors import BundleRejected, ExpectedError, GitError, SandboxError
from sandboxes.extras.placed import Extras
from sandboxes.kinds import SandboxCondition, SandboxType
from sandboxes.processes.run import finishing_within
from sandboxes.registry import create_sandbox
from sandboxes.sweep.rules import GITLINKS, SWEEP_TRAILER, LeftOut, in_one_line, merged, work_in
from sandboxes.trusted_git.git import RemoteRepository
from sandboxes.trusted_git.mirror import RepositoryMirror, StartingPoint
from sandboxes.trusted_git.rewriting import Signature
from workorders.model_gateway.access import AgentCredential
from workorders.models import AgentWorkOrder
from workorders.models.written_text import WrittenRequest, keep_issue, shown
from workorders.text.redaction import current
from workorders.workflow_engine.claims.lease import host_of
from workorders.workflow_engine.place.branch_line import FOLLOWED, FOUND_EVENTS, NOTES, BranchLine, Met, Start
from workorders.workflow_engine.place.extras import ExtrasFetcher, Fetched
from workorders.workflow_engine.place.identity import RepositoryIdentity
from workorders.workflow_engine.place.salvage import (
    Salvage,
    bring_out,
    bring_out_lfs,
    kept_ref,
    salvaged_ref,
    sweep_gate,
)
from workorders.workflow_engine.place.upstream import Upstream
from workorders.workflow_engine.planning import phase_tracker
from workorders.workflow_engine.record.claimed_step import ClaimedStep
from workorders.workflow_engine.record.usage import ModelGrant

_REMOVE_SECONDS = 8.0  # recovery removes what takes longer
_MAYBE_THE_MIRROR = frozenset({SandboxError.category, GitError.category, BundleRejected.category})
_VERIFIED_FOR = timedelta(minutes=10)
_TOKEN_GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class AgentSession:
    """The agent session a step uses, and whether this host has it, to be resumed."""

    session_id: str
    resume: bool


@dataclass(frozen=True)
class Place:
    """An opened place. `upstream_sha` is the base branch's tip now, `base_sha` where the order left it.

    `remote_sha` is where the order's branch was seen, '' for nowhere; `published_sha` as in `branch_line.Start`.
    `not_fetched` says what of its submodules and LFS contents is not in the checkout, a phrase each.
    """

    sandbox: AgentSandbox
    mirror: RepositoryMirror
    remote: RemoteRepository
    session: AgentSession
    credential: AgentCredential
    written: WrittenRequest
    base_branch: str
    upstream_sha: str
    base_sha: str
    start_sha: str
    remote_sha: str
    published_sha: str
    met: Met
    note: str = ""
    """What an agent that was here before must know, in words: what others did to the branch."""
    not_fetched: tuple[str, ...] = ()

    def is_untouched_line(self, head_sha: str) -> bool:
        """Whether a new line was begun on the merged work, and there is nothing on it."""
        return self.met is Met.MERGED and head_sha == self.published_sha


class Workplace:
    """Opens, empties and removes the place of one claimed step."""

    def __init__(self, step: ClaimedStep) -> None:
        self._step = step
        self._data_dir = step.parts.settings.data_dir
        self._order = step.plan.order
        self._opened: AgentSandbox | None = None
        self._joined = False  # the order's newest commit is the server's, and not in the place
        self.kept_sha = ""
        """The newest commit that came into the mirror here, pushed or not."""
        self.identity = RepositoryIdentity(step)

    @cached_property
    def reference(self) -> RepositoryReference:
        """Raises `ExpectedError` where the repository is no longer one this server accepts."""
        return self._step.parts.parse_reference(self._step.plan.repository.repository_url)

    @cached_property
    def remote(self) -> RemoteRepository:
        return self._step.parts.remote_for(self.reference)

    @cached_property
    def mirror(self) -> RepositoryMirror:
        return RepositoryMirror(self._data_dir, self._order.mirror_key, self._step.parts.git)

    @property
    def _identifier(self) -> str:
        return self._order.expected_sandbox_identifier

    @property
    def _kept_ref(self) -> str:
        return kept_ref(self._order.agent_work_order_id)

    def _session(self) -> AgentSession:
        plan = self._step.plan
        if previous := plan.previous_session_id:
            held = self._any_sandbox().holds_session(previous)
            if held is None:  # then the agent itself must know, if this is where it ended
                held = plan.session_host == host_of(self._step.journal.claim.owner)
            if held:
                return AgentSession(previous, resume=True)
        return AgentSession(str(uuid4()), resume=False)

    def verify(self) -> None:
        """Ask GitHub once for each order: may we push, and what does the issue say? Raises `GitHubError`s."""
        if self.reference.is_local:
            return
        order, repository = self._order, self._step.plan.repository
        known_since = repository.access_verified_at
        fresh = known_since is not None and timezone.now() - known_since < _VERIFIED_FOR
        if not (fresh and repository.can_push) or repository.replaced_at is not None:
            self.identity.verify()
        if order.github_issue_number and not order.github_issue_title:
            issue = self._step.parts.issues.read_issue(self.reference, order.github_issue_number)
            self._record_issue(issue)

    def _record_issue(self, issue: GitHubIssue) -> None:
        """As it is shown in the order's row, and as it was written beside it."""
        columns = {
            "github_issue_title": shown(issue.issue_title),
            "github_issue_body": shown(issue.issue_body),
            "github_issue_state": issue.issue_state,
        }
        journal, order = self._step.journal, self._order

        def write(_locked: AgentWorkOrder) -> None:
            journal.claim.write(**columns)
            keep_issue(order.pk, title=issue.issue_title, body=issue.issue_body)

        journal.fenced(write)
        for name, value in columns.items():
            setattr(order, name, value)
        title = order.github_issue_title
        self._step.log.info("github_issue_read", issue_number=issue.issue_number, title=title)
        if current().places(f"{issue.issue_title}\n{issue.issue_body}"):
            self._step.log.warning("github_issue_secret_withheld", issue_number=issue.issue_number)
        if issue.issue_state == "closed":
            self._step.log.warning(
                "github_issue_is_closed", issue_number=issue.issue_number, issue_url=issue.issue_url
            )

    def open(self) -> Place:
        """Fetch what is missing and stand in the order's newest commit: the last step's place, or a new one.

        What an attempt left that nobody could finish is brought into the mirror first; its commits are the newest then.
        """
        order, session = self._order, self._session()
        upstream = Upstream(self._step, self.reference, self.mirror, self.remote)
        point = upstream.refresh(self._step.parts.look_ahead.take(order, self.remote))
        start = self._start(upstream, point)
        base_sha, start_sha = start.base_sha, start.start_sha
        fetched = self._fetch_extras(base_sha, start_sha)
        sandbox = self._sandbox(point.base_branch, base_sha, start_sha, session.session_id, fetched.extras)
        started = time.monotonic()
        attached = bool(order.sandbox_identifier) and sandbox.attach(
            order.sandbox_handle or order.sandbox_identifier
        )
        if not attached:
            salvage = self._salvage()
            salvage.empty(sandbox)
            if salvage.head_sha:
                start_sha = self._line(upstream, point).start().start_sha
                fetched = self._fetch_extras(base_sha, start_sha)
            # a new one: what was salvaged may have begun elsewhere
            sandbox = self._sandbox(
                point.base_branch, base_sha, start_sha, session.session_id, fetched.extras
            )
            sandbox.setup()
            fetched = fetched.without(sandbox.unplaced)
            self._tell_fetched(fetched)
        self._opened = sandbox
        start_seconds = time.monotonic() - started
        self._step.crash_point("sandbox_opened")
        follow_up = self._step.plan.follow_up
        record = self._step.journal.record_place(
            prompt_pk=follow_up.pk if follow_up else None,
            base_branch=point.base_branch,
            **self._line_columns(start, point),
            sandbox_identifier=sandbox.sandbox_identifier,
            start_sha=start_sha,
            session_id=session.session_id,
            start_seconds=start_seconds,
            access=self._model_grant(),
            **self._as_columns(sandbox, SandboxCondition.RUNNING),
        )
        if not order.base_sha:
            self._step.log.info(
                "git_branch_created",
                git_branch_name=order.git_branch_name,
                base_branch=point.base_branch,
                base_sha=base_sha,
            )
        if not attached:
            identifier = sandbox.sandbox_identifier
            self._step.log.info(
                "sandbox_created",
                sandbox_identifier=identifier,
                start_sha=start_sha,
                duration_seconds=round(start_seconds, 2),
            )
        return Place(
            sandbox=sandbox,
            mirror=self.mirror,
            remote=self.remote,
            session=session,
            credential=self._step.parts.settings.model_access.credential_for(
                self._sandbox_type, record.token
            ),
            written=record.written,
            base_branch=point.base_branch,
            upstream_sha=point.base_sha,
            base_sha=base_sha,
            start_sha=start_sha,
            remote_sha=point.branch_sha or "",
            published_sha=start.published_sha,
            met=start.met,
            note=self._note(start, point),
            not_fetched=fetched.not_fetched,
        )

    def _fetch_extras(self, base_sha: str, start_sha: str) -> Fetched:
        fetcher = ExtrasFetcher(self._step, self.reference, self.mirror)
        limit = self._any_sandbox().lfs_limit_bytes
        return fetcher.fetch(base_sha=base_sha, start_sha=start_sha, lfs_limit_bytes=limit)

    def require_submodule_commits(self, place: Place, head: str) -> None:
        """Raises `SubmoduleCommitMissing`."""
        fetcher = ExtrasFetcher(self._step, self.reference, self.mirror)
        fetcher.require_commits(base_sha=place.base_sha, head=head)

    def _tell_fetched(self, fetched: Fetched) -> None:
        for level, event, fields in fetched.events():
            (self._step.log.warning if level == "warning" else self._step.log.info)(event, **fields)

    @property
    def _sandbox_type(self) -> SandboxType:
        return SandboxType(self._order.sandbox_type)

    def _model_grant(self) -> ModelGrant:
        """A token is noted before the agent gets it, and good until the step ends."""
        settings = self._step.parts.settings
        return ModelGrant(
            settings.model_access.kind_for(self._sandbox_type),
            budget_usd=settings.agent_budget_usd,
            lifetime_seconds=settings.agent_timeout_seconds + _TOKEN_GRACE_SECONDS,
        )

    def _line(self, upstream: Upstream, point: StartingPoint) -> BranchLine:
        return BranchLine(self._step.parts.git, self.mirror.path, upstream.record(), point)

    def _start(self, upstream: Upstream, point: StartingPoint) -> Start:
        """Where the step starts. What others did to the branch is said, and what it no longer has of ours is kept."""
        start = self._line(upstream, point).start()
        if start.met is Met.AS_LEFT:
            return start
        if start.aside_sha:
            name = f"{self._order.agent_work_order_id}-{start.aside_sha[:12]}"
            self.mirror.keep(salvaged_ref(name), start.aside_sha)
        self.mirror.keep(self._kept_ref, start.start_sha)  # or the next attempt would take that for newer
        event, level = FOUND_EVENTS[start.met]
        getattr(self._step.log, level)(
            event,
            git_branch_name=self._order.git_branch_name,
            how=start.met,
            found_sha=point.branch_sha or "",
            expected_sha=self._order.head_sha,
            start_sha=start.start_sha,
            base_branch=point.base_branch,
            kept_sha=start.aside_sha,
        )
        return start

    def _line_columns(self, start: Start, point: StartingPoint) -> dict[str, Any]:
        """Where the order's line stands now. A new line counts from its first commit on (`finish`)."""
        if start.met is Met.MERGED:
            return {}
        if start.met in FOLLOWED and point.branch_sha:
            return {"base_sha": start.base_sha, "head_sha": point.branch_sha}
        return {"base_sha": start.base_sha}

    @staticmethod
    def _note(start: Start, point: StartingPoint) -> str:
        return NOTES[start.met].format(
            base_branch=point.base_branch,
            branch_sha=(point.branch_sha or "")[:12],
            start_sha=start.start_sha[:12],
        )

    def _sandbox(
        self,
        base_branch: str,
        base_sha: str,
        start_sha: str,
        session_id: str,
        extras: Extras = Extras(),  # noqa: B008  # frozen
    ) -> AgentSandbox:
        order = self._order
        spec = SandboxSpec(
            sandbox_identifier=self._identifier,
            repository_key=order.mirror_key,
            git_branch_name=order.git_branch_name,
            base_branch=base_branch,
            base_sha=base_sha,
            start_sha=start_sha,
            mirror_path=self.mirror.path,
            data_dir=self._data_dir,
            trailers=phase_tracker.trailers_for(order.agent_work_order_id, self._step.plan.phase, session_id),
            isolation=self._step.parts.settings.isolation,
            providers=self._step.parts.settings.providers,
            attempt=self._step.journal.claim.epoch,
            extras=extras,
            leftover_file_bytes=self._step.parts.settings.leftover_file_bytes,
        )
        return create_sandbox(self._sandbox_type, spec)

    def _any_sandbox(self) -> AgentSandbox:
        """For what depends on its name only."""
        sha = self._order.base_sha or "0" * 40
        return self._sandbox("main", sha, sha, "none")

    def _as_columns(self, sandbox: AgentSandbox, condition: SandboxCondition) -> dict[str, Any]:
        """What pages and API tell of a sandbox elsewhere; nothing for one on this host."""
        if sandbox.shares_host:
            return {}
        state = sandbox.get_current_state()
        return {
            "sandbox_handle": sandbox.handle or state.provider_id,
            "sandbox_state": condition,
            "sandbox_started_at": state.started_at,
            "sandbox_expires_at": state.expires_at,
        }

    def leave(self, place: Place, head_sha: str) -> None:
        """A step ended well here at `head_sha`; the next may go on in the same place, if that is where it stands."""
        if self._joined or not place.sandbox.last_export.settled:
            self.remove()
            return
        place.sandbox.mark_idle(head_sha)
        if changes := self._as_columns(place.sandbox, SandboxCondition.IDLE):
            self._step.journal.update_order(**changes)

    def take_commits(self, place: Place, *, final: bool = False) -> str | None:
        """Bundle out of the sandbox, inspect, keep in the mirror: the accepted head, or None without commits.

        `final`, once the agent has ended: what it left uncommitted is committed first.
        """
        sandbox = place.sandbox
        head = bring_out(
            sandbox,
            place.mirror,
            self._order,
            self._data_dir,
            start_sha=place.start_sha,
            keep_as=self._kept_ref,
            sweep=sweep_gate(self._step.parts, place.mirror) if final else None,
            joined_by=lambda agent_head: self._join(place, agent_head, final=final),
            reached=self._step.crash_point if final else lambda _point: None,
        )
        if head or final:
            self.kept_sha = head or (place.start_sha if place.start_sha != place.published_sha else "")
        if final:
            if head is not None:
                self._take_lfs(sandbox)
            sandbox.mark_taken()
            self.note_left_out(sandbox.left_out)
        return head

    def _join(self, place: Place, agent_head: str, *, final: bool) -> str:
        """What the server says where the agent rewrote commits that were there when it began; none of them is lost."""
        if final:
            self._joined = True
            self._step.log.warning(
                "git_history_rewritten", git_commit_sha=agent_head, start_sha=place.start_sha
            )
        order, phase = self._order, self._step.plan.phase
        return phase_tracker.rewritten_message(order.agent_work_order_id, phase, place.session.session_id)

    def _take_lfs(self, sandbox: AgentSandbox) -> None:
        """Where they cannot be taken the push says so, if a commit needs them."""
        try:
            bring_out_lfs(
                sandbox,
                self._data_dir,
                agent_work_order_id=self._order.agent_work_order_id,
                repository_key=self._order.mirror_key,
                limit_bytes=self._step.parts.settings.lfs.max_bytes,
            )
        except SandboxError as error:
            self._step.log.warning("git_lfs_objects_not_taken", reason=str(error))

    def note_left_out(self, left_out: Sequence[LeftOut]) -> None:
        """To the order's log, and to the run's row."""
        if not left_out:
            return
        listed = [item.as_json() for item in left_out]
        log = self._step.log.warning if work_in(left_out) else self._step.log.info
        reason = in_one_line(left_out) or "only what checkout itself has made different"
        log("sandbox_work_left_out", reason=reason, left_out=listed)
        self._step.journal.update_run(left_out=listed)

    def without_gitlinks(self, place: Place, head: str, base_sha: str) -> str:
        """The head without links to repositories that its agent committed and nobody else can reach."""
        trailers = phase_tracker.trailers_for(
            self._order.agent_work_order_id, self._step.plan.phase, place.session.session_id
        )
        by = Signature(
            SandboxSpec.committer_name,
            SandboxSpec.committer_email,
            (*trailers, f"{SWEEP_TRAILER}: {GITLINKS}"),
        )
        judged = sweep_gate(self._step.parts, place.mirror).without_gitlinks(head, base=base_sha, by=by)
        if judged.head != head:
            place.mirror.keep(self._kept_ref, judged.head)
            sandbox = place.sandbox
            sandbox.left_out = merged(sandbox.left_out, judged.left_out)
            sandbox.last_export = replace(sandbox.last_export, settled=False)
            sandbox.mark_taken()
            self.note_left_out(sandbox.left_out)
        return judged.head

    def mend_mirror(self, error: ExpectedError) -> None:
        """After a failure that a damaged mirror may explain: the next attempt finds it whole."""
        if error.category not in _MAYBE_THE_MIRROR:
            return
        try:
            found = self.mirror.repair(self.remote)
        except (ExpectedError, OSError) as trouble:
            self._step.log.warning("git_mirror_unrepaired", error=str(trouble))
            return
        if found is not None:
            set_aside, lost = list(found.set_aside[:20]), list(found.lost[:20])
            self._step.log.warning("git_mirror_repaired", set_aside=set_aside, lost=lost)

    def forget_unpushed(self, place: Place, *, keep_sha: str = "") -> None:
        """Go back to what the remote has, or to the given commit: none after it is worked on, nor its place."""
        place.mirror.keep(self._kept_ref, keep_sha or place.published_sha)
        self.kept_sha = ""
        self.remove()

    def _salvage(self) -> Salvage:
        control = self._step.control
        return Salvage(
            self._step.parts, self._order, self.mirror, self._step.log, lambda: control.cause is not None
        )

    def remove(self) -> None:
        """Remove the place, with all work in git; the agent's HOME (its transcripts) stays for follow-ups.

        Where work cannot be brought into git, the place is set aside, and the order's log says so.
        """
        try:
            sandbox = self._any_sandbox()  # raises where the settings refuse it by now
            salvage = self._salvage()
            is_there = salvage.empty(self._opened or sandbox)
            self.kept_sha = salvage.head_sha or self.kept_sha
            if not is_there:
                return
            if sandbox.get_current_state().exists:
                self._step.crash_point("cleaning")
                with finishing_within(_REMOVE_SECONDS):
                    sandbox.cleanup()
            elif sandbox.shares_host:
                return
        except (ExpectedError, OSError) as error:  # recovery removes what is left
            self._step.log.warning("sandbox_cleanup_failed", error=str(error))
        else:
            self._step.log.info("sandbox_cleanup_completed", sandbox_identifier=self._identifier)
            if not sandbox.shares_host:
                self._step.journal.update_order(
                    sandbox_state=SandboxCondition.REMOVED, sandbox_expires_at=None
                )
