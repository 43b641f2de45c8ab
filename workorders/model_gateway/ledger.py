"""The gateway's books: whether a step's token counts now, and what was spent with it.

A token is worth nothing by itself: it counts while its run is open, its claim holds (a takeover raises the epoch)
and the lease has not run out, so every way a step can end makes it useless without anybody having to think of it.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from workorders.domain.states import PhaseRunStatus, UsageSource
from workorders.model_gateway.usage import Usage
from workorders.models import AgentWorkOrder, ModelAccess, ModelUsage, PhaseRun
from workorders.models.clock import database_now
from workorders.models.logs import record_order_event


@dataclass(frozen=True)
class Grant:
    """A token that counts: whose it is, what it may still cost and what was spent. Money in US dollars."""

    access_pk: int
    run_pk: int
    order_pk: int
    agent_work_order_id: str
    budget_usd: Decimal | None
    spent_usd: Decimal


@dataclass(frozen=True)
class Denial:
    """A token that does not count, and why, in words for whoever reads the agent's log."""

    reason: str
    known: bool


@dataclass(frozen=True)
class Spending:
    """What one answer cost; `cost_usd` is None where the model has no known price."""

    model: str
    usage: Usage
    cost_usd: Decimal | None
    estimated: bool = False
    requests: int = 1


class Ledger(Protocol):
    """Calls may wait for a database and raise its errors; the gateway makes them outside its event loop."""

    def find(self, token_hash: str) -> Grant | Denial: ...

    def record(self, grant: Grant, spending: Spending) -> None: ...

    def refuse_for_budget(self, grant: Grant) -> None: ...

    def note_error(self, grant: Grant, status: int, resets_in_seconds: float | None) -> None: ...

    def still_valid(self, access_pks: list[int]) -> set[int]: ...


class DatabaseLedger:
    """The ledger in the product's own tables; each method is one transaction."""

    def find(self, token_hash: str) -> Grant | Denial:
        now = database_now()
        row = (
            ModelAccess.objects.filter(token_hash=token_hash)
            .values_list(
                "pk",
                "phase_run_id",
                "agent_work_order_id",
                "agent_work_order__agent_work_order_id",
                "budget_usd",
                "phase_run__cost_usd",
                "phase_run__status",
                "claim_epoch",
                "agent_work_order__claim_epoch",
                "agent_work_order__lease_expires_at",
                "expires_at",
                "revoked_at",
            )
            .first()
        )
        if row is None:
            return Denial("this is no token of a step", known=False)
        grant = Grant(*row[:6])
        status, epoch, current_epoch, lease_until, expires_at, revoked_at = row[6:]
        if revoked_at is not None or status != PhaseRunStatus.RUNNING:
            return Denial("the step this token was made for has ended", known=True)
        if epoch != current_epoch or lease_until is None or lease_until <= now:
            return Denial("another worker has taken the step over", known=True)
        if expires_at <= now:
            return Denial("this step's token has expired", known=True)
        return grant

    def record(self, grant: Grant, spending: Spending) -> None:
        """Add to the run and its order, whoever holds the claim by now: what was spent is spent.

        An answer that was paid for ends what an earlier error said.
        """
        cost, usage = spending.cost_usd or Decimal(0), spending.usage
        complete = {} if spending.cost_usd is not None else {"cost_is_complete": False}
        with transaction.atomic():  # the order first, like every other writer
            run = PhaseRun.objects.filter(pk=grant.run_pk)
            order = AgentWorkOrder.objects.select_for_update().filter(pk=grant.order_pk)
            if not order.exists():
                return  # deleted meanwhile
            _forget_what_the_agent_said(grant)
            order.update(
                cost_usd=F("cost_usd") + cost,
                input_tokens=F("input_tokens") + usage.all_input,
                output_tokens=F("output_tokens") + usage.output,
                updated_at=timezone.now(),
                version=F("version") + 1,
                **complete,
            )
            run.update(
                cost_usd=F("cost_usd") + cost,
                input_tokens=F("input_tokens") + usage.all_input,
                output_tokens=F("output_tokens") + usage.output,
                usage_source=UsageSource.GATEWAY,
                **complete,
            )
            _add_to_model(grant.run_pk, spending)
            _forget_error(grant)

    def refuse_for_budget(self, grant: Grant) -> None:
        """Note it for the step's worker, and once in the order's log."""
        with transaction.atomic():
            order = AgentWorkOrder.objects.select_for_update().get(pk=grant.order_pk)
            first = ModelAccess.objects.filter(pk=grant.access_pk, budget_refused_at__isnull=True)
            if first.update(budget_refused_at=timezone.now()):
                record_order_event(
                    order,
                    "model_budget_exceeded",
                    level="warning",
                    budget_usd=float(grant.budget_usd or 0),
                    spent_usd=float(grant.spent_usd),
                )

    def note_error(self, grant: Grant, status: int, resets_in_seconds: float | None) -> None:
        until = None
        if resets_in_seconds is not None:
            until = database_now() + timedelta(seconds=resets_in_seconds)
        ModelAccess.objects.filter(pk=grant.access_pk).update(last_error_status=status, limit_resets_at=until)

    def still_valid(self, access_pks: list[int]) -> set[int]:
        """Those whose run is still open and claimed as it was."""
        now = database_now()
        rows = ModelAccess.objects.filter(
            pk__in=access_pks,
            revoked_at__isnull=True,
            expires_at__gt=now,
            phase_run__status=PhaseRunStatus.RUNNING,
            agent_work_order__claim_epoch=F("claim_epoch"),
            agent_work_order__lease_expires_at__gt=now,
        )
        return set(rows.values_list("pk", flat=True))


def _forget_what_the_agent_said(grant: Grant) -> None:
    """The worker may have been faster, and have taken the agent's own figures for want of ours."""
    said = PhaseRun.objects.filter(pk=grant.run_pk, usage_source=UsageSource.AGENT).first()
    if said is None:
        return
    AgentWorkOrder.objects.filter(pk=grant.order_pk).update(
        cost_usd=F("cost_usd") - said.cost_usd,
        input_tokens=F("input_tokens") - said.input_tokens,
        output_tokens=F("output_tokens") - said.output_tokens,
    )
    PhaseRun.objects.filter(pk=said.pk).update(cost_usd=0, input_tokens=0, output_tokens=0)


def _forget_error(grant: Grant) -> None:
    told = ModelAccess.objects.filter(pk=grant.access_pk, last_error_status__isnull=False)
    told.update(last_error_status=None, limit_resets_at=None)


def _add_to_model(run_pk: int, spending: Spending) -> None:
    usage = spending.usage
    rows = ModelUsage.objects.filter(phase_run_id=run_pk, model=spending.model)
    if not rows.exists():
        try:
            with transaction.atomic():
                ModelUsage.objects.create(
                    phase_run_id=run_pk, model=spending.model, updated_at=timezone.now()
                )
        except IntegrityError:  # another gateway's first answer came in between
            pass
    rows.update(
        requests=F("requests") + spending.requests,
        unpriced_requests=F("unpriced_requests") + (spending.requests if spending.cost_usd is None else 0),
        estimated_requests=F("estimated_requests") + (spending.requests if spending.estimated else 0),
        input_tokens=F("input_tokens") + usage.input,
        output_tokens=F("output_tokens") + usage.output,
        cache_read_tokens=F("cache_read_tokens") + usage.cache_read,
        cache_write_tokens=F("cache_write_tokens") + usage.cache_write + usage.cache_write_1h,
        web_searches=F("web_searches") + usage.web_searches,
        cost_usd=F("cost_usd") + (spending.cost_usd or Decimal(0)),
        updated_at=timezone.now(),
    )
