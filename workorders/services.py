"""The only write path of the web side: page, API, webhook, admin and command call these functions.

Each is one transaction: row, history, log entry and queued ticket. No process is started here and nothing
outside the database is asked.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from github_app.models import Repository
from github_app.references import ReferenceInvalid, RepositoryReference, parse_repository_reference
from github_app.types import GitHubRepository
from sandboxes.kinds import UNAVAILABLE, SandboxType
from workorders import queue
from workorders.errors import ConflictError, IdempotencyConflict, InvalidInput, WorkOrderNotFound
from workorders.models import AgentPrompt, AgentWorkOrder, IdempotencyRecord, WorkOrderTransition
from workorders.models.agent_work_order import new_agent_work_order_id
from workorders.models.logs import record_order_event
from workorders.progress import known_id
from workorders.states import ACTIVE, RETRYABLE, AgentWorkOrderStatus
from workorders.workflow_definitions import AgentWorkflowType

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NewWorkOrder:
    """A checked request; `base_branch` and `model` are empty for the repository's or the server's default.

    `repository_url` is shown back as the person wrote it, where that was a URL; nothing is fetched from it.
    """

    repository: RepositoryReference
    sandbox_type: SandboxType
    workflow_type: AgentWorkflowType
    github_issue_number: str | None = None
    initial_prompt: str = ""
    base_branch: str = ""
    model: str = ""
    repository_url: str = ""


def parse_repository(text: str) -> RepositoryReference:
    """A repository as people write it. Raises `InvalidInput`."""
    try:
        return parse_repository_reference(
            text,
            github_host=settings.WORKORDERS_GITHUB_HOST,
            allow_local=settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES,
        )
    except ReferenceInvalid as error:
        raise InvalidInput("repository_url", str(error)) from error


def require_available_sandbox(sandbox_type: SandboxType) -> None:
    """Raises `InvalidInput` naming what is missing where this server cannot run such sandboxes."""
    if (setting := UNAVAILABLE.get(sandbox_type)) is not None:
        raise InvalidInput(
            "sandbox_type",
            f"{sandbox_type} is not configured on this server (it needs {setting}); "
            "choose git_branch or git_worktree.",
        )


def create_agent_work_order(
    *, request: NewWorkOrder, by: str, user: AbstractBaseUser | None = None
) -> AgentWorkOrder:
    """Accept a request: the order's row, its first log entry and a ticket. Raises `InvalidInput`."""
    require_available_sandbox(request.sandbox_type)
    if request.github_issue_number and request.repository.is_local:
        raise InvalidInput("github_issue_number", "A local repository has no GitHub issues.")
    with transaction.atomic():
        repository = _repository_row(request.repository)
        order = AgentWorkOrder(
            agent_work_order_id=new_agent_work_order_id(),
            repository=repository,
            repository_url=request.repository_url or request.repository.repository_url,
            sandbox_type=request.sandbox_type,
            workflow_type=request.workflow_type,
            github_issue_number=request.github_issue_number,
            initial_prompt=request.initial_prompt,
            base_branch=request.base_branch or repository.default_base_branch,
            model=request.model or repository.default_model,
            created_by_id=user.pk if user else None,
            claimable_at=timezone.now(),
        )
        issue = f"issue-{order.github_issue_number}-" if order.github_issue_number else ""
        order.git_branch_name = f"feat-{issue}{order.agent_work_order_id}"
        order.save(force_insert=True)
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
    """Queue a follow-up: after the running step, or at once on a finished order. Raises `ConflictError`."""
    if not prompt_text.strip():
        raise InvalidInput("prompt_text", "The prompt is empty.")
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if order.cancel_requested_at and order.status in ACTIVE:
            raise ConflictError("The work order is being cancelled; it takes no more prompts.")
        if order.status in RETRYABLE and not order.head_sha:
            raise ConflictError(
                f"The work order {order.status} before it had a commit to follow up on; retry it instead."
            )
        prompt = AgentPrompt.objects.create(agent_work_order=order, prompt_text=prompt_text, by=by)
        record_order_event(order, "agent_prompt_queued", prompt_text=prompt_text[:2000], by=by)
        if order.status not in ACTIVE:
            _reopen(order, by=by, reason="follow-up prompt")
    return prompt


def cancel_agent_work_order(*, agent_work_order_id: str, by: str) -> AgentWorkOrder:
    """Cancel now where nothing runs, else ask the worker, which ends the agent first. Raises `ConflictError`."""
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if order.status not in ACTIVE:
            raise ConflictError(f"The work order is already {order.status}.")
        if order.cancel_requested_at is None:
            AgentWorkOrder.objects.filter(pk=order.pk).update(
                cancel_requested_at=timezone.now(), version=F("version") + 1, updated_at=timezone.now()
            )
            record_order_event(order, "agent_work_order_cancel_requested", by=by)
            order.refresh_from_db()
        if not order.claim_owner:
            order.finish_cancelled(by=by)
    return order


def retry_agent_work_order(*, agent_work_order_id: str, by: str) -> AgentWorkOrder:
    """Continue a failed or cancelled order from its first unfinished phase. Raises `ConflictError`."""
    with transaction.atomic():
        order = _locked(agent_work_order_id)
        if order.status not in RETRYABLE:
            raise ConflictError(
                f"The work order is {order.status}; only failed or cancelled ones can be retried."
            )
        _reopen(order, by=by, reason="retry")
        record_order_event(order, "agent_work_order_retried", by=by)
    return order


def record_repository_verification(
    reference: RepositoryReference, *, found: GitHubRepository | None, error_message: str = ""
) -> Repository:
    """Keep what a verification found, or why it failed."""
    with transaction.atomic():
        row = _repository_row(reference)
        changes: dict[str, Any] = {
            "verification_error": error_message,
            "is_accessible": False,
            "can_push": False,
        }
        if found is not None:
            changes = {
                "verification_error": error_message,
                "is_accessible": found.is_accessible,
                "can_push": found.can_push,
                "is_private": found.is_private,
                "default_branch": found.default_branch,
                "access_verified_at": timezone.now(),
            }
        Repository.objects.filter(pk=row.pk).update(**changes, updated_at=timezone.now())
        row.refresh_from_db()
    logger.info(
        "github_repository_verified", repository_url=reference.repository_url, is_accessible=row.is_accessible
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


def _repository_row(reference: RepositoryReference) -> Repository:
    """The repository's one row, made on first mention; GitHub ignores case in names, and so do we."""
    if reference.is_local:
        same = {"repository_url": reference.repository_url}
    else:
        same = {
            "host__iexact": reference.host,
            "owner__iexact": reference.owner,
            "name__iexact": reference.name,
        }
    row, _created = Repository.objects.get_or_create(
        **same,
        defaults={
            "repository_url": reference.repository_url,
            "host": reference.host,
            "owner": reference.owner,
            "name": reference.name,
        },
    )
    return row


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
    order.move(
        AgentWorkOrderStatus.PENDING,
        by=by,
        reason=reason,
        claimable_at=timezone.now(),
        cancel_requested_at=None,
        error_message=None,
        error_category=None,
        error_advice=None,
        outcome=None,
        execution_completed_at=None,
    )
    queue.issue_ticket()
