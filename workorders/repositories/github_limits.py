"""GitHub's rate limit as all workers and hosts know it together: one row for each host and token.

Implements `github_app.gh.RateLimitGate` on the database; the token itself is never stored.
"""

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from django.db import transaction

from github_app.models import GitHubRateLimit
from workorders.models.clock import database_now

_FREE_SECONDS = 1.0  # how long "nothing known" is believed without asking again
_FIRST_PAUSE_SECONDS = 60.0  # what GitHub's documentation asks for where an answer does not say
_LONGEST_PAUSE_SECONDS = 900.0
_FORGIVEN_AFTER = timedelta(hours=1)


class Database(Protocol):
    """Runs a short function that uses the ORM, on whatever thread may."""

    def call[T](self, function: Callable[[], T]) -> T: ...


class Inline:
    """In the caller's own thread: for requests and commands."""

    def call[T](self, function: Callable[[], T]) -> T:
        return function()


class SharedRateLimit:
    """The gate of one host and token."""

    def __init__(self, host: str, token: str, database: Database | None = None) -> None:
        self._key = {"host": host, "token_fingerprint": fingerprint(token)}
        self._database = database or Inline()
        self._free_until = 0.0

    def closed_for(self) -> float:
        if time.monotonic() < self._free_until:
            return 0.0
        seconds = self._database.call(self._remaining)
        if seconds <= 0:
            self._free_until = time.monotonic() + _FREE_SECONDS
        return max(seconds, 0.0)

    def _remaining(self) -> float:
        not_before = GitHubRateLimit.objects.filter(**self._key).values_list("not_before", flat=True).first()
        return 0.0 if not_before is None else (not_before - database_now()).total_seconds()

    def close(self, seconds: float | None, message: str) -> float:
        self._free_until = 0.0
        return self._database.call(lambda: self._close(seconds, message))

    def _close(self, seconds: float | None, message: str) -> float:
        """The latest end wins; refusals that come together count once."""
        with transaction.atomic():
            now = database_now()
            row, _created = GitHubRateLimit.objects.select_for_update().get_or_create(
                **self._key, defaults={"not_before": now}
            )
            refusals = row.refusals
            if seconds is None and row.not_before <= now:
                refusals = 1 if now - row.not_before > _FORGIVEN_AFTER else row.refusals + 1
            if seconds is None:
                seconds = min(_FIRST_PAUSE_SECONDS * 2 ** (max(refusals, 1) - 1), _LONGEST_PAUSE_SECONDS)
                if row.not_before > now:  # somebody else was told the same a moment ago
                    seconds = (row.not_before - now).total_seconds()
            until = max(row.not_before, now + timedelta(seconds=seconds))
            GitHubRateLimit.objects.filter(pk=row.pk).update(
                not_before=until, refusals=refusals, message=message[:500], updated_at=now
            )
            return (until - now).total_seconds()


def forget(host: str) -> None:
    """A person wants to try now: GitHub may be asked again, and says itself whether it is too early."""
    GitHubRateLimit.objects.filter(host__iexact=host).update(not_before=database_now())


def fingerprint(token: str) -> str:
    """Tells tokens apart without telling them; empty stands for gh's own login."""
    return hashlib.sha256(token.encode()).hexdigest()[:16] if token else "gh-login"
