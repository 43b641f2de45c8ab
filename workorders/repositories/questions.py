"""Questions about a repository that a worker answers: how long an answer can still be awaited."""

from datetime import datetime, timedelta

from django.utils import timezone

ASKED_SHORTLY = timedelta(seconds=20)  # how long a queued question counts as under way


def is_under_way(requested_at: datetime | None) -> bool:
    """Whether a question to a worker is so young that its answer can still be awaited."""
    return requested_at is not None and timezone.now() - requested_at < ASKED_SHORTLY
