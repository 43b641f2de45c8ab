"""A program's key to the API: shown once when it is made, afterwards only its hash is known."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from workorders.domain.states import ApiKeyScope


class ApiKey(models.Model):
    """`prefix` is the public beginning of the key, by which people and the look-up know it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80, help_text="what it is for")
    prefix = models.CharField(max_length=16)
    secret_sha256 = models.CharField(max_length=64)
    scope = models.CharField(max_length=5, choices=[(item.value, item.value) for item in ApiKeyScope])
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="empty: never")
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="to the minute")
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(scope__in=[item.value for item in ApiKeyScope]), name="api_key_scope_known"
            ),
            models.UniqueConstraint(fields=["prefix"], name="api_key_prefix_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… {self.name}"

    @property
    def state(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= timezone.now() else "active"
