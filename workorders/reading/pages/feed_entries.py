"""What one log row says to people. Pure: a row in, a frozen entry out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.models import WorkOrderLog
from workorders.text.wording import counted

# Names of log events by who speaks; the rest is the server's.
# tests/reading/pages/test_detail.py holds them to the agent's.
AGENT_EVENTS = frozenset(
    f"agent_{kind}"
    for kind in ("session_started", "message", "api_retried", "result", "other", "unreadable", "truncated")
)
TOOL_EVENTS = frozenset({"agent_tool_called", "agent_tool_finished"})

# What the server's events say, filled from their fields; the others are shown by name with their fields.
_SENTENCES = {
    "agent_work_order_created": "Work order created by {by}",
    "agent_work_order_started": "Work started",
    "agent_work_order_retried": "Retried by {by}",
    "agent_work_order_cancel_requested": "Cancelled by {by}; ending the agent",
    "agent_work_order_cancelled": "Work order cancelled",
    "agent_work_order_completed": "Work order completed: {outcome}",
    "agent_work_order_failed": "Work order failed: {error}",
    "agent_work_order_approved": "{by} approved commit {git_commit_sha:.10}",
    "agent_work_order_continued": "{by} ended the wait",
    "agent_prompt_queued": "Prompt from {by}: {prompt_text}",
    "agent_prompt_completed": "Prompt done: {prompt_text:.200}",
    "agent_prompt_dropped": "Prompt dropped: {prompt_text:.200} ({note})",
    "agent_prompt_requeued": "Prompt queued again, as {by} retried: {prompt_text:.200}",
    "workflow_phase_transition": "From {from_phase} to {to_phase}",
    "workflow_phase_started": "{step} started, attempt {attempt}",
    "workflow_phase_completed": "{step} {status}: {commits} in {duration_seconds} s",
    "workflow_phase_failed": "{step} failed: {error}",
    "workflow_phase_retry_scheduled": "{step} is tried again in {delay_seconds} s",
    "workflow_step_waiting": "{step} waits: {message}",
    "workflow_step_put_back": "The worker stopped; {step} goes on elsewhere",
    "workflow_step_adopted": "{step} was found finished in git",
    "git_branch_created": "Branch {git_branch_name} from {base_branch}",
    "git_branch_followed": "Somebody else moved {git_branch_name} to {found_sha:.10} ({how}); work goes on from there",
    "git_branch_missed": "Somebody deleted {git_branch_name}; it comes back with the next commits on {start_sha:.10}",
    "git_branch_renewed": "The work so far was merged; what follows starts from {base_branch} at {start_sha:.10}",
    "git_branch_restored": "{git_branch_name} was deleted before it was delivered; it is back at {git_commit_sha:.10}",
    "git_branch_gone": "Somebody deleted {git_branch_name} while it was delivered",
    "git_base_branch_followed": "The base branch is {base_branch} now, no more {from_branch}",
    "git_commit_created": "Commit {git_commit_sha:.10}: {message}",
    "git_submodules_fetched": "Submodules fetched: {count}",
    "git_submodules_left_out": "Not fetched: {reason}",
    "git_lfs_objects_fetched": "Contents of Git LFS fetched: {files} files, {bytes} bytes",
    "git_lfs_objects_left_out": "Not fetched: {reason}",
    "git_lfs_objects_uploaded": "New contents of Git LFS uploaded: {count}",
    "git_mirror_repaired": "This host's copy of the repository was damaged; what the remote has was fetched again",
    "git_push_held": "Commit {git_commit_sha:.10} was not pushed: protected paths change",
    "git_push_blocked": "Commit {git_commit_sha:.10} was not pushed: {error}",
    "git_push_completed": "Pushed {git_commit_sha:.10} to {git_branch_name}",
    "sandbox_created": "Sandbox {sandbox_identifier} ready",
    "sandbox_command_executed": "{command} ended in the sandbox after {duration_seconds} s, exit code {exit_code}",
    "sandbox_cleanup_completed": "Sandbox {sandbox_identifier} removed",
    "agent_command_started": "Agent starts {command_name} with {model}",
    "agent_command_completed": "Agent done in {duration_seconds} s, {turns} turns",
    "agent_command_failed": "Agent failed: {error}",
    "agent_command_stopped": "The agent was stopped after {duration_seconds} s",
    "agent_exit_ignored": "{error}",
    "github_pull_request_created": "Pull request opened: {pull_request_url}",
    "github_pull_request_updated": "Pull request updated: {pull_request_url}",
    "github_pull_request_reopened": "Pull request opened again: {pull_request_url}",
    "github_pull_request_not_reopened": "{pull_request_url} cannot be opened again ({error}); another one is opened",
    "github_pull_request_not_a_draft": "Pull request left marked as ready, though {reason}: {pull_request_url}",
    "github_pull_request_left_closed": "Pull request left closed, as somebody closed it: {pull_request_url}",
    "github_pull_request_withdrawn": "Pull request closed, as the work order was cancelled: {pull_request_url}",
    "github_pull_request_not_withdrawn": "{error} {error_advice}",
    "github_pull_request_found": "Pull request found: {pull_request_url}",
    "github_issue_commented": "Commented on issue #{issue_number}: {comment_url}",
    "github_issue_read": "Read issue #{issue_number}: {title}",
    "github_issue_secret_withheld": "Issue #{issue_number} holds a secret of this server; the agent is not told it",  # nosec B105  # words
}
_LABELS = {
    "agent_message": "Agent",
    "agent_result": "Result",
    "agent_session_started": "Session",
    "agent_api_retried": "Model",
}
_DATA_CHARACTERS = 1500
_FIELDS_CHARACTERS = 400


@dataclass(frozen=True)
class FeedEntry:
    """`kind` is a filter's name; `text` what was said or done, `data` the tool's input, `mono`: it is code."""

    sequence: int
    at: datetime
    kind: str
    label: str
    text: str
    is_problem: bool
    mono: bool = False
    data: tuple[tuple[str, str], ...] = ()


class _Texts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def feed_entry(row: WorkOrderLog) -> FeedEntry:
    fields: Mapping[str, Any] = row.fields if isinstance(row.fields, dict) else {}
    is_problem = row.level in {"warning", "error", "critical"} or fields.get("is_error") is True
    if row.event in TOOL_EVENTS:
        return _tool_entry(row, fields, is_problem)
    if row.event in AGENT_EVENTS:
        label = _LABELS.get(row.event, row.event.removeprefix("agent_").replace("_", " ").capitalize())
        text = str(fields.get("summary") or "")
        return FeedEntry(row.sequence, row.timestamp, "agent", label, text, is_problem)
    return FeedEntry(
        row.sequence, row.timestamp, "server", "Server", _sentence(row.event, fields), is_problem
    )


def _tool_entry(row: WorkOrderLog, fields: Mapping[str, Any], is_problem: bool) -> FeedEntry:
    tool = str(fields.get("tool") or "tool")
    text = str(fields.get("summary") or "")
    is_call = row.event == "agent_tool_called"
    given = fields.get("input")
    data = given.items() if is_call and isinstance(given, dict) else ()
    return FeedEntry(
        sequence=row.sequence,
        at=row.timestamp,
        kind="tools",
        label=tool if is_call else f"{tool} {'failed' if is_problem else 'done'}",
        text=text.removeprefix(f"{tool}: ") if is_call else text,
        is_problem=is_problem,
        mono=True,
        data=tuple(
            (str(name), str(value)[:_DATA_CHARACTERS]) for name, value in data if str(value) not in text
        ),
    )


def _sentence(event: str, fields: Mapping[str, Any]) -> str:
    if event in _SENTENCES:
        said = {name: _said(name, fields[name]) for name in fields}
        return _SENTENCES[event].format_map(_Texts({**said, "step": _step(fields)}))
    told = ", ".join(f"{name} {value}" for name, value in fields.items() if value not in (None, ""))
    return f"{event.replace('_', ' ').capitalize()}{f': {told}' if told else ''}"[:_FIELDS_CHARACTERS]


def _step(fields: Mapping[str, Any]) -> str:
    """Whose doing it was; what release 0.1 logged has no kind, and names the phase alone."""
    match fields.get("kind"):
        case StepKind.DELIVERY:
            return "The delivery"
        case StepKind.FOLLOW_UP:
            return "The follow-up"
    phase = fields.get("phase")
    return next((f"Phase {phase}" for known in AgentWorkflowPhase if known == phase), "The step")


def _said(name: str, value: Any) -> str:
    if name == "commits" and isinstance(value, int):
        return counted(value, "commit")
    return str(value).replace("_", " ") if name in {"outcome", "status", "how"} else str(value)
