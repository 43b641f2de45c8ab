"""What a claimed step is to do, as the order's rows describe it: a waiting prompt, a phase, or the delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from github_app.models import Repository
from sandboxes.sweep.rules import LeftOut, from_json
from workorders.domain.states import (
    CONTENT_REFUSED,
    PROMPT_TO_DO,
    STEP_DONE,
    EffectKind,
    EffectState,
    PhaseRunStatus,
    PromptStatus,
    WaitingReason,
)
from workorders.domain.workflows import (
    TEST,
    AgentWorkflowPhase,
    Step,
    StepKind,
    steps_of,
)
from workorders.models import (
    AgentPrompt,
    AgentWorkOrder,
    OutsideEffect,
    PhaseRun,
    WorkOrderCommit,
    statements,
)
from workorders.models.logs import order_context
from workorders.reading.left_out import counts
from workorders.reading.next_step import next_step
from workorders.workflow_engine.claims.lease import host_of
from workorders.workflow_engine.planning.phase_tracker import StepSpan

_GONE = (
    "None of that attempt's commits is on the branch any more, which is where it was before: do the work again, so "
    "that what is said here does not happen."
)


@dataclass(frozen=True)
class FollowUp:
    """A person's prompt that this step carries out; `text` as it is shown, the agent is told what was written."""

    pk: int
    text: str


@dataclass(frozen=True)
class StepPlan:
    """One step as the rows describe it when it is claimed; a snapshot, re-read for every claim.

    `attempt` counts failures and deaths of this step since the last retry, from 1; `previous_session_id` is
    the agent session of its earlier attempt (for a follow-up and the tests after it: the order's last one), and
    `session_host` where a run in it succeeded, '' where none did. `planned_sha` was inspected by an earlier attempt
    that may not have lived to push it, or to record it. `spans` are the runs so far. `cancels_lost` counts earlier
    claims that were only to cancel the order and did not come to that: their workers died, as far as can be told, for a
    cancel opens no run. `pushed_shas` the remote certainly had from us, `sent_shas` are those and what it may have.
    """

    order: AgentWorkOrder
    repository: Repository
    context: dict[str, Any]
    kind: StepKind
    phase: AgentWorkflowPhase
    step: Step | None
    follow_up: FollowUp | None
    attempt: int
    workers_lost: int
    waited: tuple[str, ...]
    previous_session_id: str
    session_host: str
    previous_failure: str
    previous_left_out: tuple[LeftOut, ...]
    left_undone: tuple[LeftOut, ...]
    planned_sha: str
    spans: tuple[StepSpan, ...]
    phase_start_sha: str
    so_far: tuple[str, ...]
    cancel_requested: bool
    cancels_lost: int
    runs: tuple[PhaseRun, ...]
    pushed_shas: tuple[str, ...] = ()
    sent_shas: frozenset[str] = frozenset()
    has_unsettled_push: bool = False
    tested_sha: str = ""
    tests_again: bool = False

    @property
    def precedes_delivery(self) -> bool:
        """Whether no agent follows on it, unless somebody asks for more; tests follow on what a follow-up changed."""
        steps = steps_of(self.order.workflow_type)
        if self.kind is StepKind.FOLLOW_UP:
            return TEST not in steps
        return self.phase == steps[-1].phase

    @property
    def delivered(self) -> bool:
        """A delivery came to its end before."""
        return self._last_delivery > 0

    @property
    def has_news(self) -> bool:
        """Something was pushed that no delivery has seen yet."""
        since = [run for run in self.runs if run.sequence > self._last_delivery]
        return (
            not self.delivered
            or self.has_unsettled_push
            or any(
                run.status in STEP_DONE and run.kind != StepKind.DELIVERY and run.start_sha != run.end_sha
                for run in since
            )
        )

    @property
    def _last_delivery(self) -> int:
        ended = (
            run.sequence for run in self.runs if run.kind == StepKind.DELIVERY and run.status in STEP_DONE
        )
        return max(ended, default=0)

    @property
    def is_settled(self) -> bool:
        """The last run ended well: the remote then had all of it."""
        return bool(self.runs) and self.runs[-1].status in STEP_DONE

    @property
    def failed_before(self) -> str:
        """The category of the last run's failure; '' where it did not fail. Interruptions do not matter."""
        ended = (run for run in reversed(self.runs) if run.status != PhaseRunStatus.INTERRUPTED)
        last = next(ended, None)
        return last.error_category if last is not None and last.status == PhaseRunStatus.FAILED else ""

    @property
    def tries(self) -> int:
        """What a retry rule counts: attempts that ended by themselves. A worker's death is not the step's failure."""
        return self.attempt - self.workers_lost


# A machine may be busy for ever, and an order that hangs its worker must still end.
EXCUSED_FOR_ONE = 2


def plan_step(order: AgentWorkOrder) -> StepPlan:
    """The next thing to do for an order, with all that a worker must know of it."""
    runs = tuple(statements.objects(PhaseRun, {"agent_work_order": order.pk}, order="sequence"))
    asked = _prompts_to_do(order)
    found = next_step(order, runs, is_asked=bool(asked))
    kind, phase, tested = found.kind, found.phase, found.tested
    prompt = asked[0] if kind is StepKind.FOLLOW_UP else None
    prompt_pk = prompt.pk if prompt else None
    same = [run for run in runs if (run.kind, run.phase, run.prompt_id) == (kind, phase, prompt_pk)]
    if kind is StepKind.DELIVERY:
        last_work = max((run.sequence for run in runs if run.kind != StepKind.DELIVERY), default=0)
        same = [run for run in same if run.sequence > last_work]
    elif found.tests_again:  # the runs before belong to what was tested then
        last_asked = max(run.sequence for run in runs if run.kind == StepKind.FOLLOW_UP)
        same = [run for run in same if run.sequence > last_asked]
    recent = [run for run in same if run.sequence > order.attempts_from]
    lost = sum(run.lost_its_worker for run in recent) + sum(run.excused for run in recent) // EXCUSED_FOR_ONE
    failures = sum(run.status == PhaseRunStatus.FAILED for run in recent)
    goes_on = (
        prompt is not None or found.tests_again
    )  # with what was said last, so that the session stays one
    in_session = [run for run in (runs if goes_on else same) if run.agent_session_id]
    failed = same[-1] if same and same[-1].status == PhaseRunStatus.FAILED else None
    if failed is not None and failed.error_category == "agent_session_unusable":
        in_session = []
    last = in_session[-1] if in_session else None
    pushes = _pushes(order) if runs else ()
    return StepPlan(
        order=order,
        repository=order.repository,
        context=order_context(order),
        kind=kind,
        phase=phase,
        step=found.step,
        follow_up=FollowUp(prompt.pk, prompt.prompt_text) if prompt else None,
        attempt=failures + lost + 1,
        workers_lost=lost,
        waited=_waited(recent),
        previous_session_id=last.agent_session_id if last else "",
        session_host=host_of(last.worker) if last and last.status in STEP_DONE else "",
        previous_failure=_told(failed, () if prompt else asked),
        previous_left_out=from_json(failed.left_out) if failed is not None else (),
        left_undone=_left_undone(runs),
        planned_sha=_planned_sha(same),
        spans=spans_of(runs),
        phase_start_sha=next((run.start_sha for run in same if run.start_sha), ""),
        so_far=_so_far(order) if runs and kind is not StepKind.DELIVERY else (),
        cancel_requested=order.cancel_requested_at is not None,
        cancels_lost=order.cancel_claims,
        runs=runs,
        pushed_shas=tuple(sha for sha, state, _settled in pushes if state == EffectState.CONFIRMED),
        sent_shas=frozenset(sha for sha, state, _settled in pushes if state != EffectState.PLANNED),
        has_unsettled_push=any(
            state == EffectState.CONFIRMED and not settled for _sha, state, settled in pushes
        ),
        tested_sha=tested.end_sha if tested else "",
        tests_again=found.tests_again,
    )


def _told(failed: PhaseRun | None, asked: Sequence[AgentPrompt]) -> str:
    """What the step's agent hears of its failure, and what people said to that while nothing is pushed."""
    if failed is None:
        return ""
    words = [failed.error_message]
    if failed.error_category in CONTENT_REFUSED:
        words.append(_GONE)
        words += [f"Since then somebody asked: {prompt.prompt_text}" for prompt in asked]
    return "\n\n".join(words)


def _prompts_to_do(order: AgentWorkOrder) -> list[AgentPrompt]:
    """The oldest first; one that was asked for while a commit waits goes before those."""
    to_do = [
        prompt
        for status in PROMPT_TO_DO
        for prompt in statements.objects(AgentPrompt, {"agent_work_order": order.pk, "status": status})
    ]
    to_do.sort(key=lambda prompt: prompt.pk)
    if order.approval_sha and order.approval_sha != order.approved_sha:
        to_do.sort(key=lambda prompt: (prompt.status != PromptStatus.QUEUED, prompt.pk))
    return to_do


def _pushes(order: AgentWorkOrder) -> tuple[tuple[str, str, bool], ...]:
    which = {"agent_work_order": order.pk, "kind": EffectKind.PUSH}
    found = statements.values(OutsideEffect, which, "key", "state", "settled", order="pk")
    return tuple((key, state, settled) for key, state, settled in found)


def _so_far(order: AgentWorkOrder) -> tuple[str, ...]:
    """The newest commits, oldest first, a line each."""
    which = {"agent_work_order": order.pk}
    newest = statements.values(WorkOrderCommit, which, "sha", "message", order="-position", limit=50)
    lines = [f"{sha[:12]} {message.splitlines()[0][:200] if message else ''}" for sha, message in newest]
    return tuple(reversed(lines))


def spans_of(runs: tuple[PhaseRun, ...]) -> tuple[StepSpan, ...]:
    return tuple(
        StepSpan(AgentWorkflowPhase(run.phase), run.start_sha, run.end_sha)
        for run in runs
        if run.start_sha and run.end_sha and run.kind != StepKind.DELIVERY
    )


def _left_undone(runs: tuple[PhaseRun, ...]) -> tuple[LeftOut, ...]:
    """What the last step that ended well left out of git, as far as it was somebody's work."""
    worked = [run for run in runs if run.kind != StepKind.DELIVERY and counts(run)]
    return tuple(item for item in from_json(worked[-1].left_out) if item.is_work) if worked else ()


def _planned_sha(same: list[PhaseRun]) -> str:
    """The newest inspected commit of a step not done yet; a later attempt may have died before it came so far."""
    if not same or same[-1].status in STEP_DONE:
        return ""
    return next((run.planned_sha for run in reversed(same) if run.planned_sha), "")


def _waited(runs: list[PhaseRun]) -> tuple[str, ...]:
    """What the step waited for since it last ended in another way; a shutdown in between does not matter."""
    reasons: list[str] = []
    for run in reversed(runs):
        if run.status != PhaseRunStatus.INTERRUPTED:
            break
        if run.error_category in set(WaitingReason):
            reasons.insert(0, run.error_category)
    return tuple(reasons)
