"""What one agent run may ask of the model, and what its answers cost, as the model gateway metered them."""

import secrets
from hashlib import sha256

from django.db import models
from django.db.models import Q

TOKEN_PREFIX = "wo-step-"  # noqa: S105  # nosec B105  # no secret: what every token starts with, so that a leaked one is recognised


def new_step_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Tokens are 256 random bits, so a plain hash is enough."""
    return sha256(token.encode("utf-8", "replace")).hexdigest()


class ModelAccess(models.Model):
    """A run's token, stored hashed. It counts only while its run is open and its claim holds (`ledger.find`)."""

    phase_run = models.OneToOneField(
        "workorders.PhaseRun", on_delete=models.CASCADE, related_name="model_access"
    )
    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="+"
    )
    token_hash = models.CharField(max_length=64, unique=True)
    claim_epoch = models.PositiveBigIntegerField()
    budget_usd = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    budget_refused_at = models.DateTimeField(
        null=True, blank=True, help_text="when a request was refused because the budget was used up"
    )
    last_error_status = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="the model's last answer that was an error"
    )
    limit_resets_at = models.DateTimeField(
        null=True, blank=True, help_text="when the limit it told of is lifted"
    )

    class Meta:
        verbose_name_plural = "model access"
        constraints = [
            models.CheckConstraint(
                condition=Q(budget_usd__isnull=True) | Q(budget_usd__gt=0),
                name="model_access_budget_positive",
            )
        ]

    def __str__(self) -> str:
        return f"model access of run {self.phase_run_id}"


class ModelUsage(models.Model):
    """Tokens and cost of one run with one model. `cost_usd` leaves out what has no known price."""

    phase_run = models.ForeignKey("workorders.PhaseRun", on_delete=models.CASCADE, related_name="model_usage")
    model = models.CharField(max_length=200)
    requests = models.PositiveIntegerField(default=0)
    unpriced_requests = models.PositiveIntegerField(default=0, help_text="answers of no known price")
    estimated_requests = models.PositiveIntegerField(
        default=0, help_text="answers cut off before they told their output, which was estimated by size"
    )
    input_tokens = models.PositiveBigIntegerField(
        default=0, help_text="neither read from nor written to the cache"
    )
    output_tokens = models.PositiveBigIntegerField(default=0)
    cache_read_tokens = models.PositiveBigIntegerField(default=0)
    cache_write_tokens = models.PositiveBigIntegerField(default=0)
    web_searches = models.PositiveIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["model"]
        constraints = [models.UniqueConstraint(fields=["phase_run", "model"], name="model_usage_once")]

    def __str__(self) -> str:
        return f"{self.model} of run {self.phase_run_id}"
