"""Who works: one row for each supervising process, renewed while it lives."""

from django.db import models


class WorkerProcess(models.Model):
    name = models.CharField(max_length=100, unique=True, help_text="host:process id:start")
    host = models.CharField(max_length=255)
    version = models.CharField(max_length=40)
    share = models.PositiveIntegerField(help_text="steps it may run at once")
    running = models.PositiveIntegerField(default=0)
    gateway_url = models.CharField(
        max_length=200, blank=True, help_text="a cluster's model gateway on its host"
    )
    gateway_state = models.CharField(
        max_length=20, blank=True, help_text="ready, no_credential, refused or down"
    )
    started_at = models.DateTimeField()
    last_beat_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        indexes = [models.Index(fields=["last_beat_at"], name="worker_beat")]

    def __str__(self) -> str:
        return self.name
