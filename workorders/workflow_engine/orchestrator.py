"""Drives one claimed step to its end: prepare, open the place, run the agent, inspect git, push, record.

It drives and does not account: rows are `journal`'s, git's facts are `phase_tracker`'s. What the agent says
of itself decides nothing; the commits do.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from django.utils import timezone

from github_app.references import RepositoryReference
from github_app.repositories import require_push
from sandboxes.base import AgentSandbox, SandboxCommand, SandboxSpec
from sandboxes.errors import ExpectedError
from sandboxes.git import RemoteRepository
from sandboxes.isolation import program_folders
from sandboxes.kinds import SandboxType
from sandboxes.mirror import BUNDLE_LIMIT_BYTES, RepositoryMirror, StartingPoint
from sandboxes.process import ProcessControl
from sandboxes.registry import create_sandbox
from workorders.agent_executor.base import AgentEvent, AgentEventKind, AgentRequest, AgentRunResult
from workorders.agent_executor.executor import execute_agent_command
from workorders.agent_executor.test_results import AgentTestResults, parse_test_results
from workorders.command_loader import AgentCommand, ClaudeCommandLoader, parse_command, render
from workorders.errors import EvidenceMissing, LeaseLost, WorkOrderError
from workorders.states import PhaseRunStatus
from workorders.workflow_definitions import TEST_RESULTS_FILE, Evidence, StepKind
from workorders.workflow_engine import phase_tracker
from workorders.workflow_engine.delivery import Delivery
from workorders.workflow_engine.journal import StepJournal, StepPlan
from workorders.workflow_engine.parts import EngineParts
from workorders.workflow_engine.phase_tracker import GitProgress, StepSpan
from workorders.workflow_engine.prompts import FOLLOW_UP_COMMAND, RequestTexts, compose_prompt
from workorders.workflow_engine.recorder import StepLogger

_VERIFIED_FOR = timedelta(minutes=10)
_WATCH_SECONDS = 2.0
_SETTLE_SCRIPT = """
branch="refs/heads/$1"
git add --update
if [ "$(git ls-files --others --exclude-standard | wc -l)" -le 500 ]; then git add --all; fi
git diff --cached --quiet || git commit --quiet --message "$2"
if [ "$(git symbolic-ref --quiet HEAD)" != "$branch" ]; then
  git merge-base --is-ancestor "$branch" HEAD && git update-ref "$branch" HEAD
fi
exit 0
"""


class StopCause:
    """Why the supervisor ended a step; the last word belongs to a lost lease."""

    CANCEL = "cancel"
    DRAIN = "drain"
    LOST = "lost"


class StepControl(ProcessControl):
    """A step's brake: the supervisor pulls it, and the step asks why."""

    def __init__(self) -> None:
        super().__init__()
        self.cause: str | None = None

    def stop_because(self, cause: str) -> None:
        if self.cause != StopCause.LOST:
            self.cause = cause
        self.stop()


class StepStopped(Exception):
    """The supervisor ended this step; `StepControl.cause` says why."""


@dataclass(frozen=True)
class Place:
    """Where a step works and from where: the opened sandbox, the mirror, the commits it starts from."""

    sandbox: AgentSandbox
    mirror: RepositoryMirror
    remote: RemoteRepository
    point: StartingPoint
    base_sha: str
    start_sha: str
    session_id: str
    resume: bool


@dataclass(frozen=True)
class Inspection:
    """What git showed after the agent: the accepted head, progress, and the evidence found."""

    head_sha: str
    progress: GitProgress
    status: PhaseRunStatus
    plan_path: str = ""
    test_results: AgentTestResults | None = None


class Orchestrator:
    """Runs one step for one claim. `control` may be pulled from another thread at any time."""

    def __init__(
        self, parts: EngineParts, journal: StepJournal, log: StepLogger, control: StepControl
    ) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._journal = journal
        self._log = log
        self._control = control

    def run(self, plan: StepPlan) -> None:
        """To the step's recorded end. Writes nothing more once the lease is lost."""
        if plan.cancel_requested:
            self._journal.finish_cancelled()
            self._clean_up(plan)
            return
        started = time.monotonic()
        try:
            if plan.kind is StepKind.DELIVERY:
                self._deliver(plan)
            else:
                self._work(plan)
        except StepStopped:
            self._stopped(plan)
        except ExpectedError as error:
            self._failed(plan, error, time.monotonic() - started)

    # --- the three ends ---

    def _stopped(self, plan: StepPlan) -> None:
        cause = self._control.cause
        if cause == StopCause.CANCEL:
            self._log.flush()
            self._journal.finish_cancelled()
            self._clean_up(plan)
        elif cause == StopCause.DRAIN:
            self._log.info("workflow_step_put_back", phase=plan.phase)
            self._log.flush()
            self._journal.put_back("The worker was stopped; the step goes on elsewhere.")
        else:
            raise LeaseLost(self._journal.claim.agent_work_order_id)

    def _failed(self, plan: StepPlan, error: ExpectedError, seconds: float) -> None:
        if self._control.cause == StopCause.LOST:
            raise LeaseLost(self._journal.claim.agent_work_order_id)
        if self._control.cause is not None:
            self._stopped(plan)
            return
        self._log.error(
            "workflow_phase_failed",
            phase=plan.phase,
            attempt=plan.attempt,
            error=str(error),
            error_category=error.category,
            duration_seconds=round(seconds, 2),
        )
        self._log.flush()
        if self._journal.fail_step(plan, error) is None:
            self._clean_up(plan)

    def _check(self) -> None:
        if self._control.overdue is not None:
            raise StepStopped

    # --- delivery ---

    def _deliver(self, plan: StepPlan) -> None:
        self._journal.begin(plan)
        mirror, remote, _reference = self._mirror(plan)
        delivery = Delivery(self._parts, self._journal, self._log, self._check)
        outcome = delivery.deliver(plan, mirror, remote)
        self._log.info("sandbox_cleanup_completed", sandbox_id=plan.order.sandbox_identifier)
        self._clean_up(plan)
        self._log.flush()
        self._journal.finish_order(outcome)

    # --- an agent's step ---

    def _work(self, plan: StepPlan) -> None:
        order = plan.order
        session_id, resume = self._session(plan)
        self._journal.begin(plan, session_id=session_id)
        if not plan.runs:
            self._log.info("agent_work_order_started")
        self._log.info("workflow_phase_started", phase=plan.phase, attempt=plan.attempt, kind=plan.kind)
        started = time.monotonic()
        mirror, remote, reference = self._mirror(plan)
        self._verify(plan, reference)
        self._check()
        point = mirror.refresh(
            remote, base_branch=order.base_branch or None, git_branch_name=order.git_branch_name
        )
        base_sha = order.base_sha or point.base_sha
        place = self._open(plan, mirror, remote, point, base_sha, session_id, resume)
        inspection = self._adopt(plan, place)
        if inspection is None:
            self._check()
            result = self._run_agent(plan, place, reference)
            inspection = self._inspect(plan, place, result)
        self._push(plan, place, inspection)
        place.sandbox.mark_idle(inspection.head_sha)
        self._log.info(
            "workflow_phase_completed",
            phase=plan.phase,
            status=inspection.status,
            commits=len(inspection.progress.commits_of(plan.phase)),
            duration_seconds=round(time.monotonic() - started, 2),
        )
        self._log.flush()
        self._journal.finish_step(
            inspection.status,
            progress=inspection.progress,
            head_sha=inspection.head_sha,
            plan_path=inspection.plan_path,
            test_results=inspection.test_results,
        )

    def _mirror(self, plan: StepPlan) -> tuple[RepositoryMirror, RemoteRepository, RepositoryReference]:
        reference = self._parts.parse_reference(plan.repository.repository_url)
        mirror = RepositoryMirror(self._settings.data_dir, str(reference.key), self._parts.git)
        return mirror, self._parts.remote_for(reference), reference

    def _verify(self, plan: StepPlan, reference: RepositoryReference) -> None:
        """Ask GitHub once for each order: may we push, and what does the issue say?"""
        order, repository = plan.order, plan.repository
        if reference.is_local:
            return
        known_since = repository.access_verified_at
        fresh = known_since is not None and timezone.now() - known_since < _VERIFIED_FOR
        if not (fresh and repository.can_push):
            found = self._parts.repositories.verify_repository_access(reference)
            self._journal.update_repository(
                repository.pk,
                default_branch=found.default_branch,
                is_accessible=True,
                can_push=found.can_push,
                is_private=found.is_private,
                access_verified_at=timezone.now(),
                verification_error="",
            )
            self._log.info("github_repository_verified", is_accessible=True, can_push=found.can_push)
            require_push(found)
        if order.github_issue_number and not order.github_issue_title:
            issue = self._parts.issues.read_issue(reference, order.github_issue_number)
            order.github_issue_title, order.github_issue_body = issue.issue_title, issue.issue_body
            self._journal.update_order(
                github_issue_title=issue.issue_title, github_issue_body=issue.issue_body
            )
            self._log.info(
                "github_issue_read", issue_number=order.github_issue_number, title=issue.issue_title
            )

    def _session(self, plan: StepPlan) -> tuple[str, bool]:
        """The agent session to use, and whether its transcript is on this host to be resumed."""
        previous = plan.previous_session_id
        if previous and list(self._home(plan).glob(f".claude/projects/*/{previous}.jsonl")):
            return previous, True
        return str(uuid4()), False

    def _identifier(self, plan: StepPlan) -> str:
        kind = plan.order.sandbox_type.replace("_", "-")
        return f"{kind}-{plan.order.agent_work_order_id}"

    def _home(self, plan: StepPlan) -> Path:
        return self._settings.data_dir / "homes" / self._identifier(plan)

    def _sandbox(
        self,
        plan: StepPlan,
        mirror: RepositoryMirror,
        *,
        base_branch: str,
        base_sha: str,
        start_sha: str,
        session_id: str,
    ) -> AgentSandbox:
        order = plan.order
        trailers = phase_tracker.trailers_for(order.agent_work_order_id, plan.phase, session_id)
        reference = self._parts.parse_reference(plan.repository.repository_url)
        spec = SandboxSpec(
            sandbox_identifier=self._identifier(plan),
            repository_key=str(reference.key),
            git_branch_name=order.git_branch_name,
            base_branch=base_branch,
            base_sha=base_sha,
            start_sha=start_sha,
            mirror_path=mirror.path,
            data_dir=self._settings.data_dir,
            trailers=trailers,
            isolation=self._settings.isolation,
        )
        return create_sandbox(SandboxType(order.sandbox_type), spec)

    def _open(
        self,
        plan: StepPlan,
        mirror: RepositoryMirror,
        remote: RemoteRepository,
        point: StartingPoint,
        base_sha: str,
        session_id: str,
        resume: bool,
    ) -> Place:
        order = plan.order
        start_sha = self._start_sha(plan, mirror, point, base_sha)
        sandbox = self._sandbox(
            plan,
            mirror,
            base_branch=point.base_branch,
            base_sha=base_sha,
            start_sha=start_sha,
            session_id=session_id,
        )
        attached = bool(order.sandbox_identifier) and sandbox.attach(sandbox.handle)
        if not attached:
            sandbox.setup()
        self._journal.update_order(
            base_sha=base_sha, base_branch=point.base_branch, sandbox_identifier=sandbox.sandbox_identifier
        )
        self._journal.update_run(start_sha=start_sha)
        if not attached:
            self._log.info(
                "sandbox_created",
                sandbox_id=sandbox.sandbox_identifier,
                sandbox_identifier=sandbox.sandbox_identifier,
                git_branch_name=order.git_branch_name,
                start_sha=start_sha,
            )
        if not order.base_sha:
            self._log.info(
                "git_branch_created",
                git_branch_name=order.git_branch_name,
                base_branch=point.base_branch,
                base_sha=base_sha,
            )
        return Place(sandbox, mirror, remote, point, base_sha, start_sha, session_id, resume)

    def _start_sha(
        self, plan: StepPlan, mirror: RepositoryMirror, point: StartingPoint, base_sha: str
    ) -> str:
        """The newest commit known to be the order's: the remote branch, work kept in this host's mirror, the base."""
        git, known = self._parts.git, plan.order.head_sha
        if known and not git.has_commit(mirror.path, known):
            known = ""  # pushed from another host, and gone from the remote since
        remote_sha = point.branch_sha or ""
        if remote_sha and (not known or git.is_ancestor(mirror.path, known, remote_sha)):
            known = remote_sha  # a step's own push, or a person's commit on the branch
        kept = git.ref_sha(mirror.path, self._kept_ref(plan)) if mirror.path.is_dir() else None
        if kept and git.is_ancestor(mirror.path, known or base_sha, kept):
            return kept
        return known or base_sha

    def _kept_ref(self, plan: StepPlan) -> str:
        return f"refs/work-orders/{plan.order.agent_work_order_id}"

    # --- the agent ---

    def _run_agent(self, plan: StepPlan, place: Place, reference: RepositoryReference) -> AgentRunResult:
        command = self._command(plan, place)
        request = self._request(plan, place, command)
        self._log.info(
            "agent_command_started",
            command_name=f"/{command.command_name}" if command else "follow_up",
            agent_session_id=place.session_id,
            resumed=place.resume,
            model=request.model,
        )
        with self._watching(plan, place):
            result = execute_agent_command(
                place.sandbox, request, control=self._control, on_event=self._on_agent_event
            )
        self._journal.record_agent_run(result)
        fields = {
            "duration_seconds": round(result.duration_seconds, 2),
            "agent_session_id": result.session_id,
            "cost_usd": float(result.cost_usd or 0),
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "turns": result.turns,
        }
        if result.failure is None:
            self._log.info("agent_command_completed", **fields)
        else:
            self._log.error(
                "agent_command_failed",
                **fields,
                error=result.failure.message,
                error_category=result.failure.category,
                exit_code=result.exit_code,
                stderr_tail=result.stderr_tail,
            )
        return result

    def _command(self, plan: StepPlan, place: Place) -> AgentCommand | None:
        """The repository's own command from the base commit where it has one, else the shipped one."""
        if plan.step is None:
            return None
        name = plan.step.command_name
        path = f".claude/commands/{name}.md"
        override = self._parts.git.read_file(place.mirror.path, place.base_sha, path)
        if override is not None:
            return parse_command(override, command_name=name, source=f"{path} at {place.base_sha[:12]}")
        return ClaudeCommandLoader(self._settings.commands_dir).get_command(name)

    def _request(self, plan: StepPlan, place: Place, command: AgentCommand | None) -> AgentRequest:
        order = plan.order
        arguments = [order.agent_work_order_id, order.github_issue_number or "none"]
        text = render(command, arguments) if command else FOLLOW_UP_COMMAND
        guidance = self._parts.git.read_file(
            place.mirror.path, place.base_sha, "CLAUDE.md", limit_bytes=64_000
        )
        so_far: tuple[str, ...] = ()
        if not place.resume and place.start_sha != place.base_sha:
            commits = self._parts.git.commits(place.mirror.path, base=place.base_sha, head=place.start_sha)
            so_far = tuple(f"{commit.sha[:12]} {commit.subject[:200]}" for commit in commits[-50:])
        texts = RequestTexts(
            initial_prompt=order.initial_prompt,
            issue_number=order.github_issue_number or "",
            issue_title=order.github_issue_title,
            issue_body=order.github_issue_body,
            follow_up=plan.follow_up.text if plan.follow_up else "",
            so_far=so_far,
        )
        environment = {
            "WORKORDERS_AGENT_WORK_ORDER_ID": order.agent_work_order_id,
            "WORKORDERS_PHASE": plan.phase.value,
            "WORKORDERS_ATTEMPT": str(plan.attempt),
        }
        if plan.follow_up:
            environment["WORKORDERS_FOLLOW_UP"] = "1"
        settings = self._settings
        return AgentRequest(
            argv=settings.agent_argv,
            model=(command.model if command else "") or order.model or settings.agent_model,
            session_id=place.session_id,
            resume=place.resume,
            prompt=compose_prompt(text, texts),
            environment=environment,
            secrets=settings.agent_secrets,
            timeout_seconds=settings.agent_timeout_seconds,
            silence_seconds=settings.agent_silence_seconds,
            budget_usd=settings.agent_budget_usd,
            system_text=(guidance or b"").decode("utf-8", "replace").replace("\x00", ""),
            program_folders=program_folders(settings.agent_argv, settings.isolation.search_path),
        )

    def _on_agent_event(self, event: AgentEvent) -> None:
        level = self._log.warning if event.kind in _WARNING_KINDS else self._log.info
        level(_EVENT_NAMES[event.kind], summary=event.summary, **dict(event.fields))

    # --- looking while it runs ---

    @contextlib.contextmanager
    def _watching(self, plan: StepPlan, place: Place) -> Iterator[None]:
        """Refresh the order's git statistics from another thread whenever the sandbox's HEAD moves."""
        done = threading.Event()
        watcher = threading.Thread(
            target=self._watch, args=(plan, place, done), name=f"watch-{plan.order.agent_work_order_id}"
        )
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, plan: StepPlan, place: Place, done: threading.Event) -> None:
        seen = place.sandbox.get_current_state().change_marker
        while not done.wait(_WATCH_SECONDS):
            try:
                marker = place.sandbox.get_current_state().change_marker
                if marker != seen and not done.is_set():
                    seen = marker
                    head = self._take_commits(plan, place)
                    if head:
                        self._journal.record_statistics(self._progress(plan, place, head))
            except ExpectedError as error:  # a half-written commit; the step's own end inspects for good
                self._log.warning("git_progress_unreadable", error=str(error))
            except LeaseLost:
                return

    def _take_commits(self, plan: StepPlan, place: Place) -> str | None:
        """Bundle out of the sandbox, inspect, keep in the mirror. The accepted head, or None without commits."""
        bundle = self._settings.data_dir / "outbox" / f"{plan.order.agent_work_order_id}-{uuid4().hex}.bundle"
        try:
            if not place.sandbox.export_bundle(bundle, limit_bytes=BUNDLE_LIMIT_BYTES):
                return None
            return place.mirror.accept_bundle(
                bundle,
                git_branch_name=plan.order.git_branch_name,
                descends_from=place.start_sha,
                keep_as=self._kept_ref(plan),
            )
        finally:
            bundle.unlink(missing_ok=True)

    def _progress(self, plan: StepPlan, place: Place, head_sha: str) -> GitProgress:
        git, path, upstream = self._parts.git, place.mirror.path, place.point.base_sha
        commits = git.commits(path, base=place.base_sha, head=head_sha, without=upstream)
        common = git.merge_base(path, upstream, head_sha) or place.base_sha
        changes = git.changes(path, base=common, head=head_sha)
        spans = (*plan.spans, StepSpan(plan.phase, place.start_sha, head_sha))
        return phase_tracker.track(
            commits, changes, agent_work_order_id=plan.order.agent_work_order_id, spans=spans
        )

    # --- after the agent ---

    def _inspect(self, plan: StepPlan, place: Place, result: AgentRunResult) -> Inspection:
        """Commit what was left, take the commits, keep them on the remote whatever comes, demand the evidence."""
        if self._control.cause == StopCause.LOST:
            raise StepStopped
        settled = place.sandbox.execute_command(
            SandboxCommand(
                argv=(
                    "sh",
                    "-c",
                    _SETTLE_SCRIPT,
                    "sh",
                    plan.order.git_branch_name,
                    f"{plan.phase}: keep changes the agent left uncommitted",
                ),
                timeout_seconds=60,
            )
        )
        if not settled.ok:
            self._log.warning(
                "sandbox_command_failed",
                command="commit leftovers",
                stderr=settled.stderr[-500:].decode("utf-8", "replace"),
            )
        head = self._take_commits(plan, place) or place.start_sha
        progress = self._progress(plan, place, head)
        self._journal.record_statistics(progress)
        for commit in progress.commits_of(plan.phase):
            self._log.info("git_commit_created", git_commit_sha=commit.sha, message=commit.subject[:500])
        if self._control.cause is not None:
            raise StepStopped
        if result.failure is not None:
            self._push_unfinished(plan, place, head)
            failure = result.failure
            raise AgentRunFailed(
                failure.message, category=failure.category, advice=failure.advice, retryable=failure.retryable
            )
        try:
            return self._evidence(plan, place, head, progress)
        except EvidenceMissing:
            self._push_unfinished(plan, place, head)
            raise

    def _push_unfinished(self, plan: StepPlan, place: Place, head: str) -> None:
        """Commits of a failed attempt survive this host too."""
        if head != place.start_sha:
            with contextlib.suppress(ExpectedError):
                place.mirror.push(place.remote, sha=head, git_branch_name=plan.order.git_branch_name)
                self._journal.update_order(head_sha=head)

    def _evidence(self, plan: StepPlan, place: Place, head: str, progress: GitProgress) -> Inspection:
        """What the phase had to leave in git. Raises `EvidenceMissing`."""
        git, path = self._parts.git, place.mirror.path
        found = Inspection(head, progress, PhaseRunStatus.SUCCEEDED)
        evidence = plan.step.evidence if plan.step else None
        if evidence is None:
            return found
        since = plan.phase_start_sha or place.start_sha
        changes = git.changes(path, base=since, head=head)
        if evidence is Evidence.PLAN_FILE:
            plan_path = phase_tracker.plan_path(changes)
            if plan_path is None:
                raise EvidenceMissing("The planning phase left no plan: no file specs/*.md was committed.")
            return replace(found, plan_path=plan_path)
        if evidence is Evidence.TEST_RESULTS:
            return replace(found, test_results=self._test_results(place, head, bool(changes), progress, plan))
        if phase_tracker.changed_outside_plans(changes):
            return found
        if phase_tracker.says_no_change_needed(progress.commits_of(plan.phase)):
            return replace(found, status=PhaseRunStatus.NO_CHANGE_NEEDED)
        raise EvidenceMissing("The implementing phase committed no change outside specs/.")

    def _test_results(
        self, place: Place, head: str, changed: bool, progress: GitProgress, plan: StepPlan
    ) -> AgentTestResults:
        data = self._parts.git.read_file(
            place.mirror.path, head, TEST_RESULTS_FILE, limit_bytes=4 * 1024 * 1024
        )
        if data is None:
            raise EvidenceMissing(f"The testing phase left no {TEST_RESULTS_FILE}.")
        if not changed and not progress.commits_of(plan.phase):
            raise EvidenceMissing(f"The testing phase committed nothing; {TEST_RESULTS_FILE} is an old one.")
        try:
            return parse_test_results(data)
        except ValueError as error:
            raise EvidenceMissing(f"{TEST_RESULTS_FILE} is not valid: {error}") from error

    def _adopt(self, plan: StepPlan, place: Place) -> Inspection | None:
        """A step that an earlier worker finished in git but did not live to record is not run again."""
        planned = plan.planned_sha
        if not planned or not self._parts.git.has_commit(place.mirror.path, planned):
            return None
        if not self._parts.git.is_ancestor(place.mirror.path, planned, place.start_sha):
            return None
        progress = self._progress(plan, place, place.start_sha)
        try:
            found = self._evidence(plan, place, place.start_sha, progress)
        except EvidenceMissing:
            return None
        self._log.info("workflow_step_adopted", phase=plan.phase, git_commit_sha=planned)
        return found

    def _push(self, plan: StepPlan, place: Place, inspection: Inspection) -> None:
        """The inspected commit, and no other, to the order's branch; noted before, so that it can be adopted."""
        head = inspection.head_sha
        self._journal.update_run(planned_sha=head)
        self._check()
        if head != (place.point.branch_sha or place.base_sha):
            place.mirror.push(place.remote, sha=head, git_branch_name=plan.order.git_branch_name)
            self._log.info(
                "git_push_completed", git_branch_name=plan.order.git_branch_name, git_commit_sha=head
            )

    def _clean_up(self, plan: StepPlan) -> None:
        """Remove the place to work; the order's HOME (the agent's transcripts) stays for follow-ups."""
        if not plan.order.sandbox_identifier and not plan.runs:
            identifier_known = (self._settings.data_dir / "sandboxes" / self._identifier(plan)).exists()
            if not identifier_known:
                return
        mirror, _remote, _reference = self._mirror(plan)
        sha = plan.order.base_sha or "0" * 40
        sandbox = self._sandbox(
            plan, mirror, base_branch="main", base_sha=sha, start_sha=sha, session_id="none"
        )
        try:
            sandbox.cleanup()
        except (ExpectedError, OSError) as error:  # recovery removes what is left
            self._log.warning("sandbox_cleanup_failed", error=str(error))


class AgentRunFailed(WorkOrderError):
    """The agent's run ended in one of the categories of `agent_executor`."""

    def __init__(self, message: str, *, category: str, advice: str, retryable: bool) -> None:
        super().__init__(message, advice=advice, retryable=retryable)
        self.category = str(category)


_WARNING_KINDS = frozenset({AgentEventKind.API_RETRIED, AgentEventKind.UNREADABLE})
_EVENT_NAMES = {kind: f"agent_{kind.value}" for kind in AgentEventKind}
