"""A person's follow-up to the agent, waiting or done."""

from django.db import models
from django.db.models import Q

from workorders.domain.states import PROMPT_DROPPED_WORDS, PromptDropped, PromptStatus
from workorders.models.fields import RedactedTextField


class AgentPrompt(models.Model):
    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="prompts"
    )
    prompt_text = RedactedTextField()
    status = models.CharField(
        max_length=10,
        choices=[(item.value, item.value) for item in PromptStatus],
        default=PromptStatus.QUEUED,
    )
    dropped_because = models.CharField(
        max_length=10, choices=[(item.value, item.value) for item in PromptDropped], blank=True
    )
    by = models.CharField(max_length=150)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True, help_text="done, or dropped")

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["agent_work_order", "status"], name="prompt_queue")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status="dropped") | Q(dropped_because=""), name="prompt_reason_only_where_dropped"
            )
        ]

    def __str__(self) -> str:
        return self.prompt_text[:60]

    @property
    def note(self) -> str:
        """What became of it, in words, where that needs some."""
        return PROMPT_DROPPED_WORDS[PromptDropped(self.dropped_because)] if self.dropped_because else ""
