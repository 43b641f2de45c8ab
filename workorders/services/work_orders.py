"""The only write path of the web side: page, API, webhook, admin and command call these functions.

Each is one transaction: row, history, log entry and queued ticket. No process is started here and nothing
outside the database is asked.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import F, Max
from django.utils import timezone

from github_app.models import OpenIssue, Repository
from github_app.protected_paths import parse_patterns
from github_app.references import RepositoryReference
from github_app.submodule_addresses import parse_allowed
from github_app.types import GitHubIssue, GitHubRepository
from sandboxes.kinds import SandboxType
from workorders.domain.errors import (
    ConflictError,
    IdempotencyConflict,
    InvalidInput,
    RepositoryNotFound,
    WorkOrderNotFound,
)
from workorders.domain.states import (
    ACTIVE,
    BEING_DELIVERED,
    CONTENT_REFUSED,
    NEEDS_DECISION,
    PUSH_REFUSED,
    RETRYABLE,
    AgentWorkOrderStatus,
    WaitingReason,
)
from workorders.domain.workflows import AgentWorkflowType
from workorders.models import AgentPrompt, AgentWorkOrder, IdempotencyRecord, WorkOrderTransition
from workorders.models.agent_work_order import NOT_WAITING, new_agent_work_order_id
from workorders.models.clock import database_now
from workorders.models.effect import is_being_withdrawn, open_pull_requests
from workorders.models.logs import record_order_event
from workorders.models.prompt_moves import replace_prompts, requeue_prompts
from workorders.models.written_text import TextPart, keep_written, shown
from workorders.queueing import queue
from workorders.reading.progress import known_id
from workorders.repositories import github_limits
from workorders.repositories.pasted import parse_pasted
from workorders.repositories.questions import is_under_way
from workorders.repositories.rows import record_repository, repository_row
from workorders.text.held_secrets import require_no_secrets
from workorders.text.redaction import redact

logger = structlog.get_logger("workorders.services")  # the name in the logs of installations

VERIFY_TASK = "workorders.tasks.verify_repository"
ISSUES_TASK = "workorders.tasks.refresh_issues"


@dataclass(frozen=True)
class NewWorkOrder:
    """A checked request; `base_branch` and `model` are empty for the repository's or the server's default.

    `repository_url` is shown back as the person wrote it, where that was a URL; nothing is fetched from it.
    """

    repository: RepositoryReference
    sandbox_type: SandboxType
    workflow_type: AgentWorkflowType
    github_issue_number: str | None = None
    initial_prompt: str = field(default="", repr=False)
    base_branch: str = ""
    model: str = ""
    repository_url: str = ""


def parse_repository(text: str) -> RepositoryReference:
    """A repository as people write it, or a link to one of its pages. Raises `InvalidInput`."""
    return parse_pasted(text).repository


def require_available_sandbox(sandbox_type: SandboxType) -> None:
    """Raises `InvalidInput` naming what is missing where this server cannot run such sandboxes."""
    if setting := settings.WORKORDERS_SANDBOX_PROVIDERS.missing_setting(sandbox_type):
        raise InvalidInput(
            "sandbox_type",
            f"{sandbox_type} is not configured on this server (it needs {setting}); "
            "choose git_branch or git_worktree.",
        )


def require_acceptable(request: NewWorkOrder) -> None:
    """What a request's fields cannot tell each alone. Raises `InvalidInput`, before anything is stored."""
    require_no_secrets(
        initial_prompt=request.initial_prompt,
        repository_url=request.repository_url,
        base_branch=request.base_branch,
        model=request.model,
    )
    require_available_sandbox(request.sandbox_type)
    if request.github_issue_number and request.repository.is_local:
        raise InvalidInput("github_issue_number", "A local repository has no GitHub issues.")


def create_agent_work_order(
    *, request: NewWorkOrder, by: str, user: AbstractBaseUser | None = None
) -> AgentWorkOrder:
    """Accept a request: the order's row, its first log entry and a ticket. Raises `InvalidInput`."""
    require_acceptable(request)
    with transaction.atomic():
        repository = repository_row(request.repository)
        order = AgentWorkOrder(
            agent_work_order_id=new_agent_work_order_id(),
            repository=repository,
            repository_url=request.repository_url or request.repository.repository_url,
            sandbox_type=request.sandbox_type,
            workflow_type=request.workflow_type,
            github_issue_number=request.github_issue_number,
            initial_prompt=shown(request.initial_prompt),
            base_branch=request.base_branch or repository.default_base_branch,
            model=request.model or repository.default_model,
            created_by_id=user.pk if user else None,
            claimable_at=database_now(),
        )
        issue = f"issue-{order.github_issue_number}-" if order.github_issue_number else ""
        order.git_branch_name = f"feat-{issue}{order.agent_work_order_id}"
        order.save(force_insert=True)
        keep_written(order.pk, TextPart.INITIAL_PROMPT, request.initial_prompt)
        WorkOrderTransition.objects.create(agent_work_order=order, to_status=order.status, by=by)
        record_order_event(
            order,
            "agent_work_order_created",
            github_issue_number=order.github_issue_number,
            git_branch_name=order.git_branch_name,
            by=by,
        )
        queue.issue_ticket()
    order.log_sequence = 1
    return order


def get_agent_work_order(agent_work_order_id: str) -> AgentWorkOrder:
    """Raises `WorkOrderNotFound`."""
    order = AgentWorkOrder.objects.filter(agent_work_order_id=known_id(agent_work_order_id)).first()
    if order is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id[:40]!r}.")
    return order


def prompt_agent_work_order(*, agent_work_order_id: str, prompt_text: str, by: str) -> AgentPrompt:
    """Queue a follow-up: after the running step, or at once on a finished order.

    Raises `ConflictError`, and `InvalidInput` before anything is stored.
    """
    if not prompt_text.strip():
        raise InvalidInput("prompt_text", "The prompt is empty.")
    require_no_secrets(prompt_text=prompt_text)
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if order.cancel_requested_at and order.status in ACTIVE:
            raise ConflictError("The work order is being cancelled; it takes no more prompts.")
        if order.status in RETRYABLE and not order.has_commits and not _was_refused(order):
            words = "was cancelled" if order.status == AgentWorkOrderStatus.CANCELLED else "failed"
            raise ConflictError(
                f"The work order {words} before it had a commit to follow up on; retry it instead."
            )
        if order.status not in ACTIVE:
            replace_prompts(order)
        masked = shown(prompt_text)
        prompt = AgentPrompt.objects.create(agent_work_order=order, prompt_text=masked, by=by)
        keep_written(order.pk, TextPart.PROMPT_TEXT, prompt_text, prompt_pk=prompt.pk)
        record_order_event(
            order, "agent_prompt_queued", prompt_id=prompt.pk, prompt_text=masked[:2000], by=by
        )
        AgentWorkOrder.objects.filter(pk=order.pk).update(  # its prompts are part of it
            version=F("version") + 1, updated_at=timezone.now()
        )
        if order.waiting_reason == WaitingReason.APPROVAL_REQUIRED:
            _end_wait(order)  # the agent goes on from the commit that waited; what comes of it is asked anew
        if order.status not in ACTIVE:
            _reopen(order, by=by, reason="follow-up prompt")
    return prompt


def _was_refused(order: AgentWorkOrder) -> bool:
    """There were commits, but none could be pushed: what somebody asks now is how they can be."""
    return order.phase_runs.filter(error_category__in=sorted(CONTENT_REFUSED | PUSH_REFUSED)).exists()


def cancel_agent_work_order(*, agent_work_order_id: str, by: str) -> AgentWorkOrder:
    """Cancel now where nothing runs, else ask the worker, which ends the agent first. Raises `ConflictError`.

    Also raised in the moment between asking GitHub for the pull request and the order's completion: what this
    acknowledges leaves no pull request open.
    """
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if order.status not in ACTIVE:
            raise ConflictError(f"The work order is already {order.status}.")
        withdrawal = open_pull_requests(order)
        if order.cancel_requested_at is None:
            if _is_held(order) and withdrawal.filter(state__in=sorted(BEING_DELIVERED)).exists():
                raise ConflictError(
                    "The order's pull request is being opened at this moment, and the order completes; "
                    "close the pull request on GitHub instead."
                )
            AgentWorkOrder.objects.filter(pk=order.pk).update(
                cancel_requested_at=timezone.now(), version=F("version") + 1, updated_at=timezone.now()
            )
            record_order_event(order, "agent_work_order_cancel_requested", by=by)
            order.refresh_from_db()
        if not order.claim_owner:
            if not withdrawal.exists():
                order.finish_cancelled(by=by)
            else:  # a worker closes the pull request that may be there, and then says so
                AgentWorkOrder.objects.filter(pk=order.pk).update(**NOT_WAITING, claimable_at=database_now())
                order.refresh_from_db()
                queue.issue_ticket()
        queue.wake_supervisors()
    return order


def _is_held(order: AgentWorkOrder) -> bool:
    """A living worker has the order's step."""
    return order.lease_expires_at is not None and order.lease_expires_at > database_now()


def retry_agent_work_order(*, agent_work_order_id: str, by: str) -> AgentWorkOrder:
    """Continue a failed or cancelled order from what its end left undone: prompts, phases. Raises `ConflictError`."""
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if order.status not in RETRYABLE:
            raise ConflictError(
                f"The work order is {order.status}; only failed or cancelled ones can be retried."
            )
        _reopen(order, by=by, reason="retry")
        record_order_event(order, "agent_work_order_retried", by=by)
        requeue_prompts(order, by)
    return order


def continue_agent_work_order(*, agent_work_order_id: str, by: str) -> AgentWorkOrder:
    """End a wait before its time: the next step may be claimed now. Raises `ConflictError`."""
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if not order.waiting_reason:
            raise ConflictError("The work order is not waiting for anything.")
        if order.waiting_reason in NEEDS_DECISION:
            raise ConflictError("The work order waits for a decision: approve or reject it.")
        if order.waiting_reason == WaitingReason.GITHUB_RATE_LIMITED:
            github_limits.forget(order.repository.host)
        record_order_event(order, "agent_work_order_continued", waiting_reason=order.waiting_reason, by=by)
        _end_wait(order)
    return order


def approve_agent_work_order(*, agent_work_order_id: str, sha: str, by: str) -> AgentWorkOrder:
    """A person allows exactly this commit to be pushed, protected paths and all. Raises `ConflictError`."""
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if order.waiting_reason != WaitingReason.APPROVAL_REQUIRED:
            raise ConflictError("The work order does not wait for an approval.")
        if sha != order.approval_sha:
            raise ConflictError(
                f"The commit that waits is {order.approval_sha}, not the one you approved; look at it again."
            )
        record_order_event(
            order,
            "agent_work_order_approved",
            git_commit_sha=sha,
            paths=[item["path"] for item in order.approval_paths],
            by=by,
        )
        _end_wait(order, approved_sha=sha, approved_by=by[:150], approved_at=timezone.now())
    return order


def _end_wait(order: AgentWorkOrder, **changes: Any) -> None:
    """The next step may be claimed now."""
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        **NOT_WAITING,
        **changes,
        claimable_at=database_now(),
        version=F("version") + 1,
        updated_at=timezone.now(),
    )
    order.refresh_from_db()
    queue.issue_ticket()


def record_repository_verification(
    reference: RepositoryReference,
    *,
    found: GitHubRepository | None,
    error_message: str = "",
    unanswered: bool = False,
) -> Repository:
    """Keep what a verification found, or why it failed; the row follows the name that GitHub gives.

    `reference` is what GitHub was asked for. Where nothing answered, what was known before stays.
    """
    words = redact(error_message)
    if found is not None:
        row = record_repository(reference, found, verification_error=words, verification_unanswered=False)
    else:
        refused = {} if unanswered else {"is_accessible": False, "can_push": False}
        with transaction.atomic():
            row = repository_row(reference)
            _change_repository(
                row,
                verification_error=words,
                verification_unanswered=unanswered,
                verification_requested_at=None,
                **refused,
            )
    logger.info(
        "github_repository_verified", repository_url=row.repository_url, is_accessible=row.is_accessible
    )
    return row


def record_lost_repository(
    *, repository_pk: int, found: GitHubRepository | None, error_message: str = ""
) -> None:
    """What became of a repository whose name another one has: where it is now, or why it cannot be found."""
    words = redact(error_message)
    if found is not None:
        record_repository(parse_repository(found.repository_url), found, verification_error=words)
        return
    with transaction.atomic():
        row = _locked_repository(repository_pk)
        _change_repository(row, verification_error=words, verification_requested_at=None)


@dataclass(frozen=True)
class RepositoryDefaults:
    """What new orders of a repository start from; empty means the server's own."""

    sandbox_type: str = ""
    workflow_type: str = ""
    base_branch: str = ""
    model: str = ""


def connect_repository(*, reference: RepositoryReference, by: str) -> Repository:
    """The repository's row and a queued verification; connecting it again only verifies it again."""
    with transaction.atomic():
        return request_verification(repository_pk=repository_row(reference).pk, by=by)


def request_verification(*, repository_pk: int, by: str) -> Repository:
    """Ask a worker to verify the repository; asked a moment ago, it is not asked again."""
    with transaction.atomic():
        row = _locked_repository(repository_pk)
        if not is_under_way(row.verification_requested_at):
            _change_repository(row, verification_requested_at=timezone.now())
            queue.run_short_task(VERIFY_TASK, row.pk)
            logger.info("github_repository_verification_requested", repository_url=row.repository_url, by=by)
    return row


def request_issues(*, repository_pk: int) -> Repository:
    """Ask a worker to list the open issues; asked a moment ago, or for a local folder, it is not asked."""
    with transaction.atomic():
        row = _locked_repository(repository_pk)
        if not row.is_local and not is_under_way(row.issues_requested_at):
            _change_repository(row, issues_requested_at=timezone.now())
            queue.run_short_task(ISSUES_TASK, row.pk)
    return row


def record_open_issues(
    *, repository_pk: int, issues: Sequence[GitHubIssue] | None, error_message: str = ""
) -> None:
    """Keep the open issues as they are now, or why they could not be read (the old ones stay)."""
    with transaction.atomic():
        row = _locked_repository(repository_pk)
        changes: dict[str, Any] = {"issues_requested_at": None, "issues_error": redact(error_message)}
        if issues is not None:
            changes["issues_fetched_at"] = timezone.now()
            unique = {issue.issue_number: issue for issue in issues}.values()
            OpenIssue.objects.filter(repository=row).delete()
            OpenIssue.objects.bulk_create(
                OpenIssue(
                    repository=row,
                    position=position,
                    number=issue.issue_number,
                    title=redact(_storable(issue.issue_title))[:1000],
                    labels=[redact(_storable(label))[:100] for label in issue.issue_labels[:20]],
                )
                for position, issue in enumerate(unique)
            )
        _change_repository(row, **changes)


def update_repository_defaults(*, repository_pk: int, defaults: RepositoryDefaults, by: str) -> Repository:
    """Raises `InvalidInput` for a sandbox this server cannot run."""
    if defaults.sandbox_type:
        require_available_sandbox(SandboxType(defaults.sandbox_type))
    with transaction.atomic():
        row = _locked_repository(repository_pk)
        _change_repository(
            row,
            default_sandbox_type=defaults.sandbox_type,
            default_workflow_type=defaults.workflow_type,
            default_base_branch=defaults.base_branch,
            default_model=defaults.model,
        )
    logger.info("github_repository_defaults_updated", repository_url=row.repository_url, by=by)
    return row


def update_protected_paths(*, repository_pk: int, protected_paths: str, by: str) -> Repository:
    """Which changes of a repository's orders a person must approve; empty: none. Raises `InvalidInput`."""
    return _update_lines(repository_pk, "protected_paths", lambda: parse_patterns(protected_paths), by=by)


def update_submodules_allowed(*, repository_pk: int, submodules_allowed: str, by: str) -> Repository:
    """Which connected repositories this one's submodules may be read from with the server's credential; empty: none.

    Raises `InvalidInput`.
    """
    return _update_lines(
        repository_pk, "submodules_allowed", lambda: parse_allowed(submodules_allowed), by=by
    )


def _update_lines(pk: int, column: str, parse: Callable[[], Sequence[str]], *, by: str) -> Repository:
    """A repository's column that holds a value a line. `parse` raises `ValueError`, this `InvalidInput`."""
    try:
        lines = parse()
    except ValueError as error:
        raise InvalidInput(column, str(error)) from error
    with transaction.atomic():
        row = _locked_repository(pk)
        _change_repository(row, **{column: "\n".join(lines)})
    logger.info(
        f"github_repository_{column}_updated",
        repository_url=row.repository_url,
        by=by,
        **{column: list(lines)},
    )
    return row


@dataclass(frozen=True)
class Answer:
    """An HTTP answer worth repeating: status, JSON body, and whether this is a repeat."""

    status: int
    body: dict[str, Any]
    repeated: bool = False


def answer_once(*, endpoint: str, key: str, body: object, produce: Callable[[], Answer]) -> Answer:
    """`produce()` at most once for a key, also under concurrent repeats; then its first answer again.

    A failed `produce()` leaves the key unused. Raises `IdempotencyConflict` for the same key with another body.
    """
    if not key:
        return produce()
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()
    with transaction.atomic():
        try:
            with transaction.atomic():  # whoever inserts first answers; the others wait here for its commit
                record = IdempotencyRecord.objects.create(
                    endpoint=endpoint, key=key, body_sha256=digest, response_status=0, response_body={}
                )
        except IntegrityError:
            record = IdempotencyRecord.objects.get(endpoint=endpoint, key=key)
            if record.body_sha256 != digest:
                raise IdempotencyConflict(
                    "This Idempotency-Key was used with another request body."
                ) from None
            return Answer(record.response_status, record.response_body, repeated=True)
        answer = produce()
        IdempotencyRecord.objects.filter(pk=record.pk).update(
            response_status=answer.status, response_body=answer.body
        )
    return answer


def _locked_repository(repository_pk: int) -> Repository:
    row = Repository.objects.select_for_update().filter(pk=repository_pk).first()
    if row is None:
        raise RepositoryNotFound("There is no such repository.")
    return row


def _change_repository(row: Repository, **changes: Any) -> None:
    Repository.objects.filter(pk=row.pk).update(**changes, updated_at=timezone.now())
    row.refresh_from_db()


def _storable(text: str) -> str:
    """Without what one of the databases refuses: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _locked(agent_work_order_id: str) -> AgentWorkOrder:
    order = (
        AgentWorkOrder.objects.select_for_update()
        .filter(agent_work_order_id=known_id(agent_work_order_id))
        .first()
    )
    if order is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id[:40]!r}.")
    return order


def _reopen(order: AgentWorkOrder, *, by: str, reason: str) -> None:
    if is_being_withdrawn(order):
        raise ConflictError(
            "The order's pull request is being closed at this moment; try again in a few seconds."
        )
    order.move(
        AgentWorkOrderStatus.PENDING,
        by=by,
        reason=reason,
        attempts_from=order.phase_runs.aggregate(last=Max("sequence"))["last"] or 0,
        claimable_at=database_now(),
        cancel_requested_at=None,
        error_message=None,
        error_category=None,
        error_advice=None,
        outcome=None,
        execution_completed_at=None,
    )
    queue.issue_ticket()
