"""How an order and what belongs to it are named and linked to; the same on every page."""

from dataclasses import dataclass
from urllib.parse import quote

from github_app.models import Repository
from workorders.domain.workflows import StepKind, steps_of
from workorders.models import AgentWorkOrder

TITLE_CHARACTERS = 120
SCANNED_CHARACTERS = 300  # of a text that may be long; lists fetch no more of it


@dataclass(frozen=True)
class Links:
    """Addresses outside, https all of them, '' where there is none."""

    repository: str = ""
    branch: str = ""
    issue: str = ""
    pull_request: str = ""


def order_title(issue_title: str, prompt: str, issue_number: str | None) -> str:
    """The issue's title, else the request's first line, as the pull request is named."""
    for text in (issue_title, prompt):
        for line in text[:SCANNED_CHARACTERS].splitlines():
            if words := line.strip().lstrip("#").strip():
                return words if len(words) <= TITLE_CHARACTERS else f"{words[: TITLE_CHARACTERS - 1]}…"
    return f"Issue #{issue_number}" if issue_number else "No request text"


def step_title(kind: str, phase: str, workflow_type: str, *, is_local: bool) -> str:
    """What pages call a step."""
    if kind == StepKind.FOLLOW_UP:
        return "Follow-up"
    if kind == StepKind.DELIVERY:
        return delivery_title(is_local=is_local)
    return next((step.title for step in steps_of(workflow_type) if step.phase == phase), phase)


def delivery_title(*, is_local: bool) -> str:
    return "Delivery" if is_local else "Pull request"


def links(row: AgentWorkOrder) -> Links:
    base = github_address(row.repository)
    pull_request = https_only(row.github_pull_request_url)
    if not base:
        return Links(pull_request=pull_request)
    issue = row.github_issue_number
    return Links(
        repository=base,
        branch=f"{base}/tree/{quote(row.git_branch_name)}" if row.head_sha else "",
        issue=f"{base}/issues/{quote(issue)}" if issue else "",
        pull_request=pull_request,
    )


def github_address(repository: Repository) -> str:
    if repository.is_local:
        return ""
    return f"https://{repository.host}/{quote(repository.owner)}/{quote(repository.name)}"


def https_only(url: str | None) -> str:
    return url if url and url.startswith("https://") else ""
