"""First answers, kept so that a repeated POST gets the same one."""

from django.db import models

from workorders.models.fields import RedactedJSONField


class IdempotencyRecord(models.Model):
    """`key` is unique for an endpoint; `body_sha256` tells a repeat from another request."""

    endpoint = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    body_sha256 = models.CharField(max_length=64)
    response_status = models.PositiveSmallIntegerField()
    response_body = RedactedJSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "key"], name="idempotency_key_unique")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.key}"
