"""Runs one agent in a sandbox and says how it ended.

The only module of this package that does something. It takes a place to work and a way to stop; it must not
know which sandbox that is, what a work order is, or where events are stored. That an agent ended well proves
nothing about its work: git does.
"""

import re
import time
from collections.abc import Callable

from sandboxes.base import AgentSandbox, SandboxCommand
from sandboxes.errors import ProgramMissing
from sandboxes.processes.run import ExitReason, ProcessControl
from workorders.agents.base import (
    STDERR_TAIL_BYTES,
    AgentEvent,
    AgentFailure,
    AgentRequest,
    AgentRunResult,
    clean_text,
)
from workorders.agents.base import AgentFailureCategory as Category
from workorders.agents.claude_code.command import build_agent_command
from workorders.agents.claude_code.failures import Ending, classify, failure_of
from workorders.agents.claude_code.stream import ResponseParser

_REFUSED_RETRIES = 3
_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def execute_agent_command(
    sandbox: AgentSandbox,
    request: AgentRequest,
    *,
    control: ProcessControl,
    on_event: Callable[[AgentEvent], None],
) -> AgentRunResult:
    """Run the agent to its end, hand over each event as it comes, and classify how it ended.

    `on_event` is called in this thread. Never raises for what the agent does; a `SandboxError` of the place
    itself and whatever `on_event` raises pass through (the agent is ended before that).
    """
    command = build_agent_command(request)
    watch = _Watch(request, control, on_event)
    started = time.monotonic()
    try:
        outcome = sandbox.execute_command(
            SandboxCommand(
                argv=command.argv,
                timeout_seconds=request.timeout_seconds,
                environment=command.environment,
                secrets=request.secrets,
                stdin=command.stdin,
                silence_seconds=request.silence_seconds,
                program_folders=request.program_folders,
            ),
            control=control,
            on_stdout=watch.receive,
        )
    except ProgramMissing as error:
        failure = failure_of(Category.MISSING, str(error))
        return _run_result(request, watch.parser, failure, None, time.monotonic() - started, "")
    watch.finish(outcome.stdout)
    stderr = _stderr_tail(outcome.stderr)
    failure_found = classify(Ending(outcome, watch.parser.result, watch.parser, stderr))
    watch.parser.truncated = watch.parser.truncated or outcome.truncated
    return _run_result(
        request, watch.parser, failure_found, outcome.exit_code, outcome.duration_seconds, stderr
    )


class _Watch:
    """Listens to the output: passes events on, and arms the clocks that only the output can start."""

    def __init__(
        self, request: AgentRequest, control: ProcessControl, on_event: Callable[[AgentEvent], None]
    ) -> None:
        self.parser = ResponseParser()
        self._request, self._control, self._on_event = request, control, on_event
        self._received = False
        self._progress = time.monotonic()

    def receive(self, chunk: bytes) -> None:
        self._received = True
        for event in self.parser.feed(chunk):
            self._handle(event)
        if self.parser.result is not None:  # the earliest deadline stays, so saying it again changes nothing
            self._control.exit_within(self._request.after_result_seconds, ExitReason.LINGERED)
        self._watch_retries()

    def finish(self, stdout: bytes) -> None:
        """The end of the output. A sandbox that cannot stream hands all of it over here."""
        if not self._received and stdout:
            self.receive(stdout)
        for event in self.parser.finish():
            self._handle(event)

    def _handle(self, event: AgentEvent) -> None:
        if not self.parser.only_retrying:
            self._progress = time.monotonic()
        self._on_event(event)

    def _watch_retries(self) -> None:
        """An agent that only reports retries is never silent, and yet nothing comes of it."""
        patience = self._request.silence_seconds
        if patience and self.parser.only_retrying and time.monotonic() - self._progress > patience:
            self._control.exit_within(0, ExitReason.SILENT)
        if self.parser.refused_retries >= _REFUSED_RETRIES:  # the CLI would ask eleven times, for minutes
            self._control.exit_within(0, ExitReason.SILENT)


def _stderr_tail(stderr: bytes) -> str:
    return clean_text(stderr[-STDERR_TAIL_BYTES:].decode("utf-8", "replace"), STDERR_TAIL_BYTES).strip()


def _session_id(reported: str, asked: str) -> str:
    """The agent's word counts only where it is a session id: it ends up in command lines and commits."""
    return reported if _SESSION_ID.fullmatch(reported) else asked


def _run_result(
    request: AgentRequest,
    parser: ResponseParser,
    failure: AgentFailure | None,
    exit_code: int | None,
    duration_seconds: float,
    stderr_tail: str,
) -> AgentRunResult:
    report = parser.result
    return AgentRunResult(
        succeeded=failure is None,
        failure=failure,
        session_id=_session_id(
            (report.session_id if report else "") or parser.session_id, request.session_id
        ),
        result_text=report.text if report else "",
        cost_usd=report.cost_usd if report else None,
        input_tokens=report.input_tokens if report else 0,
        output_tokens=report.output_tokens if report else 0,
        cache_read_tokens=report.cache_read_tokens if report else 0,
        cache_creation_tokens=report.cache_creation_tokens if report else 0,
        turns=report.turns if report else 0,
        permission_denials=report.permission_denials if report else 0,
        exit_code=exit_code,
        duration_seconds=duration_seconds,
        stderr_tail=stderr_tail,
        output_truncated=parser.truncated,
    )
