"""The rows of what a step does outside: planned before, sent when asked for, confirmed when seen.

An answer that was lost leaves `unknown`: whoever comes next looks for the thing, with patience, before it asks
again. Nothing is asked for once a cancel was acknowledged. Every write is fenced by the step's claim.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import F

from github_app.errors import GitHubError, may_be_done
from sandboxes.errors import ExpectedError
from workorders.domain.errors import PullRequestLeftOpen
from workorders.domain.states import WITHDRAWAL_OWED, EffectKind, EffectState
from workorders.models import AgentWorkOrder, OutsideEffect
from workorders.models.clock import database_now
from workorders.models.effect import open_pull_requests
from workorders.workflow_engine.outward import withdrawals
from workorders.workflow_engine.record.journal import StepJournal


@dataclass(frozen=True)
class Effect:
    """One row as it was read. `number` and `address` are GitHub's, where it is known.

    `as_draft`: a pull request that we asked for as a draft, because the order's tests failed.
    """

    pk: int
    kind: EffectKind
    key: str
    state: EffectState
    number: int | None
    address: str
    as_draft: bool = False

    @property
    def was_asked_for(self) -> bool:
        """Its answer was lost, or the worker with it, or it was not taken back yet."""
        return self.state in {EffectState.SENT, EffectState.UNKNOWN, *WITHDRAWAL_OWED}

    @property
    def was_cancelled(self) -> bool:
        """We closed it, or may have: not a person."""
        return self.state in {EffectState.UNDONE, *WITHDRAWAL_OWED}


class EffectLedger:
    """The effects of one claimed order."""

    def __init__(self, journal: StepJournal) -> None:
        self._journal = journal

    def plan(self, kind: EffectKind, key: str) -> Effect:
        """The row of the one thing of this name, made where it is new."""

        def write(order: AgentWorkOrder) -> Effect:
            row, _created = OutsideEffect.objects.get_or_create(agent_work_order=order, kind=kind, key=key)
            return _value(row)

        return self._journal.fenced(write)

    def plan_pull_request(self, branch: str, *, number: int | None, after: int | None) -> Effect:
        """The row of the order's present pull request; another one after each that was merged, or stays closed.

        `number`: GitHub's of the present one, where it is known. `after`: that of the one that takes no more.
        """

        def write(order: AgentWorkOrder) -> Effect:
            rows = OutsideEffect.objects.filter(agent_work_order=order, kind=EffectKind.PULL_REQUEST)
            row = None if after or not number else rows.filter(number=number).order_by("-pk").first()
            if row is None:
                key = f"{branch} after #{after}" if after else branch
                row, _created = OutsideEffect.objects.get_or_create(
                    agent_work_order=order, kind=EffectKind.PULL_REQUEST, key=key
                )
            return _value(row)

        return self._journal.fenced(write)

    def send(self, effect: Effect, **columns: Any) -> bool:
        """Note that it is being asked for; False where a cancel was acknowledged first, so that it must not be.

        `columns` of its row are written along.
        """

        def write(order: AgentWorkOrder) -> bool:
            if order.cancel_requested_at is not None:
                return False
            OutsideEffect.objects.filter(pk=effect.pk).update(
                state=EffectState.SENT,
                settled=False,
                sent_at=database_now(),
                requests=F("requests") + 1,
                **columns,
            )
            return True

        return self._journal.fenced(write)

    def confirm(
        self, effect: Effect, *, number: int | None = None, address: str = "", **order_changes: Any
    ) -> None:
        """It was seen. `order_changes` are written to the order in the same transaction."""

        def write(_order: AgentWorkOrder) -> None:
            OutsideEffect.objects.filter(pk=effect.pk).update(
                state=EffectState.CONFIRMED, confirmed_at=database_now(), number=number, address=address[:500]
            )
            if order_changes:
                self._journal.claim.write(**order_changes)

        self._journal.fenced(write)

    def fail(self, effect: Effect, error: GitHubError) -> None:
        """What came back instead of it: an answer that says no, or nothing that says whether it was done."""
        state = EffectState.UNKNOWN if may_be_done(error) else EffectState.PLANNED
        rows = OutsideEffect.objects.filter(pk=effect.pk, state=EffectState.SENT)
        self._journal.fenced(lambda _order: rows.update(state=state))

    def open_pull_requests(self) -> tuple[Effect, ...]:
        """Those that a cancelled order has to take back."""
        return self._journal.fenced(lambda order: tuple(_value(row) for row in open_pull_requests(order)))

    def owe(self, effect: Effect, reason: ExpectedError | str) -> PullRequestLeftOpen:
        """It could not be taken back now; the order is cancelled all the same. What a person reads of it."""
        return self._journal.fenced(lambda order: withdrawals.owe(order.pk, effect.pk, reason, tries=1))

    def undo(self, effect: Effect) -> None:
        rows = OutsideEffect.objects.filter(pk=effect.pk)
        self._journal.fenced(lambda _order: rows.update(state=EffectState.UNDONE))


def asking[Answer](ledger: EffectLedger, effect: Effect, ask: Callable[[], Answer]) -> Answer:
    """`ask()`, with what its failure means for the effect written down."""
    try:
        return ask()
    except GitHubError as error:
        ledger.fail(effect, error)
        raise


def _value(row: OutsideEffect) -> Effect:
    return Effect(
        row.pk, EffectKind(row.kind), row.key, EffectState(row.state), row.number, row.address, row.as_draft
    )
