"""How the work order commands print: the API's JSON, or lines for people. Must not know how anything is done.

What comes from git, GitHub or an agent is stripped of terminal control characters before it is shown.
"""

import json
import unicodedata
from collections.abc import Iterator

from django.core.management.base import CommandError
from pydantic import BaseModel, ValidationError

from sandboxes.errors import ExpectedError
from workorders.domain.errors import RequestHoldsSecret
from workorders.domain.states import WAITING_WORDS
from workorders.reading.progress import WorkOrderSummary
from workorders.text.redaction import redact
from workorders.text.wording import counted


def _cost(order: WorkOrderSummary) -> str | None:
    words = f"{order.cost_usd:.4f} USD" if order.cost_usd else ""
    if not order.cost_is_complete:
        words = f"at least {words or 'something'} (a model's price is not known)"
    return f"{words} (as the agent says)" if words and order.usage_is_reported else words or None


def plain(text: str) -> str:
    """One line without secrets, and without control, bidirectional or other invisible characters."""
    return "".join(
        character if not unicodedata.category(character).startswith("C") else " "
        for character in redact(text)
    ).strip()


def as_json(value: BaseModel) -> str:
    return json.dumps(value.model_dump(mode="json"), indent=2)


def describe(order: WorkOrderSummary) -> str:
    """An order in lines of `name: value`, without what is not known yet."""
    changes = (
        f"{counted(order.git_files_changed, 'file')}, +{order.git_lines_added} −{order.git_lines_removed}"
    )
    lines = {
        "Work order": order.agent_work_order_id,
        "Status": f"{order.status}{f' ({order.outcome})' if order.outcome else ''}",
        "Phase": order.current_phase,
        "Waiting": waiting(order),
        "To approve": getattr(order, "approval_sha", None),
        "Repository": order.repository_url,
        "Workflow": f"{order.workflow_type} in {order.sandbox_type}",
        "Issue": order.github_issue_number and f"#{order.github_issue_number}",
        "Branch": order.git_branch_name,
        "Commits": f"{order.git_commit_count} ({changes})" if order.git_commit_count else None,
        "Pull request": order.github_pull_request_url,
        "Cost": _cost(order),
        "Created": order.created_at.isoformat(timespec="seconds"),
        "Error": order.error_message,
        "Advice": order.error_advice,
    }
    return "\n".join(f"{name + ':':<14} {plain(str(value))}" for name, value in lines.items() if value)


def waiting(order: WorkOrderSummary) -> str:
    """What an order waits for and until when; empty where it does not."""
    if order.waiting_reason is None:
        return ""
    until = order.waiting_until
    end = f"until {until.isoformat(timespec='seconds')}" if until else "until somebody acts"
    return f"{WAITING_WORDS[order.waiting_reason]}, {end}: {order.waiting_message or ''}".rstrip(": ")


def row(order: WorkOrderSummary) -> str:
    created = order.created_at.strftime("%Y-%m-%d %H:%M")
    return plain(
        f"{order.agent_work_order_id}  {order.status:<9}  {order.current_phase or '-':<12}  {created}  "
        f"{counted(order.git_commit_count, 'commit'):>11}  {order.repository_url}"
        f"{f'  (waiting {WAITING_WORDS[order.waiting_reason]})' if order.waiting_reason else ''}"
    )


def changes_between(before: WorkOrderSummary | None, now: WorkOrderSummary) -> Iterator[str]:
    """Lines for what a waiting person wants to know: status, phase, commits, pull request."""
    if before is None or before.status != now.status:
        yield f"status: {now.status}"
    if now.current_phase and (before is None or before.current_phase != now.current_phase):
        yield f"phase: {now.current_phase}"
    if now.waiting_reason and (before is None or before.waiting_until != now.waiting_until):
        yield f"waiting {plain(waiting(now))}"
    if now.git_commit_count and (before is None or before.git_commit_count != now.git_commit_count):
        yield f"commits: {now.git_commit_count}"
    if now.github_pull_request_url and (before is None or before.github_pull_request_url is None):
        yield f"pull request: {plain(now.github_pull_request_url)}"


def failure(error: ExpectedError) -> CommandError:
    """What happened, then what to do; what can only be sent anew, after a change, is one line and exit code 2."""
    if isinstance(error, RequestHoldsSecret):
        return CommandError(plain(f"{error.field}: {error}"), returncode=2)
    return CommandError(f"{plain(str(error))}\n{error.advice}")


def refusal(error: ValidationError) -> CommandError:
    """Which options were not acceptable, and why."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in problem["loc"]) or "request"
        lines.append(f"{name}: {plain(problem['msg'].removeprefix('Value error, '))}")
    return CommandError("\n".join(lines) + "\nCorrect the named options; --help explains them.")


def ending(order: WorkOrderSummary) -> CommandError:
    """Why a finished order did not complete, and what to do."""
    message = plain(order.error_message or "")
    text = f"{order.agent_work_order_id} {order.status}{': ' + message if message else '.'}"
    retry = f"Continue it with: manage.py retry_work_order {order.agent_work_order_id}"
    return CommandError("\n".join(part for part in (text, plain(order.error_advice or ""), retry) if part))
