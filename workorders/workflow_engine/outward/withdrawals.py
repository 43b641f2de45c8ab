"""Pull requests of cancelled orders that could not be closed at once: owed, and tried again until GitHub lets us.

The order says so meanwhile (its `error_message`). A try is noted before GitHub is asked, so that no two ask at once and
one whose process dies is counted; to close what is closed already changes nothing.
"""

import time
from datetime import timedelta

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from github_app.errors import GitHubMoved, GitHubNotFound
from github_app.references import RepositoryReference
from sandboxes.errors import ExpectedError
from sandboxes.processes.run import finishing_within
from workorders.domain.errors import PullRequestLeftOpen
from workorders.domain.states import WITHDRAWAL_OWED, AgentWorkOrderStatus, EffectKind, EffectState
from workorders.models import AgentWorkOrder, OutsideEffect
from workorders.models.clock import database_now
from workorders.models.logs import record_order_event
from workorders.queueing import queue
from workorders.workflow_engine.parts.engine import EngineParts
from workorders.workflow_engine.planning.retries import TryAgain, decide

WITHDRAW_TASK = "workorders.tasks.withdraw_pull_requests"
_TRY_SECONDS = 20.0
_TRY_IS_OVER = timedelta(seconds=60)
_PASS_SECONDS = 120.0  # a short task may take five minutes


def owe(order_pk: int, effect_pk: int, reason: ExpectedError | str, *, tries: int) -> PullRequestLeftOpen:
    """After `tries`, from 1, in vain: when the next one is due, if any, and what the order says until then.

    Inside a transaction that holds the order's row. What a person reads of it is returned.
    """
    told = getattr(reason, "retry_after_seconds", None)
    error = PullRequestLeftOpen(f"The pull request may still be open: {reason}", retry_after_seconds=told)
    decision = decide(error, attempt=tries)
    due = None
    if isinstance(decision, TryAgain):
        due = database_now() + timedelta(seconds=decision.seconds)
    else:
        error.advice = f"The server has given up after {tries} tries: close it on GitHub, should it be there."
    OutsideEffect.objects.filter(pk=effect_pk).update(
        state=EffectState.OWED, withdraw_at=due, withdrawals=tries
    )
    _note(order_pk, str(error)[:4000], error.category, error.advice)
    return error


def _note(order_pk: int, message: str | None, category: str | None, advice: str | None) -> None:
    AgentWorkOrder.objects.filter(pk=order_pk).update(
        error_message=message,
        error_category=category,
        error_advice=advice,
        version=F("version") + 1,
        updated_at=timezone.now(),
    )


def take_back(parts: EngineParts, order: AgentWorkOrder, number: int | None) -> str:
    """Close the order's pull request where it is open; its address where this call closed it, else "".

    `number`: GitHub's, where it is known. Looked for under the name that the repository has by now. Raises
    `ExpectedError`.
    """
    row = order.repository
    reference = parts.parse_reference(row.repository_url)
    try:
        if row.replaced_at is None:
            return _take_back(parts, order, reference, number)
    except GitHubMoved as error:
        found = parts.repositories.verify_repository_access(reference, github_id=row.github_id)
        now = parts.parse_reference(found.repository_url)
        if now.full_name.lower() == reference.full_name.lower():
            raise error
    else:
        found = parts.repositories.verify_repository_access(
            reference, github_id=row.github_id, name_is_lost=True
        )
        now = parts.parse_reference(found.repository_url)
    return _take_back(parts, order, now, number)


def _take_back(
    parts: EngineParts, order: AgentWorkOrder, reference: RepositoryReference, number: int | None
) -> str:
    clients = parts.pull_requests
    if number is None:
        found = clients.find_pull_request_again(reference, order.git_branch_name)
    elif (found := clients.read_pull_request(reference, number)) is None:
        raise GitHubNotFound(f"GitHub does not show pull request #{number} to this account.")
    if found is None or found.state != "open":
        return ""
    if found.head_branch != order.git_branch_name:
        raise GitHubMoved(
            f"Pull request #{found.pull_request_number} of {reference.full_name} is not this order's: "
            "another repository seems to have the name now."
        )
    clients.update_pull_request(reference, found.pull_request_number, state="closed")
    return found.pull_request_url


def issue_missing_task() -> None:
    """Have a worker try those that are due, where it has nothing else waiting."""
    if _due().exists() and not queue.waiting_tickets():
        queue.run_short_task(WITHDRAW_TASK)


def withdraw_owed(parts: EngineParts) -> tuple[str, ...]:
    """Try those that are due, once each; the orders that owe nothing any more. Safe on any number of hosts."""
    deadline, settled = time.monotonic() + _PASS_SECONDS, []
    for order_pk, pk in list(_due().values_list("agent_work_order__pk", "pk")):
        if time.monotonic() > deadline:
            break
        if (effect := _begin(order_pk, pk)) is not None and _try(parts, effect):
            settled.append(effect.agent_work_order.agent_work_order_id)
    return tuple(settled)


def _due() -> QuerySet[OutsideEffect]:
    return OutsideEffect.objects.filter(
        kind=EffectKind.PULL_REQUEST,
        settled=False,
        state__in=sorted(WITHDRAWAL_OWED),
        withdraw_at__lte=database_now(),
        agent_work_order__status=AgentWorkOrderStatus.CANCELLED,
    ).order_by("withdraw_at", "pk")


def _begin(order_pk: int, pk: int) -> OutsideEffect | None:
    """Note the try, where it is still due."""
    with transaction.atomic():
        _lock(order_pk)
        effect = _due().select_related("agent_work_order__repository").filter(pk=pk).first()
        if effect is None:
            return None
        effect.state, effect.withdraw_at = EffectState.UNDOING, database_now() + _TRY_IS_OVER
        effect.withdrawals += 1
        effect.save(update_fields=["state", "withdraw_at", "withdrawals"])
        return effect


def _lock(order_pk: int) -> None:
    AgentWorkOrder.objects.select_for_update().filter(pk=order_pk).values_list("pk").first()


def _try(parts: EngineParts, effect: OutsideEffect) -> bool:
    """Whether nothing is owed any more."""
    url, failure = "", None
    try:
        with finishing_within(_TRY_SECONDS):
            url = take_back(parts, effect.agent_work_order, effect.number)
    except ExpectedError as error:
        failure = error
    with transaction.atomic():
        _lock(effect.agent_work_order_id)
        if not _is_ours(effect):
            return False
        if failure is None:
            _settle(effect, url)
        else:
            _owe_on(effect, failure)
    return failure is None


def _is_ours(effect: OutsideEffect) -> bool:
    """Whether the try did not take so long that another has begun, or that the order goes on."""
    return OutsideEffect.objects.filter(
        pk=effect.pk,
        state=EffectState.UNDOING,
        withdrawals=effect.withdrawals,
        agent_work_order__status=AgentWorkOrderStatus.CANCELLED,
    ).exists()


def _settle(effect: OutsideEffect, url: str) -> None:
    OutsideEffect.objects.filter(pk=effect.pk).update(state=EffectState.UNDONE, withdraw_at=None)
    _note(effect.agent_work_order_id, None, None, None)
    if url:
        record_order_event(effect.agent_work_order, "github_pull_request_withdrawn", pull_request_url=url)


def _owe_on(effect: OutsideEffect, failure: ExpectedError) -> None:
    error = owe(effect.agent_work_order_id, effect.pk, failure, tries=effect.withdrawals)
    if not OutsideEffect.objects.filter(pk=effect.pk, withdraw_at__isnull=False).exists():
        record_order_event(
            effect.agent_work_order,
            "github_pull_request_not_withdrawn",
            level="error",
            error=str(error)[:2000],
            error_advice=error.advice,
        )
