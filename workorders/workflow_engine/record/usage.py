"""What a step's agent may spend at the model, and what it did: the gateway's books, the run's row and the order's.

Each function is called inside a transaction of the step's journal, which holds the claim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from workorders.agents.base import AgentRunResult
from workorders.domain.states import UsageSource
from workorders.model_gateway.access import CredentialKind
from workorders.models import ModelAccess, PhaseRun, statements
from workorders.models.clock import database_now
from workorders.models.model_access import token_hash
from workorders.models.statements import Grown
from workorders.workflow_engine.claims.lease import Claim
from workorders.workflow_engine.planning.retries import RULES

_USAGE_COLUMNS = ("usage_source", "cost_usd", "cost_is_complete", "input_tokens", "output_tokens")


@dataclass(frozen=True)
class ModelGrant:
    """What a step's agent may hold to reach the model, what it may spend, and for how long."""

    kind: CredentialKind
    budget_usd: Decimal | None
    lifetime_seconds: float


@dataclass(frozen=True)
class RunUsage:
    """What an agent run cost and whose figures these are. `budget_refused`: the gateway has cut it off."""

    source: UsageSource = UsageSource.NONE
    cost_usd: Decimal = Decimal(0)
    cost_is_complete: bool = True
    input_tokens: int = 0
    output_tokens: int = 0
    budget_refused: bool = False


@dataclass(frozen=True)
class ModelError:
    """The model's last answer to a run, where that was an error; `resets_in_seconds` is None where it did not say."""

    status: int
    resets_in_seconds: float | None


def grant_access(claim: Claim, run_pk: int | None, access: ModelGrant, token: str) -> None:
    if statements.values(ModelAccess, {"phase_run": run_pk}, "pk"):
        return  # a commit whose acknowledgement was lost is asked for again
    now = database_now()
    granted = {
        "phase_run": run_pk,
        "agent_work_order": claim.pk,
        "token_hash": token_hash(token),
        "claim_epoch": claim.epoch,
        "budget_usd": access.budget_usd,
        "created_at": now,
        "expires_at": now + timedelta(seconds=access.lifetime_seconds),
    }
    statements.insert(ModelAccess, granted)


def is_refused(run_pk: int | None) -> bool:
    """Whether the gateway has refused the run's agent for its budget."""
    found = statements.values(ModelAccess, {"phase_run": run_pk}, "budget_refused_at")
    return bool(found) and found[0][0] is not None


def last_error(run_pk: int | None) -> ModelError | None:
    access = ModelAccess.objects.filter(phase_run=run_pk).first()
    if access is None or access.last_error_status is None:
        return None
    until = access.limit_resets_at
    return ModelError(access.last_error_status, (until - database_now()).total_seconds() if until else None)


def record_run(claim: Claim, which: Mapping[str, int], result: AgentRunResult) -> RunUsage:
    """Close the access and the agent's run, once; the figures are the gateway's where it has them.

    `which`: the columns that choose the step's run, if it still is this claim's. A run that the model's side did not
    serve is no attempt.
    """
    run = next(iter(statements.objects(PhaseRun, which, "pk", "agent_ran", *_USAGE_COLUMNS)), None)
    if run is None:
        return RunUsage()
    statements.update(ModelAccess, {"revoked_at": database_now()}, {"phase_run": run.pk})
    if not run.agent_ran:  # a commit whose acknowledgement was lost is asked for again
        served = result.failure is None or RULES[result.failure.category].waits is None
        is_metered = run.usage_source == UsageSource.GATEWAY
        of_run, of_order = ({}, {}) if is_metered else _as_the_agent_says(result)
        ended = {"agent_ran": True, "agent_session_id": result.session_id}
        statements.update(PhaseRun, {**ended, "result_text": result.result_text[:20_000], **of_run}, which)
        tried = {"attempts": Grown(1)} if served else {}
        claim.write(agent_session_id=result.session_id, **tried, **of_order)
        for column, value in of_run.items():
            setattr(run, column, value)
    return RunUsage(
        source=UsageSource(run.usage_source),
        cost_usd=run.cost_usd,
        cost_is_complete=run.cost_is_complete,
        input_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        budget_refused=is_refused(run.pk),
    )


def _as_the_agent_says(result: AgentRunResult) -> tuple[dict[str, Any], dict[str, Any]]:
    """Usage for the run and for the order: it spoke to no gateway, so nobody else knows."""
    cost = result.cost_usd or Decimal(0)
    tokens = {"input_tokens": result.input_tokens, "output_tokens": result.output_tokens}
    added = {column: Grown(value) for column, value in tokens.items()}
    reported = {"usage_is_reported": True} if cost or any(tokens.values()) else {}
    return (
        {**tokens, "cost_usd": cost, "usage_source": UsageSource.AGENT},
        {**reported, **added, **({"cost_usd": Grown(cost)} if cost else {})},
    )
