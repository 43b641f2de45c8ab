"""A person's follow-up to the agent, waiting or done."""

from django.db import models

from workorders.models.fields import RedactedTextField
from workorders.states import PromptStatus


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
    by = models.CharField(max_length=150)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["agent_work_order", "status"], name="prompt_queue")]

    def __str__(self) -> str:
        return self.prompt_text[:60]
