"""The moves of follow-up prompts: each is said in the order's log, so that none is lost without a word.

Inside the transaction that moves the order.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.db.models.functions import Now

from workorders.domain.states import (
    PROMPT_DROPPED_WORDS,
    PROMPT_TO_DO,
    RESUMED_BY_RETRY,
    PromptDropped,
    PromptStatus,
)
from workorders.models.logs import record_order_event
from workorders.models.prompt import AgentPrompt

if TYPE_CHECKING:
    from workorders.models.agent_work_order import AgentWorkOrder

_SHOWN_CHARACTERS = 2000


def finish_prompt(order: "AgentWorkOrder", prompt_pk: int) -> None:
    """Its step has ended well."""
    prompt = AgentPrompt.objects.get(pk=prompt_pk)
    AgentPrompt.objects.filter(pk=prompt_pk).update(
        status=PromptStatus.DONE, dropped_because="", ended_at=Now()
    )
    record_order_event(order, "agent_prompt_completed", prompt_id=prompt.pk, **_text(prompt))


def drop_prompts(order: "AgentWorkOrder", reason: PromptDropped, only: Iterable[int] | None = None) -> None:
    """Those that are still to be done, or of these `only` some."""
    rows = AgentPrompt.objects.filter(agent_work_order=order.pk, status__in=PROMPT_TO_DO)
    _drop(order, list((rows if only is None else rows.filter(pk__in=only)).order_by("pk")), reason)


def replace_prompts(order: "AgentWorkOrder") -> None:
    """A finished order gets a new prompt instead of a retry: what was dropped at its end stays so."""
    _drop(order, list(_resumable(order)), PromptDropped.REPLACED)


def _drop(order: "AgentWorkOrder", prompts: list[AgentPrompt], reason: PromptDropped) -> None:
    for prompt in prompts:
        AgentPrompt.objects.filter(pk=prompt.pk).update(
            status=PromptStatus.DROPPED, dropped_because=reason, ended_at=Now()
        )
        record_order_event(
            order,
            "agent_prompt_dropped",
            level="warning",
            prompt_id=prompt.pk,
            reason=reason,
            note=PROMPT_DROPPED_WORDS[reason],
            **_text(prompt),
        )


def requeue_prompts(order: "AgentWorkOrder", by: str) -> None:
    """A retry does what its last end left undone."""
    for prompt in list(_resumable(order)):
        AgentPrompt.objects.filter(pk=prompt.pk).update(
            status=PromptStatus.QUEUED, dropped_because="", ended_at=None
        )
        record_order_event(order, "agent_prompt_requeued", prompt_id=prompt.pk, by=by, **_text(prompt))


def _resumable(order: "AgentWorkOrder") -> Iterable[AgentPrompt]:
    rows = AgentPrompt.objects.filter(
        agent_work_order=order.pk, status=PromptStatus.DROPPED, dropped_because__in=RESUMED_BY_RETRY
    )
    return rows.order_by("pk")


def _text(prompt: AgentPrompt) -> dict[str, str]:
    return {"prompt_text": prompt.prompt_text[:_SHOWN_CHARACTERS]}
