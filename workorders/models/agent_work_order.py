"""The work order: identifiers, the claim that fences its steps, and a cache of what git says."""

import secrets
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from sandboxes.kinds import SandboxCondition, SandboxType
from workorders.domain.errors import ConflictError
from workorders.domain.states import (
    AgentWorkOrderOutcome,
    AgentWorkOrderStatus,
    PromptDropped,
    ShownState,
    WaitingReason,
    is_legal,
)
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType
from workorders.models.fields import RedactedJSONField, RedactedTextField
from workorders.models.history import WorkOrderTransition
from workorders.models.logs import record_order_event
from workorders.models.prompt_moves import drop_prompts
from workorders.models.shown_state import shown_state

RELEASED: dict[str, Any] = {"claimable_at": None, "claim_owner": "", "lease_expires_at": None}
NOT_WAITING: dict[str, Any] = {"waiting_reason": "", "waiting_until": None, "waiting_message": ""}
# What asked for an approval; cleared once it is pushed.
NOTHING_TO_APPROVE: dict[str, Any] = {"approval_sha": "", "approval_paths": [], "preferred_host": ""}
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # base32, lowercase


def new_agent_work_order_id() -> str:
    """`wo-` and 8 base32 characters: 40 random bits; the unique constraint catches the rare repeat."""
    return "wo-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def choices(enum: type[Any]) -> list[tuple[str, str]]:
    return [(item.value, item.value) for item in enum]


class AgentWorkOrder(models.Model):
    """One request and its way to a pull request. Shas are full; money in US dollars; times in UTC."""

    agent_work_order_id = models.CharField(max_length=11, unique=True, default=new_agent_work_order_id)
    repository = models.ForeignKey(
        "github_app.Repository", on_delete=models.PROTECT, related_name="agent_work_orders"
    )
    repository_url = models.CharField(max_length=500)
    sandbox_type = models.CharField(max_length=20, choices=choices(SandboxType))
    workflow_type = models.CharField(max_length=40, choices=choices(AgentWorkflowType))
    former_mirror_key = models.CharField(
        max_length=400,
        blank=True,
        help_text="where its commits are kept, if its repository was known under two names then",
    )
    github_issue_number = models.CharField(max_length=10, null=True, blank=True)
    initial_prompt = RedactedTextField(blank=True)
    base_branch = models.CharField(max_length=250, blank=True, help_text="empty: the default branch")
    model = models.CharField(max_length=100, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    status = models.CharField(
        max_length=10, choices=choices(AgentWorkOrderStatus), default=AgentWorkOrderStatus.PENDING
    )
    current_phase = models.CharField(
        max_length=20, choices=choices(AgentWorkflowPhase), null=True, blank=True
    )
    outcome = models.CharField(max_length=30, choices=choices(AgentWorkOrderOutcome), null=True, blank=True)
    error_message = RedactedTextField(null=True, blank=True)
    error_category = models.CharField(max_length=60, null=True, blank=True)
    error_advice = RedactedTextField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_claims = models.PositiveIntegerField(
        default=0, help_text="claims that had only to cancel; each but the last has lost its worker"
    )

    waiting_reason = models.CharField(max_length=30, choices=choices(WaitingReason), blank=True)
    waiting_until = models.DateTimeField(null=True, blank=True, help_text="empty: until a person acts")
    waiting_message = RedactedTextField(blank=True, help_text="what the next step waits for, in words")

    approval_sha = models.CharField(
        max_length=64, blank=True, help_text="unpushed commit that a person must approve"
    )
    approval_paths = RedactedJSONField(default=list, blank=True, help_text="the protected paths it changes")
    approved_sha = models.CharField(max_length=64, blank=True)
    approved_by = models.CharField(max_length=150, blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    preferred_host = models.CharField(
        max_length=100, blank=True, help_text="the host that has commits nobody pushed yet"
    )

    git_branch_name = models.CharField(max_length=100, unique=True)
    sandbox_identifier = models.CharField(max_length=100, blank=True)
    sandbox_handle = models.CharField(
        max_length=200,
        blank=True,
        help_text="what its provider calls it; empty: it runs on the worker's machine",
    )
    sandbox_state = models.CharField(max_length=10, choices=choices(SandboxCondition), blank=True)
    sandbox_started_at = models.DateTimeField(null=True, blank=True)
    sandbox_expires_at = models.DateTimeField(null=True, blank=True)
    agent_session_id = models.CharField(max_length=100, null=True, blank=True)

    base_sha = models.CharField(max_length=64, blank=True)
    head_sha = models.CharField(max_length=64, blank=True, help_text="last commit inspected and pushed")
    tested_sha = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="newest commit that holds what was tested, where that is another than the tests' own",
    )
    kept_sha = models.CharField(
        max_length=64, blank=True, help_text="newest commit that a worker's mirror has and nobody pushed"
    )
    git_commit_count = models.PositiveIntegerField(default=0)
    git_files_changed = models.PositiveIntegerField(default=0)
    git_lines_added = models.PositiveIntegerField(default=0)
    git_lines_removed = models.PositiveIntegerField(default=0)
    latest_commit_sha = models.CharField(max_length=64, blank=True)
    latest_commit_message = RedactedTextField(blank=True)
    git_observed_at = models.DateTimeField(null=True, blank=True)

    github_issue_title = RedactedTextField(blank=True)
    github_issue_body = RedactedTextField(blank=True)
    github_issue_state = models.CharField(max_length=20, blank=True, help_text="when it was read")
    github_pull_request_number = models.PositiveIntegerField(null=True, blank=True)
    github_pull_request_url = models.CharField(max_length=500, null=True, blank=True)

    cost_usd = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost_is_complete = models.BooleanField(default=True, help_text="every model asked has a known price")
    usage_is_reported = models.BooleanField(
        default=False, help_text="some figures are an agent's own, and were not metered"
    )
    attempts = models.PositiveIntegerField(default=0, help_text="agent runs so far")
    attempts_from = models.PositiveIntegerField(
        default=0, help_text="phase runs up to this number were before somebody retried or asked for more"
    )

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    execution_started_at = models.DateTimeField(null=True, blank=True)
    execution_completed_at = models.DateTimeField(null=True, blank=True)

    claim_epoch = models.PositiveBigIntegerField(default=0, help_text="fencing token: grows with every claim")
    claim_owner = models.CharField(max_length=100, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    claimable_at = models.DateTimeField(null=True, blank=True, help_text="from when a step may be claimed")

    version = models.PositiveBigIntegerField(default=1, help_text="grows with every change a reader can see")
    log_sequence = models.PositiveBigIntegerField(default=0, help_text="the last log entry's number")

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="order_newest"),
            models.Index(fields=["status", "-created_at"], name="order_status"),
            models.Index(fields=["repository", "-created_at", "-id"], name="order_of_repository"),
            models.Index(
                fields=["claimable_at"], name="order_claimable", condition=Q(claimable_at__isnull=False)
            ),
            models.Index(
                fields=["claimable_at"],
                name="order_begun",
                condition=Q(claimable_at__isnull=False, execution_started_at__isnull=False),
            ),
            models.Index(
                fields=["-created_at", "-id"], name="order_tests_failed", condition=Q(outcome="tests_failed")
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(agent_work_order_id__regex=r"^wo-[a-z0-9]{8}$"), name="order_id_format"
            ),
            models.CheckConstraint(
                condition=Q(git_branch_name__regex=r"^feat-(issue-[0-9]{1,10}-)?wo-[a-z0-9]{8}$"),
                name="order_branch_format",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[item.value for item in AgentWorkOrderStatus]),
                name="order_status_known",
            ),
            models.CheckConstraint(
                condition=Q(sandbox_type__in=[item.value for item in SandboxType]), name="order_sandbox_known"
            ),
            models.CheckConstraint(
                condition=Q(sandbox_state__in=["", *(item.value for item in SandboxCondition)]),
                name="order_sandbox_state_known",
            ),
            models.CheckConstraint(
                condition=Q(workflow_type__in=[item.value for item in AgentWorkflowType]),
                name="order_workflow_known",
            ),
            models.CheckConstraint(
                condition=~Q(status="completed") | (Q(outcome__isnull=False) & ~Q(head_sha="")),
                name="order_completed_has_outcome_and_commit",
            ),
            models.CheckConstraint(
                condition=~Q(status="failed")
                | (Q(error_message__isnull=False) & Q(error_category__isnull=False)),
                name="order_failed_says_why",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "running"]) | Q(claimable_at__isnull=True, claim_owner=""),
                name="order_finished_is_not_claimed",
            ),
            models.CheckConstraint(
                condition=Q(waiting_reason__in=["", *(item.value for item in WaitingReason)]),
                name="order_waiting_reason_known",
            ),
            models.CheckConstraint(
                condition=Q(waiting_reason="") | Q(status__in=["pending", "running"]),
                name="order_finished_waits_for_nothing",
            ),
            models.CheckConstraint(
                condition=Q(github_issue_number__isnull=True)
                | Q(github_issue_number__regex=r"^[1-9][0-9]{0,9}$"),
                name="order_issue_is_number",
            ),
        ]

    def __str__(self) -> str:
        return self.agent_work_order_id

    @property
    def has_commits(self) -> bool:
        """Whether there is something to follow up on: pushed, waiting for an approval, or kept by a worker."""
        return bool(self.head_sha or self.approval_sha or self.kept_sha)

    @property
    def mirror_key(self) -> str:
        """The relative path of the mirror that has the order's commits."""
        return self.former_mirror_key or self.repository.mirror_key

    @property
    def is_queued(self) -> bool:
        """Its next step may begin, and no worker is at it."""
        return shown_state(self) is ShownState.QUEUED

    @property
    def expected_sandbox_identifier(self) -> str:
        """The name of the order's place to work, also before one was made."""
        return f"{self.sandbox_type.replace('_', '-')}-{self.agent_work_order_id}"

    def move(
        self,
        target: AgentWorkOrderStatus,
        *,
        by: str,
        reason: str = "",
        fence: Q | None = None,
        refresh: bool = True,
        **changes: Any,
    ) -> None:
        """The one place that writes `status`: compare-and-set on what was read, with a history row.

        `fence` narrows the row further (the claim's token). Raises `ConflictError` where the move is not
        legal or the row has changed meanwhile; `changes` are written in the same statement. Ends any wait.
        `refresh` reads the row again, for whoever goes on with it.
        """
        current = AgentWorkOrderStatus(self.status)
        if not is_legal(current, target):
            raise ConflictError(f"The work order is {current}; it cannot become {target}.")
        with transaction.atomic():
            matching = AgentWorkOrder.objects.filter(Q(pk=self.pk, status=current), fence or Q())
            values = {
                **NOT_WAITING,
                **changes,
                "status": target,
                "version": F("version") + 1,
                "updated_at": Now(),
            }
            if not matching.update(**values):
                raise ConflictError("The work order changed at the same moment; read it again.")
            WorkOrderTransition.objects.create(
                agent_work_order=self, from_status=current, to_status=target, by=by, reason=reason
            )
        if refresh:
            self.refresh_from_db()

    def finish_cancelled(self, *, by: str, fence: Q | None = None) -> None:
        """The move to `cancelled`, once the agent is known to be gone; raises the epoch, so nobody writes after."""
        drop_prompts(self, PromptDropped.CANCELLED)
        self.move(
            AgentWorkOrderStatus.CANCELLED,
            by=by,
            fence=fence,
            claim_epoch=F("claim_epoch") + 1,
            cancel_requested_at=None,
            cancel_claims=0,
            execution_completed_at=Now(),
            **RELEASED,
        )
        record_order_event(self, "agent_work_order_cancelled", by=by)
