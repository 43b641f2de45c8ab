"""Drives one claimed step to its end: verify, open the place, run the agent, inspect git, push, record.

It drives and does not account: rows are `journal`'s, git's facts are `inspection`'s. What the agent says of
itself decides nothing; the commits do.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from github_app.errors import GitHubAnswerInvalid, RepositoryReplaced
from sandboxes.errors import ExpectedError, PushContentRefused, PushRejected
from sandboxes.files.disk import says_disk_full
from sandboxes.kinds import ON_THIS_HOST, SandboxType
from sandboxes.processes.concurrency import after_start, both
from sandboxes.processes.run import finishing_within
from sandboxes.sweep.rules import advice_for, in_one_line, merged
from sandboxes.trusted_git.rewriting import GITLINK
from workorders.agents.base import AgentRunResult
from workorders.domain.errors import EvidenceMissing, WorkersLost
from workorders.domain.states import Wait
from workorders.domain.workflows import StepKind
from workorders.workflow_engine.claims.control import StepPutBack, StepStopped, StepWaits, StopCause
from workorders.workflow_engine.claims.lease import host_of
from workorders.workflow_engine.evidence.inspection import Inspection, Inspector
from workorders.workflow_engine.handlers.agent import AgentRunFailed, AgentStep
from workorders.workflow_engine.handlers.delivery import Delivery
from workorders.workflow_engine.outward.github_delivery import GitHubDelivery
from workorders.workflow_engine.outward.publishing import FORGOTTEN, Accepted, Publisher
from workorders.workflow_engine.place.branch_line import Met
from workorders.workflow_engine.place.disk_floor import became_full
from workorders.workflow_engine.place.salvage import HURRIED_SECONDS
from workorders.workflow_engine.place.workplace import Place, Workplace
from workorders.workflow_engine.planning.phase_tracker import GitProgress
from workorders.workflow_engine.planning.retries import RULES, decide
from workorders.workflow_engine.record.claimed_step import ClaimedStep

_WITHDRAW_SECONDS = 10.0


class Orchestrator:
    """Runs one step for one claim. Its control may be pulled from another thread at any time."""

    def __init__(self, step: ClaimedStep) -> None:
        self._step = step
        self._workplace = Workplace(step)
        self._publisher = Publisher(step, self._workplace)
        self._github = GitHubDelivery(step)

    def run(self) -> None:
        """To the step's recorded end. Raises `LeaseLost`, after which nothing more was written."""
        started = time.monotonic()
        try:
            if self._step.plan.cancel_requested:
                self._step.control.stop_because(StopCause.CANCEL)
            self._require_living_workers()
            self._step.crash_point("claimed")
            self._step.control.check()
            if self._step.plan.kind is StepKind.DELIVERY:
                self._step.control.note_start()
                self._deliver()
            else:
                self._work()
        except StepStopped:
            self._stopped()
        except StepWaits as waits:
            self._waits(waits.wait)
        except StepPutBack as moved:
            self._put_back(moved)
        except ExpectedError as error:
            if self._step.control.cause is not None:
                self._stopped()
            elif says_disk_full(error):
                self._waits(became_full(self._step.parts.settings))
            else:
                self._failed(error, time.monotonic() - started)
        except OSError as error:
            if not says_disk_full(error):
                raise
            self._waits(became_full(self._step.parts.settings))

    @property
    def _is_deadly(self) -> bool:
        """Whether so many workers died of the step that its end is only written down, and nothing is done any more."""
        plan = self._step.plan
        return plan.cancels_lost > 0 or plan.workers_lost >= RULES[WorkersLost.category].attempts

    def _require_living_workers(self) -> None:
        if self._is_deadly:
            raise WorkersLost(f"The worker died {self._step.plan.workers_lost} times while it ran this step.")

    def _stopped(self) -> None:
        match self._step.control.cause:
            case StopCause.CANCEL:
                both(self._withdraw, self._remove_place)
                self._note_kept()
                self._step.journal.finish_cancelled(leave_place=self._is_deadly)
            case StopCause.DRAIN:
                self._step.log.info(
                    "workflow_step_put_back", phase=self._step.plan.phase, kind=self._step.plan.kind
                )
                self._step.journal.put_back("The worker was stopped; the step goes on elsewhere.")
            case _:  # nobody may have taken over yet: then the step need not wait for the lease's end
                self._step.journal.put_back(
                    "The worker was out of touch with the database; the step goes on elsewhere."
                )

    def _note_kept(self) -> None:
        """What only this host has can be followed up on; pushed or told apart from that by the next step."""
        kept = self._workplace.kept_sha
        if kept and kept != self._step.plan.order.head_sha:
            host = host_of(self._step.journal.claim.owner)
            self._step.journal.update_order(kept_sha=kept, preferred_host=host)

    def _withdraw(self) -> None:
        if self._is_deadly:
            self._github.owe_withdrawal("the worker died before it could be closed.")
            return
        with finishing_within(_WITHDRAW_SECONDS):
            self._github.withdraw()

    def _waits(self, wait: Wait) -> None:
        if self._step.control.cause is not None:
            self._stopped()
            return
        self._step.journal.wait(self._step.plan, wait)

    def _put_back(self, moved: StepPutBack) -> None:
        if self._step.control.cause is not None:
            self._stopped()
            return
        self._step.journal.put_back(str(moved))

    def _failed(self, error: ExpectedError, seconds: float) -> None:
        try:
            self._workplace.identity.follow(error)
        except StepPutBack as moved:
            self._put_back(moved)
            return
        except (RepositoryReplaced, GitHubAnswerInvalid) as known_better:
            error = known_better
        decision = decide(error, attempt=self._step.plan.tries, waited=self._step.plan.waited)
        if isinstance(decision, Wait):
            self._waits(decision)
            return
        self._step.log.error(
            "workflow_phase_failed",
            phase=self._step.plan.phase,
            kind=self._step.plan.kind,
            attempt=self._step.plan.attempt,
            error=str(error),
            error_category=error.category,
            duration_seconds=round(seconds, 2),
        )
        self._workplace.mend_mirror(error)
        if decision is None:
            self._remove_place()
            self._note_kept()
        self._step.journal.fail_step(self._step.plan, error)

    def _remove_place(self) -> None:
        """What may have killed the workers is left to recovery, which belongs to no step; the journal asks for it."""
        if not self._is_deadly:
            self._workplace.remove()

    def _deliver(self) -> None:
        self._workplace.identity.require_same()
        delivery = Delivery(self._step, self._github)
        mirror, remote = self._workplace.mirror, self._workplace.remote
        # the mirror has all of the work: nothing is delivered from the place
        try:
            outcome, _ = both(
                lambda: delivery.deliver(self._step.plan, mirror, remote), self._workplace.remove
            )
        except PushContentRefused as error:  # no agent has another try here
            raise PushRejected(str(error), advice=error.advice) from error
        if not self._step.journal.finish_order(outcome):
            self._step.control.stop_because(StopCause.CANCEL)
            raise StepStopped

    def _work(self) -> None:
        plan, log = self._step.plan, self._step.log
        started = time.monotonic()
        if not plan.runs:
            log.info("agent_work_order_started")
        elif plan.order.current_phase != plan.phase:
            log.info("workflow_phase_transition", from_phase=plan.order.current_phase, to_phase=plan.phase)
        log.info("workflow_phase_started", phase=plan.phase, attempt=plan.attempt, kind=plan.kind)
        self._workplace.verify()
        self._step.control.check()
        with self._starting() as has_started:
            place = self._workplace.open()
            inspector = Inspector(self._step.parts.git, plan, place)
            found = inspector.adoptable()
            if found is None:
                self._step.control.check()
                agent = AgentStep(self._step, self._workplace, has_started)
                result = agent.run(place)
        if found is None:
            found = self._published(place, inspector, lambda: self._inspect(place, inspector, agent, result))
        else:
            log.info("workflow_step_adopted", phase=plan.phase, kind=plan.kind, git_commit_sha=found.head_sha)
            head, progress = found.head_sha, found.progress
            accept = self._publisher.accept
            found = self._published(place, inspector, lambda: accept(place, inspector, head, progress))
        self._step.crash_point("pushed")
        if not plan.precedes_delivery and found.dropped is None:
            self._workplace.leave(place, found.head_sha)
        seconds = round(time.monotonic() - started, 2)
        log.info(
            "workflow_phase_completed",
            phase=plan.phase,
            kind=plan.kind,
            status=found.status,
            commits=found.progress.commits_in_step(plan.phase),
            duration_seconds=seconds,
            execution_duration_seconds=seconds,  # the PRD names it both ways
        )
        self._step.journal.finish_step(
            plan,
            found.status,
            head_sha=found.head_sha,
            plan_path=found.plan_path,
            plan_text=found.plan_text,
            test_results=found.test_results,
            order_changes={
                **self._line_ends(place, found.head_sha),
                **({"tested_sha": found.head_sha} if inspector.is_as_tested(found.head_sha) else {}),
            },
        )
        self._step.crash_point("recorded")

    def _starting(self) -> AbstractContextManager[Callable[[], None]]:
        """A turn for what keeps this host's processors busy: making the place, and the agent's start."""
        control = self._step.control
        if SandboxType(self._step.plan.order.sandbox_type) in ON_THIS_HOST:
            return self._step.parts.starts.one(control.check, left=control.note_start)
        control.note_start()
        return nullcontext(lambda: None)

    def _line_ends(self, place: Place, head_sha: str) -> dict[str, str]:
        """Further columns where a new line was begun on merged work: it counts once there is a commit on it."""
        if place.is_untouched_line(head_sha):
            return {"head_sha": self._step.plan.order.head_sha}
        return {"base_sha": place.base_sha} if place.met is Met.MERGED else {}

    def _remove_if_last(self) -> None:
        """Once the mirror has all of its commits nothing more is needed from the last agent's place."""
        if self._step.plan.precedes_delivery:
            self._workplace.remove()

    def _published(self, place: Place, inspector: Inspector, accepted: Callable[[], Accepted]) -> Inspection:
        """Push what is accepted; what is refused for its content is forgotten, and the next attempt hears why."""
        try:
            return self._publisher.push(place, inspector, accepted(), beside=self._remove_if_last)
        except FORGOTTEN:
            self._publisher.forget(place, inspector)
            raise

    def _inspect(
        self, place: Place, inspector: Inspector, agent: AgentStep, result: AgentRunResult
    ) -> Accepted:
        """Commit what was left, take the commits, and demand the evidence; keep them also when it failed.

        With the evidence comes what of the commits a person must approve.
        """
        head, result = after_start(lambda: self._take_all(place), lambda: agent.record(result))
        head, progress = self._progress(place, inspector, head)
        for commit in progress.since(place.start_sha):
            self._step.log.info("git_commit_created", git_commit_sha=commit.sha, message=commit.subject[:500])
        self._step.control.check()
        try:
            agent.require_end(result)
            self._require_no_conflicts(place, inspector, head)
            with agent.excused_by_evidence(result):
                return self._accepted(place, inspector, progress, head)
        except (AgentRunFailed, EvidenceMissing) as error:
            self._step.journal.record_statistics(self._step.plan.phase, progress)
            refused = self._publisher.push_unfinished(place, inspector, head, progress)
            if refused is not None:  # the agent hears of both
                error.args = (f"{error} Besides, its commits were refused. {refused}",)
            raise

    def _progress(self, place: Place, inspector: Inspector, head: str) -> tuple[str, GitProgress]:
        """What git shows, once links that nobody can follow are out of it; and the head that is then the order's."""
        progress = inspector.progress(head, at_end=True)
        if any(change.mode == GITLINK and change.status != "M" for change in progress.changes):
            clean = self._workplace.without_gitlinks(place, head, inspector.compared_with(head))
            if clean != head:
                return clean, inspector.progress(clean, at_end=True)
        return head, progress

    def _accepted(self, place: Place, inspector: Inspector, progress: GitProgress, head: str) -> Accepted:
        """With what was left out in the words of what is missing: it may be there, and not in git."""
        try:
            return self._publisher.accept(place, inspector, head, progress)
        except EvidenceMissing as error:
            left_out = place.sandbox.left_out
            if not (words := in_one_line(left_out)):
                raise
            message = f"{error} Left out of git: {words}."
            raise EvidenceMissing(message, advice=advice_for(left_out) or None) from error

    def _require_no_conflicts(self, place: Place, inspector: Inspector, head: str) -> None:
        """A merge that was committed unresolved is not done: the agent gets another try, the last one a draft."""
        if not (found := inspector.conflicts(head)):
            return
        known = {item.path for item in self._step.plan.left_undone if item.rule == "conflict_markers"}
        new = [item for item in found if item.path not in known]  # who got another try for the rest had it
        words = in_one_line(new)
        error = EvidenceMissing(
            f"The commits hold an unresolved merge: {words}. Resolve it and take the markers out.",
            advice=advice_for(new) or None,
        )
        if new and decide(error, attempt=self._step.plan.tries, waited=self._step.plan.waited) is not None:
            raise error
        self._workplace.note_left_out(merged(place.sandbox.left_out, found))

    def _take_all(self, place: Place) -> str:
        """The head of what the agent left. Raises `StepStopped` where another worker may be at it by now."""
        if self._step.control.cause is StopCause.LOST:
            raise StepStopped
        with finishing_within(HURRIED_SECONDS) if self._step.control.cause else nullcontext():
            return self._workplace.take_commits(place, final=True) or place.start_sha
