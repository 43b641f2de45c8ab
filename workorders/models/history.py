"""Every status change, who made it and why."""

from django.db import models

from workorders.models.fields import RedactedTextField


class WorkOrderTransition(models.Model):
    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="transitions"
    )
    from_status = models.CharField(max_length=10, blank=True)
    to_status = models.CharField(max_length=10)
    by = models.CharField(max_length=150, help_text="a user, `api`, or a worker")
    reason = RedactedTextField(blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.from_status or 'new'} → {self.to_status}"
