"""The rows of one claimed step: what is to be done, and what was seen, each write fenced by the claim.

Runs on the process's database connection (`recorder.Database`); every method is one transaction and raises
`LeaseLost` when another process holds the order now.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from django.db import transaction
from django.utils import timezone

from github_app.models import Repository
from github_app.references import RepositoryReference
from github_app.types import GitHubRepository
from sandboxes.errors import ExpectedError
from workorders.agents.base import AgentRunResult
from workorders.domain.states import (
    AgentWorkOrderOutcome,
    AgentWorkOrderStatus,
    EffectKind,
    EffectState,
    PhaseRunStatus,
    PromptDropped,
    PromptStatus,
    Wait,
)
from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.model_gateway.access import CredentialKind
from workorders.models import AgentPrompt, AgentWorkOrder, OutsideEffect, PhaseRun, statements
from workorders.models.agent_work_order import NOT_WAITING, NOTHING_TO_APPROVE, RELEASED
from workorders.models.clock import database_now
from workorders.models.effect import open_pull_requests
from workorders.models.logs import LogEvent, append_log_events, record_order_event, storable
from workorders.models.model_access import new_step_token
from workorders.models.phase_run import WORKER_LOST, WORKER_REPLACED
from workorders.models.prompt_moves import drop_prompts, finish_prompt
from workorders.models.statements import Grown
from workorders.models.written_text import WrittenRequest, written_request
from workorders.queueing import queue
from workorders.repositories.rows import record_repository, retire
from workorders.workflow_engine.claims.lease import Claim, host_of
from workorders.workflow_engine.planning.phase_tracker import GitProgress
from workorders.workflow_engine.planning.retries import decide
from workorders.workflow_engine.planning.step_plan import StepPlan, plan_step
from workorders.workflow_engine.record.git_cache import store_git_cache
from workorders.workflow_engine.record.recorder import Database, LogBuffer
from workorders.workflow_engine.record.usage import (
    ModelError,
    ModelGrant,
    RunUsage,
    grant_access,
    is_refused,
    last_error,
    record_run,
)
from workorders.workflow_engine.results_file.results import AgentTestResults


def close_open_runs(order: AgentWorkOrder, status: PhaseRunStatus, **changes: Any) -> None:
    """End what a dead worker left open. Inside the transaction that takes the order from it."""
    rows = order.phase_runs.filter(status=PhaseRunStatus.RUNNING)
    rows.update(status=status, completed_at=timezone.now(), **changes)


def close_lost_runs(order: AgentWorkOrder) -> None:
    close_open_runs(
        order,
        PhaseRunStatus.INTERRUPTED,
        error_category=WORKER_LOST,
        error_message="The worker ended while it ran this step.",
    )


def close_replaced_runs(owner: str, *, excused: bool) -> None:
    """End what a worker left open that its own cluster has ended. `excused`: no fault of the orders it had."""
    PhaseRun.objects.filter(worker=owner, status=PhaseRunStatus.RUNNING).update(
        status=PhaseRunStatus.INTERRUPTED,
        completed_at=timezone.now(),
        error_category=WORKER_REPLACED,
        error_message="The worker no longer answered and was replaced; the step goes on elsewhere.",
        excused=excused,
    )


@dataclass(frozen=True)
class FollowingClaim:
    """The claim of an order's next step, made as the step before it ended; `asked_at` is monotonic."""

    claim: Claim
    asked_at: float


@dataclass(frozen=True)
class PlaceRecord:
    """What a step's agent gets: a token for the model, '' where its access is not the gateway's, and the request."""

    token: str = field(repr=False)
    written: WrittenRequest = field(repr=False)


class StepJournal:
    """Reads and writes for one claim. Not shared between steps; safe from the step's threads."""

    def __init__(
        self,
        claim: Claim,
        database: Database,
        buffer: LogBuffer | None = None,
        *,
        keep_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`keep_seconds`: the lease this process wants for the order's next step; 0 where it lets the order go."""
        self.claim = claim
        self.following: FollowingClaim | None = None
        self._database = database
        self._buffer = buffer
        self._keep_seconds = keep_seconds
        self._run_pk: int | None = None

    def _transaction[T](self, function: Callable[[], T]) -> T:
        def run() -> T:
            with transaction.atomic():
                return function()

        return self._database.call(run)

    def _end[T](self, write: Callable[[AgentWorkOrder], T], *columns: str) -> T:
        """The step's last transaction, which also stores what it logged: whoever sees the end can read all of it.

        `columns` are those of the order that `write` reads, all where none is named.
        """

        def end(events: Sequence[LogEvent] = ()) -> T:
            order = self.claim.lock(*columns, *(("log_sequence",) if columns else ()))
            append_log_events(order.pk, events, last=order.log_sequence)
            return write(order)

        if self._buffer is None:
            return self._transaction(end)
        with self._buffer.taken(self.claim.pk) as events:
            return self._transaction(lambda: end(events))

    def fenced[T](self, function: Callable[[AgentWorkOrder], T]) -> T:
        """`function(order)` in one transaction with the order's row locked, if the claim still holds."""
        return self._transaction(lambda: function(self.claim.lock("cancel_requested_at")))

    def begin(self) -> StepPlan:
        """What is to be done, with its run open, in one transaction; no run for an order that is being cancelled.

        Runs that a dead worker left open are closed as interrupted.
        """

        def begin() -> tuple[StepPlan, int | None]:
            order = self.claim.lock()
            plan = plan_step(order)
            if plan.cancel_requested:
                self.claim.write(cancel_claims=Grown(1))
                return plan, None
            return plan, self._open_run(order, plan)

        plan, self._run_pk = self._transaction(begin)
        return plan

    def postpone(self, wait: Wait) -> bool:
        """Put an agent's step back before it has begun; False for one that needs no agent, which may begin."""
        plan = self._transaction(lambda: plan_step(self.claim.lock()))
        if plan.kind is StepKind.DELIVERY or plan.cancel_requested:
            return False
        self.wait(plan, wait)
        return True

    # --- the step's run ---

    def _open_run(self, order: AgentWorkOrder, plan: StepPlan) -> int:
        if any(run.status == PhaseRunStatus.RUNNING for run in plan.runs):
            close_lost_runs(order)
        now = timezone.now()
        opened = {
            "agent_work_order": order.pk,
            "sequence": plan.runs[-1].sequence + 1 if plan.runs else 1,
            "kind": plan.kind,
            "phase": plan.phase,
            "attempt": plan.attempt,
            "claim_epoch": self.claim.epoch,
            "worker": self.claim.owner,
            "started_at": now,
            "prompt": plan.follow_up.pk if plan.follow_up else None,
        }
        run_pk = statements.insert(PhaseRun, opened)
        if plan.follow_up:
            AgentPrompt.objects.filter(pk=plan.follow_up.pk).update(status=PromptStatus.RUNNING)
        changes: dict[str, Any] = {**NOT_WAITING, "execution_started_at": order.execution_started_at or now}
        if plan.kind is not StepKind.DELIVERY:
            changes["current_phase"] = plan.phase
        if order.status == AgentWorkOrderStatus.PENDING:
            running, owner = AgentWorkOrderStatus.RUNNING, self.claim.owner
            order.move(running, by=owner, fence=self.claim.fence, refresh=False, **changes)
        else:
            self.claim.write(**changes)
        return run_pk

    def update_run(self, **changes: Any) -> None:
        def write() -> None:
            self.claim.hold()
            self._write_run(**changes)

        self._transaction(write)

    def plan_push(self, head_sha: str, *, pushes: bool = True) -> None:
        """The inspected commit that is about to be pushed: what a later worker adopts, should this one die.

        `pushes` False: there is nothing in it that the remote has not.
        """

        def write() -> None:
            self.claim.hold()
            self._write_run(planned_sha=head_sha)
            if not pushes:
                return
            which = {"agent_work_order": self.claim.pk, "kind": EffectKind.PUSH, "key": head_sha}
            sent = {"state": EffectState.SENT, "sent_at": database_now()}
            if not statements.update(OutsideEffect, {**sent, "requests": Grown(1)}, which):
                statements.insert(OutsideEffect, {**which, **sent, "requests": 1})

        self._transaction(write)

    def end_push(self, head_sha: str, state: EffectState) -> None:
        """What came back instead of the push's success; `finish_step` notes that."""

        def write() -> None:
            order = self.claim.lock()
            order.effects.filter(kind=EffectKind.PUSH, key=head_sha, state=EffectState.SENT).update(
                state=state
            )

        self._transaction(write)

    def update_order(self, **changes: Any) -> None:
        self._transaction(lambda: self.claim.write(**changes))

    def record_place(
        self,
        *,
        start_sha: str,
        session_id: str,
        start_seconds: float,
        access: ModelGrant,
        prompt_pk: int | None = None,
        **changes: Any,
    ) -> PlaceRecord:
        """Where the step works, from which commit, in which agent session; before the agent starts.

        `prompt_pk`: of the follow-up that is carried out.
        """
        token = new_step_token() if access.kind is CredentialKind.GATEWAY_TOKEN else ""

        def write() -> WrittenRequest:
            self.claim.write(**changes)
            self._write_run(
                start_sha=start_sha,
                agent_session_id=session_id,
                sandbox_start_seconds=round(start_seconds, 3),
                model_credential=access.kind,
            )
            if token:
                grant_access(self.claim, self._run_pk, access, token)
            return written_request(self.claim.pk, prompt_pk=prompt_pk)

        return PlaceRecord(token, self._transaction(write))

    def update_repository(self, pk: int, **changes: Any) -> None:
        def write() -> None:
            self.claim.hold()
            Repository.objects.filter(pk=pk).update(**changes, updated_at=timezone.now())

        self._transaction(write)

    def is_connected(self, host: str, owner: str, name: str) -> bool:
        """Whether a person has connected that repository here, and GitHub shows it to this server."""

        def look() -> bool:
            self.claim.look()
            named = {"host__iexact": host, "owner__iexact": owner, "name__iexact": name}
            return Repository.objects.filter(**named, is_accessible=True).exists()

        return self._transaction(look)

    def record_repository(self, asked: RepositoryReference, found: GitHubRepository) -> int:
        """What GitHub showed for a name; the key of the row it belongs to. Holds no order's row (`repositories`)."""

        def write() -> int:
            self.claim.look()
            return record_repository(asked, found, verification_error="").pk

        return self._transaction(write)

    def lose_repository_name(self, pk: int) -> None:
        """Another repository has the name of this row's."""

        def write() -> None:
            self.claim.look()
            row = Repository.objects.filter(pk=pk, replaced_at__isnull=True).first()
            if row is not None:
                retire(row)

        self._transaction(write)

    def record_statistics(
        self, phase: AgentWorkflowPhase, progress: GitProgress, patches: Sequence[str] | None = None
    ) -> None:
        """On the order, and this step's own commits on its run. `patches` None: the step still runs."""

        def write() -> None:
            self.claim.write(**_statistics(progress))
            self._write_run(commits=progress.commits_in_step(phase))
            store_git_cache(self.claim.pk, progress, patches)

        self._transaction(write)

    def budget_refused(self) -> bool:
        """Whether the gateway has refused this run's agent for its budget."""

        def look() -> bool:
            self.claim.hold()
            return is_refused(self._run_pk)

        return self._transaction(look)

    def last_model_error(self) -> ModelError | None:
        """What the gateway heard last for this run, if it was an error."""

        def look() -> ModelError | None:
            self.claim.hold()
            return last_error(self._run_pk)

        return self._transaction(look)

    def record_agent_run(self, result: AgentRunResult) -> RunUsage:
        """Close the agent's run, once: its session, and what it cost."""

        def write() -> RunUsage:
            self.claim.hold()
            return record_run(self.claim, self._run_columns, result)

        return self._transaction(write)

    def note_warning(self, message: str, category: str) -> None:
        """What a person should know of this run, although it counts."""

        def write() -> None:
            self.claim.hold()
            self._write_run(error_message=storable(message)[:4000], error_category=category)

        self._transaction(write)

    @property
    def _run_columns(self) -> dict[str, int]:
        """What tells this claim's run from all others."""
        return {"pk": self._run_pk or 0, "claim_epoch": self.claim.epoch}

    def _write_run(self, **changes: Any) -> None:
        statements.update(PhaseRun, changes, self._run_columns)

    # --- the step's end: each releases the claim ---

    def finish_step(
        self,
        plan: StepPlan,
        status: PhaseRunStatus,
        *,
        head_sha: str,
        plan_path: str = "",
        plan_text: str = "",
        test_results: AgentTestResults | None = None,
        order_changes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """The step is in git and pushed: close its run, and claim the next step or make it claimable, with a ticket.

        `order_changes` are further columns of the order; among them `head_sha`, where that is not the step's own.
        """

        def write(order: AgentWorkOrder) -> None:
            self._write_run(
                status=status,
                completed_at=timezone.now(),
                end_sha=head_sha,
                plan_path=plan_path[:500],
                plan_text=plan_text.replace("\x00", "\ufffd"),
                **_test_columns(test_results),
            )
            if plan.follow_up:
                finish_prompt(order, plan.follow_up.pk)
            which = {"agent_work_order": order.pk, "kind": EffectKind.PUSH, "key": head_sha}
            confirmed = {"state": EffectState.CONFIRMED, "confirmed_at": database_now()}
            statements.update(OutsideEffect, confirmed, which)
            pushed: dict[str, Any] = NOTHING_TO_APPROVE if order.approval_sha else {}
            if order.kept_sha:
                pushed = {**pushed, "kept_sha": "", "preferred_host": ""}
            self._hand_on(order, **{"head_sha": head_sha, **pushed, **order_changes})

        columns = ("cancel_requested_at", "approval_sha", "kept_sha")
        self._end(write, *(() if plan.follow_up else columns))  # what a prompt's end logs needs all

    def finish_order(self, outcome: AgentWorkOrderOutcome) -> bool:
        """`completed`: the remote has the commits and, on GitHub, the pull request was found.

        False, and nothing written, where a cancel was acknowledged first: it wins.
        """

        def write(order: AgentWorkOrder) -> bool:
            if order.cancel_requested_at is not None:
                return False
            self._close_run(PhaseRunStatus.SUCCEEDED)
            order.effects.filter(settled=False).update(settled=True)
            if order.prompts.filter(status=PromptStatus.QUEUED).exists():
                self._release(order)  # somebody asked for more meanwhile
                return True
            record_order_event(
                order,
                "workflow_phase_transition",
                from_phase=order.current_phase,
                to_phase=AgentWorkflowPhase.COMPLETED,
            )
            order.move(
                AgentWorkOrderStatus.COMPLETED,
                by=self.claim.owner,
                fence=self.claim.fence,
                refresh=False,
                outcome=outcome,
                current_phase=AgentWorkflowPhase.COMPLETED,
                execution_completed_at=timezone.now(),
                cancel_requested_at=None,
                **RELEASED,
            )
            record_order_event(
                order,
                "agent_work_order_completed",
                outcome=outcome,
                github_pull_request_url=order.github_pull_request_url,
                git_commit_count=order.git_commit_count,
            )
            return True

        return self._end(write)

    def fail_step(self, plan: StepPlan, error: ExpectedError) -> None:
        """Close the run; the order is tried again after a pause, or waits, where that may help, else it failed."""

        decision = decide(error, attempt=plan.tries, waited=plan.waited)
        if isinstance(decision, Wait):
            self.wait(plan, decision)
            return
        message = storable(str(error))[:4000]

        def write(order: AgentWorkOrder) -> None:
            if error.category == WORKER_LOST:
                queue.ask_for_recovery()  # nothing was removed
            if order.cancel_requested_at is not None:
                self._close_run(PhaseRunStatus.FAILED, error_message=message, error_category=error.category)
                self._cancel(order)
                return
            close_open_runs(
                order, PhaseRunStatus.FAILED, error_message=message, error_category=error.category
            )
            if decision is not None:
                record_order_event(
                    order,
                    "workflow_phase_retry_scheduled",
                    level="warning",
                    phase=plan.phase,
                    kind=plan.kind,
                    attempt=plan.attempt,
                    delay_seconds=round(decision.seconds, 1),
                    error_category=error.category,
                    error=str(error)[:2000],
                )
                self._release(order, delay_seconds=decision.seconds)
                return
            if plan.follow_up:
                drop_prompts(order, PromptDropped.FAILED, only=[plan.follow_up.pk])
            order.move(
                AgentWorkOrderStatus.FAILED,
                by=self.claim.owner,
                reason=error.category,
                fence=self.claim.fence,
                error_message=message,
                error_category=error.category,
                error_advice=error.advice,
                execution_completed_at=timezone.now(),
                **RELEASED,
            )
            record_order_event(
                order,
                "agent_work_order_failed",
                level="error",
                error=str(error)[:2000],
                error_category=error.category,
                error_advice=error.advice,
                phase=plan.phase,
                kind=plan.kind,
            )

        self._end(write)

    def finish_cancelled(self, *, leave_place: bool = False) -> None:
        """The agent is gone, and so is the pull request of an unfinished delivery, or it is owed.

        `leave_place`: the place to work is still there, and recovery's.
        """

        def write(order: AgentWorkOrder) -> None:
            if leave_place:
                queue.ask_for_recovery()
            close_open_runs(order, PhaseRunStatus.CANCELLED)
            order.finish_cancelled(by=self.claim.owner, fence=self.claim.fence)

        self._end(write)

    def _cancel(self, order: AgentWorkOrder) -> None:
        """At once, unless there may be a pull request; then the next claim takes that back first."""
        close_open_runs(order, PhaseRunStatus.CANCELLED)
        if not open_pull_requests(order).exists():
            order.finish_cancelled(by=self.claim.owner, fence=self.claim.fence)
            return
        free: dict[str, Any] = {"claim_owner": "", "lease_expires_at": None, "claimable_at": database_now()}
        self.claim.write(**NOT_WAITING, **free)
        queue.issue_ticket(wake=False)

    def request_approval(
        self, sha: str, paths: Sequence[dict[str, str]], progress: GitProgress, patches: Sequence[str]
    ) -> bool:
        """Note that this commit, which only this host has, must not be pushed before a person approved it.

        Whether a follow-up prompt waits, which will be done on top of it.
        """

        def write() -> bool:
            order = self.claim.lock()
            self.claim.write(
                approval_sha=sha,
                approval_paths=list(paths),
                preferred_host=host_of(self.claim.owner),
                **_statistics(progress),
            )
            self._write_run(planned_sha=sha)
            store_git_cache(order.pk, progress, patches)
            return order.prompts.filter(status=PromptStatus.QUEUED).exists()

        return self._transaction(write)

    def put_back(self, reason: str) -> None:
        """Stop without counting an attempt: another process continues at once."""

        def write(order: AgentWorkOrder) -> None:
            self._close_run(PhaseRunStatus.INTERRUPTED, error_message=reason)
            self._release(order)

        self._end(write)

    def excuse(self) -> None:
        """The process ends as it should, before the step has: no death. The lease stays, for what still runs of it."""

        def write() -> None:
            self.claim.hold()
            PhaseRun.objects.filter(
                agent_work_order=self.claim.pk,
                claim_epoch=self.claim.epoch,
                status=PhaseRunStatus.RUNNING,
            ).update(
                status=PhaseRunStatus.INTERRUPTED,
                completed_at=timezone.now(),
                error_message="The worker was stopped, and the step did not end in time; it goes on elsewhere.",
            )

        self._transaction(write)

    def wait(self, plan: StepPlan, wait: Wait) -> None:
        """Put the step back until what it waits for is there; no attempt is counted, and everybody can see it."""
        message = storable(wait.message)[:4000]

        def write(order: AgentWorkOrder) -> None:
            self._close_run(PhaseRunStatus.INTERRUPTED, error_message=message, error_category=wait.reason)
            if order.cancel_requested_at is not None:
                self._cancel(order)
                return
            close_lost_runs(order)
            until = None if wait.seconds is None else database_now() + timedelta(seconds=wait.seconds)
            if order.waiting_reason != wait.reason:  # said once, however often it was looked again
                record_order_event(
                    order,
                    "workflow_step_waiting",
                    level="warning",
                    phase=plan.phase,
                    kind=plan.kind,
                    waiting_reason=wait.reason,
                    waiting_until=until.isoformat() if until else None,
                    message=message[:2000],
                )
            self.claim.write(
                claim_owner="",
                lease_expires_at=None,
                claimable_at=until,
                waiting_reason=wait.reason,
                waiting_until=until,
                waiting_message=message,
            )
            if until is not None:
                queue.issue_ticket(wake=False)

        self._end(write)

    def _close_run(self, status: PhaseRunStatus, **changes: Any) -> None:
        if self._run_pk is not None:
            self._write_run(status=status, completed_at=timezone.now(), **changes)

    def _hand_on(self, order: AgentWorkOrder, **changes: Any) -> None:
        """Claim the next step for this process where it wants that, so that begun orders end first; else let go.

        An order that a person wants cancelled is let go. So is a suspect, of which no process runs two.
        """
        self.following = None  # a transaction is tried again where the database was away
        seconds = 0.0 if self.claim.is_suspect else self._keep_seconds()
        if order.cancel_requested_at is not None or not seconds:
            self._release(order, **changes)
            return
        asked_at, now = time.monotonic(), database_now()
        claim = replace(self.claim, epoch=self.claim.epoch + 1)
        lease = {"claim_epoch": claim.epoch, "lease_expires_at": now + timedelta(seconds=seconds)}
        self.claim.write(**NOT_WAITING, **lease, claimable_at=now, **changes)
        self.following = FollowingClaim(claim, asked_at)

    def _release(self, order: AgentWorkOrder, *, delay_seconds: float = 0, **changes: Any) -> None:
        """Give the claim up with the next step claimable, unless a cancel came meanwhile."""
        if order.cancel_requested_at is not None:
            self.claim.write(**changes)
            order.refresh_from_db()
            self._cancel(order)
            return
        claimable_at: datetime = database_now() + timedelta(seconds=delay_seconds)
        free: dict[str, Any] = {"claim_owner": "", "lease_expires_at": None, "claimable_at": claimable_at}
        self.claim.write(**NOT_WAITING, **free, **changes)
        queue.issue_ticket(wake=False)


def _statistics(progress: GitProgress) -> dict[str, Any]:
    latest = progress.latest
    return {
        "git_commit_count": progress.all_commits,
        "git_files_changed": progress.files_changed,
        "git_lines_added": progress.lines_added,
        "git_lines_removed": progress.lines_removed,
        "latest_commit_sha": latest.sha if latest else "",
        "latest_commit_message": latest.message[:4000].replace("\x00", "\ufffd") if latest else "",
        "git_observed_at": timezone.now(),
    }


def _test_columns(results: AgentTestResults | None) -> dict[str, Any]:
    if results is None:
        return {}
    return {
        "tests_passed": results.passed,
        "tests_failed": results.failed,
        "test_results": results.model_dump(mode="json"),
    }
