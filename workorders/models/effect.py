"""What the server does outside itself for an order: one row for each thing of which there must be one."""

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

from workorders.domain.states import MAY_BE_THERE, EffectKind, EffectState
from workorders.models.clock import database_now

if TYPE_CHECKING:
    from workorders.models.agent_work_order import AgentWorkOrder


class OutsideEffect(models.Model):
    """`key` tells it from others of its kind: a commit, a branch, a marker.

    `settled`: part of a delivery that completed; until then a cancelled order takes its pull request back.
    `number` and `address` are those GitHub gave it. `withdrawals`: how often it was tried to take it back;
    `withdraw_at`: when the next try is due, or the present one is over at the latest; empty while owed: a person must.
    """

    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="effects"
    )
    kind = models.CharField(max_length=20, choices=[(item.value, item.value) for item in EffectKind])
    key = models.CharField(max_length=200)
    state = models.CharField(
        max_length=10,
        choices=[(item.value, item.value) for item in EffectState],
        default=EffectState.PLANNED,
    )
    settled = models.BooleanField(default=False)
    requests = models.PositiveIntegerField(default=0, help_text="how often it was asked for")
    number = models.PositiveIntegerField(null=True, blank=True)
    as_draft = models.BooleanField(
        default=False, help_text="asked for as a draft, because the order's tests failed"
    )
    address = models.CharField(max_length=500, blank=True)
    planned_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    withdrawals = models.PositiveIntegerField(default=0)
    withdraw_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(
                fields=["withdraw_at"], name="effect_to_withdraw", condition=Q(withdraw_at__isnull=False)
            )
        ]
        constraints = [
            models.UniqueConstraint(fields=["agent_work_order", "kind", "key"], name="effect_once"),
            models.CheckConstraint(
                condition=Q(state__in=[item.value for item in EffectState]), name="effect_state_known"
            ),
            models.CheckConstraint(
                condition=Q(state="planned") | Q(sent_at__isnull=False) | Q(confirmed_at__isnull=False),
                name="effect_asked_for_has_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent_work_order_id} {self.kind} {self.key} {self.state}"


def open_pull_requests(order: "AgentWorkOrder") -> models.QuerySet[OutsideEffect]:
    """Those of a delivery under way that are there, or may be."""
    return OutsideEffect.objects.filter(
        agent_work_order=order.pk,
        kind=EffectKind.PULL_REQUEST,
        settled=False,
        state__in=sorted(MAY_BE_THERE),
    )


def is_being_withdrawn(order: "AgentWorkOrder") -> bool:
    """Whether GitHub is asked at this moment to close the order's pull request."""
    tried = open_pull_requests(order).filter(state=EffectState.UNDOING, withdraw_at__gt=database_now())
    return tried.exists()
