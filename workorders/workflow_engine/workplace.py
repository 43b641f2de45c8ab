"""Where a step works: its mirror, the commit it starts from, the sandbox opened there, and the way out by bundle."""

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4

from django.utils import timezone

from github_app.references import RepositoryReference
from sandboxes.base import AgentSandbox, SandboxSpec
from sandboxes.errors import BundleRejected, ExpectedError, GitError, SandboxError
from sandboxes.git import RemoteRepository
from sandboxes.kinds import SandboxCondition, SandboxType
from sandboxes.mirror import RepositoryMirror, StartingPoint
from sandboxes.process import finishing_within
from sandboxes.registry import create_sandbox
from workorders.model_gateway.access import AgentCredential
from workorders.states import STEP_DONE
from workorders.workflow_engine import phase_tracker
from workorders.workflow_engine.claimed_step import ClaimedStep
from workorders.workflow_engine.identity import RepositoryIdentity
from workorders.workflow_engine.lease import host_of
from workorders.workflow_engine.run_usage import ModelGrant
from workorders.workflow_engine.salvage import LEFTOVERS_MESSAGE, Salvage, bring_out, kept_ref

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
    """An opened place. `upstream_sha` is the base branch's tip now, `base_sha` where the order left it."""

    sandbox: AgentSandbox
    mirror: RepositoryMirror
    remote: RemoteRepository
    session: AgentSession
    credential: AgentCredential
    base_branch: str
    upstream_sha: str
    base_sha: str
    start_sha: str
    remote_sha: str


class Workplace:
    """Opens, empties and removes the place of one claimed step."""

    def __init__(self, step: ClaimedStep) -> None:
        self._step = step
        self._data_dir = step.parts.settings.data_dir
        self._order = step.plan.order
        self._opened: AgentSandbox | None = None
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
            self._read_issue(order.github_issue_number)

    def _read_issue(self, number: str) -> None:
        issue = self._step.parts.issues.read_issue(self.reference, number)
        found = {
            "github_issue_title": issue.issue_title,
            "github_issue_body": issue.issue_body,
            "github_issue_state": issue.issue_state,
        }
        self._step.journal.update_order(**found)
        for name, value in found.items():
            setattr(self._order, name, value)
        self._step.log.info("github_issue_read", issue_number=issue.issue_number, title=issue.issue_title)
        if issue.issue_state == "closed":
            self._step.log.warning(
                "github_issue_is_closed", issue_number=issue.issue_number, issue_url=issue.issue_url
            )

    def open(self) -> Place:
        """Fetch what is missing and stand in the order's newest commit: the last step's place, or a new one.

        What an attempt left that nobody could finish is brought into the mirror first; its commits are the newest then.
        """
        order, session = self._order, self._session()
        point = self.mirror.refresh(
            self.remote,
            base_branch=order.base_branch or None,
            git_branch_name=order.git_branch_name,
            kept_as=self._kept_ref,
            seen=self._step.parts.look_ahead.take(order, self.remote),
        )
        base_sha = order.base_sha or point.base_sha
        start_sha = self._start_sha(point, base_sha)
        sandbox = self._sandbox(point.base_branch, base_sha, start_sha, session.session_id)
        started = time.monotonic()
        attached = bool(order.sandbox_identifier) and sandbox.attach(
            order.sandbox_handle or order.sandbox_identifier
        )
        if not attached:
            salvage = self._salvage()
            salvage.empty(sandbox)
            if salvage.head_sha:
                start_sha = self._start_sha(point, base_sha)
            # a new one: what was salvaged may have begun elsewhere
            sandbox = self._sandbox(point.base_branch, base_sha, start_sha, session.session_id)
            sandbox.setup()
        self._opened = sandbox
        start_seconds = time.monotonic() - started
        self._step.crash_point("sandbox_opened")
        token = self._step.journal.record_place(
            base_sha=base_sha,
            base_branch=point.base_branch,
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
            credential=self._step.parts.settings.model_access.credential_for(self._sandbox_type, token),
            base_branch=point.base_branch,
            upstream_sha=point.base_sha,
            base_sha=base_sha,
            start_sha=start_sha,
            remote_sha=point.branch_sha or "",
        )

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

    def _start_sha(self, point: StartingPoint, base_sha: str) -> str:
        """The newest of the order's commits: the remote branch, what this host's mirror kept, else the base."""
        git, path, head = self._step.parts.git, self.mirror.path, self._order.head_sha
        if not self._step.plan.runs and not point.branch_sha:
            return base_sha  # nobody has worked yet
        if head and head == point.branch_sha and self._step.plan.runs[-1].status in STEP_DONE:
            return head  # the last step ended well and all of it is pushed
        here = git.known_commits(path, [head, self._kept_ref])
        newest = here.get(head) or base_sha  # or pushed elsewhere, and gone from the remote
        for candidate in (point.branch_sha, here.get(self._kept_ref)):
            # a step's own push or a person's commit on the branch; then what no push has reached yet
            if candidate and candidate != newest and git.is_ancestor(path, newest, candidate):
                newest = candidate
        return newest

    def _sandbox(self, base_branch: str, base_sha: str, start_sha: str, session_id: str) -> AgentSandbox:
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
        """A step ended well here at `head_sha`; the next may go on in the same place."""
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
            message=f"{self._step.plan.phase}: {LEFTOVERS_MESSAGE}" if final else "",
            reached=self._step.crash_point if final else lambda _point: None,
        )
        if final:
            sandbox.mark_taken()
            if sandbox.left_out:
                self._step.log.warning("sandbox_work_left_out", reason=sandbox.left_out)
        return head

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

    def forget_unpushed(self, place: Place) -> None:
        """Go back to what the remote has: the commits after it must not be worked on, nor the place they are in."""
        place.mirror.keep(self._kept_ref, place.remote_sha or place.base_sha)
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
            if not self._salvage().empty(self._opened or sandbox):
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
