"""One attempt of one step: when, by whom, from which commit to which, and how it ended."""

from django.db import models
from django.db.models import Q

from workorders.domain.states import PhaseRunStatus, UsageSource
from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.models.fields import RedactedCharField, RedactedJSONField, RedactedTextField

WORKER_LOST = "worker_lost"
WORKER_REPLACED = "worker_replaced"
_ENDED_IN_ITS_HANDS = frozenset({WORKER_LOST, WORKER_REPLACED})
# What a worker leaves that dies: a run that is open when the next claim looks, which that claim then closes.
LOST_ITS_WORKER = Q(status=PhaseRunStatus.RUNNING) | Q(
    status=PhaseRunStatus.INTERRUPTED, error_category__in=sorted(_ENDED_IN_ITS_HANDS), excused=False
)


class PhaseRun(models.Model):
    """`planned_sha` is the inspected commit that is about to be pushed; `end_sha` what the remote then had."""

    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="phase_runs"
    )
    sequence = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=[(item.value, item.value) for item in StepKind])
    phase = models.CharField(max_length=20, choices=[(item.value, item.value) for item in AgentWorkflowPhase])
    attempt = models.PositiveIntegerField(help_text="counts from 1 for each step")
    claim_epoch = models.PositiveBigIntegerField()
    worker = models.CharField(max_length=100)
    status = models.CharField(
        max_length=20,
        choices=[(item.value, item.value) for item in PhaseRunStatus],
        default=PhaseRunStatus.RUNNING,
    )
    started_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)
    start_sha = models.CharField(max_length=64, blank=True)
    planned_sha = models.CharField(max_length=64, blank=True)
    end_sha = models.CharField(max_length=64, blank=True)
    sandbox_start_seconds = models.FloatField(
        null=True, blank=True, help_text="until its place to work was ready; empty: none was opened"
    )
    commits = models.PositiveIntegerField(
        default=0, help_text="its step's commits, of earlier attempts as well, when it was last seen"
    )
    agent_session_id = models.CharField(max_length=100, blank=True)
    agent_ran = models.BooleanField(default=False, help_text="its agent's cost is in the order's sum")
    prompt = models.ForeignKey(
        "workorders.AgentPrompt", on_delete=models.SET_NULL, null=True, blank=True, related_name="phase_runs"
    )
    result_text = RedactedTextField(blank=True)
    error_message = RedactedTextField(blank=True)
    error_category = models.CharField(max_length=60, blank=True)
    excused = models.BooleanField(
        default=False,
        db_default=False,
        help_text="its worker was replaced on a machine too busy to judge it; counts against nobody",
    )
    cost_usd = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    usage_source = models.CharField(
        max_length=10,
        choices=[(item.value, item.value) for item in UsageSource],
        default=UsageSource.NONE,
        blank=True,
    )
    cost_is_complete = models.BooleanField(default=True, help_text="every model asked has a known price")
    model_credential = models.CharField(
        max_length=20, blank=True, help_text="what the agent held: gateway_token, provider_key or nothing"
    )
    plan_path = RedactedCharField(max_length=500, blank=True)
    plan_text = RedactedTextField(blank=True, help_text="the plan file's Markdown, from git")
    tests_passed = models.PositiveIntegerField(null=True, blank=True)
    tests_failed = models.PositiveIntegerField(null=True, blank=True)
    test_results = RedactedJSONField(null=True, blank=True)
    left_out = RedactedJSONField(
        default=list, blank=True, help_text="what the sweep did not commit: rule, path and detail of each"
    )

    class Meta:
        ordering = ["sequence"]
        constraints = [
            models.UniqueConstraint(fields=["agent_work_order", "sequence"], name="phase_run_sequence"),
            models.UniqueConstraint(
                fields=["agent_work_order"], condition=Q(status="running"), name="phase_run_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(status="running", completed_at__isnull=True)
                | (~Q(status="running") & Q(completed_at__isnull=False)),
                name="phase_run_ended_has_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent_work_order_id} {self.phase} #{self.attempt}"

    @property
    def lost_its_worker(self) -> bool:
        """`LOST_ITS_WORKER`, for a row that was read at the next claim."""
        closed = self.status == PhaseRunStatus.INTERRUPTED and self.error_category in _ENDED_IN_ITS_HANDS
        return (closed and not self.excused) or self.status == PhaseRunStatus.RUNNING
