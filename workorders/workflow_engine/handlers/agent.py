"""Runs the agent of one step: what it is told, what it sees, and looking at git while it works."""

import contextlib
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field, replace

from sandboxes.base import SandboxState
from sandboxes.errors import ExpectedError
from sandboxes.processes.isolation import program_folders
from sandboxes.processes.run import ExitReason, ProcessControl
from sandboxes.sweep.rules import in_one_line
from workorders.agents.base import AgentEvent, AgentEventKind, AgentRequest, AgentRunResult
from workorders.agents.claude_code.failures import budget_failure, explained_by_model
from workorders.agents.executor import execute_agent_command
from workorders.domain.errors import EvidenceMissing, LeaseLost, WorkOrderError
from workorders.model_gateway.access import CredentialKind
from workorders.workflow_engine.evidence.inspection import Inspector
from workorders.workflow_engine.guidance.compose import (
    Guidance,
    compose,
    names_of,
    near_places,
    with_references,
)
from workorders.workflow_engine.guidance.files import (
    BaseGuidance,
    read_command_file,
    read_guidance,
    read_places,
)
from workorders.workflow_engine.guidance.text import as_text, named_paths
from workorders.workflow_engine.handlers.command_loader import (
    MAX_COMMAND_BYTES,
    AgentCommand,
    ClaudeCommandLoader,
    CommandInvalid,
    parse_command,
    render,
)
from workorders.workflow_engine.handlers.prompts import (
    FOLLOW_UP_COMMAND,
    TESTS_AGAIN,
    RequestTexts,
    compose_prompt,
)
from workorders.workflow_engine.place.workplace import Place, Workplace
from workorders.workflow_engine.record.claimed_step import ClaimedStep
from workorders.workflow_engine.record.usage import RunUsage

_WATCH_SECONDS = 2.0
_START_SECONDS = 10.0
_BUDGET_GRACE_SECONDS = 5.0
_CHANGES_LOOKED_AT = 5000
_LOGGED = 50
_EXCUSED = "The work counts, since git has all of it, but the agent's program did not end as it should:"
_WARNINGS = frozenset({AgentEventKind.API_RETRIED, AgentEventKind.UNREADABLE})


def _command_path(command_name: str) -> str:
    return f".claude/commands/{command_name}.md"


@dataclass(frozen=True)
class _Told:
    """What an agent is started with: a name for its command, the prompt, and the base commit's guidance."""

    command_name: str
    prompt: str = field(repr=False)
    system_text: str = field(repr=False)


class AgentRunFailed(WorkOrderError):
    """The agent's run ended in one of the failure categories of `agents`."""

    def __init__(self, result: AgentRunResult, *, missing: str = "") -> None:
        """`missing`: what of the work is not in git besides, for whoever tries again."""
        assert result.failure is not None
        failure = result.failure
        message = f"{failure.message} {missing}".strip()
        super().__init__(message, advice=failure.advice, retryable=failure.retryable)
        self.category = failure.category.value
        self.retry_after_seconds = failure.retry_after_seconds


def _as_recorded(result: AgentRunResult, usage: RunUsage) -> AgentRunResult:
    """The books decide: what it cost, and that it did not end well where the gateway had to cut it off."""
    failure = budget_failure(usage.cost_usd) if usage.budget_refused else result.failure
    return replace(
        result,
        succeeded=failure is None,
        failure=failure,
        cost_usd=usage.cost_usd,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
    )


class AgentStep:
    """One run of the agent in an opened place."""

    def __init__(
        self, step: ClaimedStep, workplace: Workplace, started: Callable[[], None] = lambda: None
    ) -> None:
        """`started` is called once the agent has said something, or has been silent for long: it has started."""
        self._step = step
        self._started = started
        self._settings = step.parts.settings
        # The agent's own brake: that it lingered or was cut off must not stop what the step does after it.
        self._agent_control = ProcessControl(step.control.group, within=step.control)
        self._workplace = workplace
        self._command_name = ""

    def run(self, place: Place) -> AgentRunResult:
        """Run it to its end, whatever end."""
        told = self._told(place)
        request = self._request(place, told)
        self._command_name = told.command_name
        self._step.log.info(
            "agent_command_started",
            command_name=self._command_name,
            agent_session_id=request.session_id,
            resumed=request.resume,
            model=request.model,
        )
        with self._watching(place):
            result = execute_agent_command(
                place.sandbox, request, control=self._agent_control, on_event=self._on_event
            )
        self._step.log.info(
            "sandbox_command_executed",
            command=shlex.join(request.argv),
            exit_code=result.exit_code,
            duration_seconds=round(result.duration_seconds, 2),
        )
        self._step.crash_point("agent_done")
        return result

    def record(self, result: AgentRunResult) -> AgentRunResult:
        """Its cost and session into the books; what they say it came to. Raises `LeaseLost`."""
        result = self._explained(result)
        usage = self._step.journal.record_agent_run(result)
        result = _as_recorded(result, usage)
        self._log_end(result, usage)
        return result

    def require_end(self, result: AgentRunResult) -> None:
        """Raises `AgentRunFailed` where the run ended in a way that nothing in git could outweigh."""
        if result.failure is not None and not result.failure.after_success:
            raise AgentRunFailed(result)

    @contextlib.contextmanager
    def excused_by_evidence(self, result: AgentRunResult) -> Iterator[None]:
        """Around the look at git: a bad end of the program after its good result is a warning where git shows the work.

        Raises `AgentRunFailed` in place of `EvidenceMissing`: then how it ended is the likelier reason.
        """
        try:
            yield
        except EvidenceMissing as error:
            if result.failure is None:
                raise
            raise AgentRunFailed(result, missing=str(error)) from error
        if result.failure is None:
            return
        warning = f"{_EXCUSED} {result.failure.message}"
        self._step.journal.note_warning(warning, result.failure.category)
        self._step.log.warning(
            "agent_exit_ignored",
            phase=self._step.plan.phase,
            error=warning,
            error_category=result.failure.category.value,
            exit_code=result.exit_code,
            stderr_tail=result.stderr_tail,
        )

    def _explained(self, result: AgentRunResult) -> AgentRunResult:
        if result.failure is None or (error := self._step.journal.last_model_error()) is None:
            return result
        failure = explained_by_model(result.failure, error.status, error.resets_in_seconds)
        return replace(result, failure=failure)

    def _command(self, place: Place, base: BaseGuidance) -> tuple[AgentCommand | None, BaseGuidance]:
        """The repository's own command from the base commit where it has one, else the shipped one; what it imports."""
        if self._step.plan.step is None:
            return None, BaseGuidance()
        name = self._step.plan.step.command_name
        path = _command_path(name)
        content, imported = None, BaseGuidance()
        if base.may_have_commands:
            content, imported = read_command_file(
                self._step.parts.git, place.mirror.path, place.base_sha, path
            )
        if content is None:
            if imported.refused:
                raise CommandInvalid(path, 1, f"the command file is {imported.refused[0].reason}.")
            return ClaudeCommandLoader(self._settings.commands_dir).get_command(name), imported
        text = as_text(content) if len(content) <= MAX_COMMAND_BYTES else None
        source = f"{path} at {place.base_sha[:12]}"
        return parse_command(text or content, command_name=name, source=source), imported

    def _told(self, place: Place) -> _Told:
        """Everything the agent reads, from the rows and the base commit."""
        texts = self._texts(place)
        base = read_guidance(self._step.parts.git, place.mirror.path, place.base_sha)
        command, imported = self._command(place, base)
        arguments = [texts.issue_number or "none", self._step.plan.order.agent_work_order_id]
        text = render(command, arguments) if command else FOLLOW_UP_COMMAND
        if self._step.plan.tests_again:
            text = f"{text.rstrip()}\n\n{TESTS_AGAIN.format(sha=self._step.plan.tested_sha)}"
        return _Told(
            command_name=f"/{command.command_name}" if command else "follow_up",
            prompt=compose_prompt(with_references(text, imported) if imported.general else text, texts),
            system_text=self._guidance(place, base, imported, texts).text,
        )

    def _guidance(
        self, place: Place, base: BaseGuidance, imported: BaseGuidance, texts: RequestTexts
    ) -> Guidance:
        """What of the base commit's guidance this step is given; said in the log."""
        git, mirror = self._step.parts.git, place.mirror.path
        changed: list[str] = []
        if (base.scoped or base.nested) and place.start_sha != place.base_sha:
            changes = git.changes(mirror, base=place.base_sha, head=place.start_sha)
            changed = [change.path for change in changes[:_CHANGES_LOOKED_AT]]
        plans = [run.plan_text for run in self._step.plan.runs if run.plan_text]
        said = (texts.initial_prompt, texts.issue_title, texts.issue_body, texts.follow_up, *plans)
        named = named_paths([*said, *changed]) if base.scoped or base.nested else frozenset()
        near, unread = near_places(base, named)
        nested = read_places(git, mirror, place.base_sha, near) if near else BaseGuidance()
        guidance = compose(base, nested, base_sha=place.base_sha, named=named, unread=unread)
        refused = [*guidance.refused, *map(str, imported.refused)]
        if guidance.is_worth_a_line or imported.general or refused:
            log = self._step.log.warning if refused or guidance.cut else self._step.log.info
            log(
                "agent_guidance_loaded",
                files=list(guidance.files[:_LOGGED]),
                command_imports=names_of(imported)[:_LOGGED],
                bytes=guidance.size,
                cut=list(guidance.cut[:_LOGGED]),
                not_shown=list(guidance.named[:_LOGGED]),
                refused=refused[:_LOGGED],
            )
        return guidance

    def _request(self, place: Place, told: _Told) -> AgentRequest:
        order, settings, credential = self._step.plan.order, self._settings, place.credential
        metered = credential.kind is CredentialKind.GATEWAY_TOKEN
        return AgentRequest(
            argv=settings.agent_argv,
            model=order.model or settings.agent_model,  # a repository must not choose a costlier one
            session_id=place.session.session_id,
            resume=place.session.resume,
            prompt=told.prompt,
            environment={**credential.environment, **self._environment()},
            secrets=credential.secrets,
            timeout_seconds=settings.agent_timeout_seconds,
            silence_seconds=settings.agent_silence_seconds,
            budget_usd=None
            if metered
            else settings.agent_budget_usd,  # the gateway keeps it, by its own prices
            system_text=told.system_text,
            program_folders=program_folders(settings.agent_argv, settings.isolation.search_path),
        )

    def _texts(self, place: Place) -> RequestTexts:
        order = self._step.plan.order
        so_far: tuple[str, ...] = ()
        if not place.session.resume and place.start_sha != place.base_sha:
            so_far = self._step.plan.so_far
            if place.start_sha != order.head_sha:  # the branch has more than the rows know
                commits = self._step.parts.git.commits(
                    place.mirror.path, base=place.base_sha, head=place.start_sha
                )
                so_far = tuple(f"{commit.sha[:12]} {commit.subject[:200]}" for commit in commits[-50:])
        written = place.written
        return RequestTexts(
            initial_prompt=written.initial_prompt,
            issue_number=order.github_issue_number or "",
            issue_title=written.issue_title,
            issue_body=written.issue_body,
            follow_up=written.follow_up,
            so_far=so_far,
            previous_failure=self._step.plan.previous_failure,
            not_fetched=place.not_fetched,
            branch_note=place.note,
            previous_left_out=self._previous_left_out(),
            left_undone=in_one_line(self._step.plan.left_undone),
        )

    def _previous_left_out(self) -> str:
        """Where the failure's own words do not say it."""
        words = in_one_line(self._step.plan.previous_left_out)
        return "" if words in self._step.plan.previous_failure else words

    def _environment(self) -> dict[str, str]:
        environment = {
            "WORKORDERS_AGENT_WORK_ORDER_ID": self._step.plan.order.agent_work_order_id,
            "WORKORDERS_PHASE": self._step.plan.phase.value,
            "WORKORDERS_ATTEMPT": str(self._step.plan.attempt),
        }
        if self._step.plan.follow_up:
            environment["WORKORDERS_FOLLOW_UP"] = "1"
        return environment

    def _on_event(self, event: AgentEvent) -> None:
        self._started()
        self._step.crash_point("agent_running")
        log = self._step.log.warning if event.kind in _WARNINGS else self._step.log.info
        log(f"agent_{event.kind}", summary=event.summary, **dict(event.fields))

    def _log_end(self, result: AgentRunResult, usage: RunUsage) -> None:
        fields = {
            "command_name": self._command_name,
            "duration_seconds": round(result.duration_seconds, 2),
            "agent_session_id": result.session_id,
            "cost_usd": float(usage.cost_usd),
            "cost_is_complete": usage.cost_is_complete,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "usage_source": usage.source,
            "turns": result.turns,
        }
        if (
            result.failure is None or result.failure.after_success
        ):  # what became of that is said after the look at git
            self._step.log.info("agent_command_completed", **fields)
            return
        if self._step.control.cause is not None:  # ended by the server, for a cancel or a shutdown
            self._step.log.info("agent_command_stopped", **fields, exit_code=result.exit_code)
            return
        self._step.log.error(
            "agent_command_failed",
            **fields,
            error=result.failure.message,
            error_category=result.failure.category.value,
            exit_code=result.exit_code,
            stderr_tail=result.stderr_tail,
        )

    # --- looking while it runs ---

    @contextlib.contextmanager
    def _watching(self, place: Place) -> Iterator[None]:
        """Refresh the order's git statistics from another thread whenever the sandbox's HEAD moves."""
        done = threading.Event()
        name = f"watch-{self._step.plan.order.agent_work_order_id}"
        watcher = threading.Thread(
            target=copy_context().run, args=(self._watch, place, done), name=name, daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch_budget(self) -> None:
        """An agent that goes on after the gateway has refused it would only wait for its time to run out."""
        if self._settings.agent_budget_usd is not None and self._step.journal.budget_refused():
            self._agent_control.exit_within(_BUDGET_GRACE_SECONDS, ExitReason.STOPPED)

    def _watch(self, place: Place, done: threading.Event) -> None:
        inspector = Inspector(self._step.parts.git, self._step.plan, place)
        seen: SandboxState | None = None
        since = time.monotonic()
        while not done.wait(_WATCH_SECONDS):
            if time.monotonic() - since > _START_SECONDS:
                self._started()
            try:
                self._watch_budget()
                state = place.sandbox.get_current_state()
                before, seen = seen, state
                if before is not None and state.expires_at != before.expires_at:
                    self._step.journal.update_order(sandbox_expires_at=state.expires_at)
                unmoved = before is not None and state.change_marker == before.change_marker
                if unmoved or self._step.control.cause is not None:
                    continue
                if (head := self._workplace.take_commits(place)) is not None:
                    self._step.journal.record_statistics(self._step.plan.phase, inspector.progress(head))
            except ExpectedError as error:  # a half-written commit, say; the step's end inspects for good
                self._step.log.warning("git_progress_unreadable", error=str(error))
            except LeaseLost:
                return
