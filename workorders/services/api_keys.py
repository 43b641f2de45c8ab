"""Keys by which programs call the API: made, looked up, revoked. The only place that knows their secrets.

A key is `wok_<8 characters>_<43 characters>`. The first two parts are its public prefix; of the whole only the
SHA-256 is stored, which is enough for 256 random bits (a slow hash protects passwords people can guess).
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.contrib.auth.models import AbstractBaseUser, User
from django.db import OperationalError
from django.db.models import Q
from django.utils import timezone

from workorders.domain.errors import InvalidInput, WorkOrderError
from workorders.domain.states import ApiKeyScope
from workorders.models import ApiKey
from workorders.text.diff_lines import plain

logger = structlog.get_logger("workorders.api_keys")  # the name in the logs of installations

MAX_LIFETIME_DAYS = 3660
_PREFIX_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_KEY = re.compile(r"(wok_[a-z2-7]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_MAX_SHOWN = 200
_USE_IS_NOTED_EVERY = timedelta(minutes=1)


class ApiKeyNotFound(WorkOrderError):
    """There is no such API key, or it is not for this caller."""

    category = "api_key_not_found"
    advice = "Check the prefix; `manage.py list_api_keys` lists all of them."


class ApiKeyRefused(WorkOrderError):
    """The API key is not known, has expired or was revoked, or its user may not sign in."""

    category = "api_key_refused"
    advice = "Make a new key on your account page, or with `manage.py create_api_key`."


@dataclass(frozen=True)
class NewApiKey:
    """`secret` is the whole key; nobody can read it again."""

    row: ApiKey
    secret: str


def create_api_key(
    *, user: AbstractBaseUser, name: str, scope: str, lifetime_days: int | None, by: str
) -> NewApiKey:
    """`lifetime_days` is None for a key that does not expire. Raises `InvalidInput`."""
    name = " ".join(plain(name).split())
    if not 0 < len(name) <= 80:
        raise InvalidInput("name", "Give the key a name of up to 80 characters that says what it is for.")
    if scope not in set(ApiKeyScope):
        raise InvalidInput("scope", "The scope is `read` or `write`.")
    if lifetime_days is not None and not 0 < lifetime_days <= MAX_LIFETIME_DAYS:
        raise InvalidInput("lifetime_days", f"A key lives 1 to {MAX_LIFETIME_DAYS} days, or has no end.")
    prefix = "wok_" + "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8))
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    row = ApiKey.objects.create(
        user_id=user.pk,
        name=name,
        prefix=prefix,
        secret_sha256=_hash(secret),
        scope=scope,
        expires_at=None if lifetime_days is None else timezone.now() + timedelta(days=lifetime_days),
    )
    logger.info("api_key_created", prefix=prefix, scope=scope, user=user.get_username(), by=by)
    return NewApiKey(row, secret)


def find_user(username: str) -> User:
    """Raises `InvalidInput`."""
    user = User.objects.filter(username=username).first() if "\x00" not in username else None
    if user is None:
        raise InvalidInput("user", "There is no such user; `manage.py createsuperuser` makes the first one.")
    return user


def keys_of(user: AbstractBaseUser) -> list[ApiKey]:
    """Newest first, ended ones too."""
    return list(ApiKey.objects.filter(user_id=user.pk)[:_MAX_SHOWN])


def all_keys(*, username: str = "") -> list[ApiKey]:
    """Everybody's, or one user's, newest first."""
    rows = ApiKey.objects.select_related("user")
    return list(rows.filter(user__username=username.replace("\x00", "")) if username else rows)


def revoke_api_key(*, by: str, pk: int | None = None, prefix: str = "", user_pk: int | None = None) -> ApiKey:
    """End a key for good; with `user_pk` others' keys look missing. Raises `ApiKeyNotFound`."""
    wanted = Q(pk=pk) if pk is not None else Q(prefix=prefix.replace("\x00", ""))
    if user_pk is not None:
        wanted &= Q(user_id=user_pk)
    row = ApiKey.objects.filter(wanted).first()
    if row is None:
        raise ApiKeyNotFound("There is no such API key.")
    if ApiKey.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=timezone.now()):
        logger.info("api_key_revoked", prefix=row.prefix, by=by)
    row.refresh_from_db()
    return row


def authenticate(presented: str) -> ApiKey:
    """The key's row, with its user, and its use noted. Raises `ApiKeyRefused`."""
    match = _KEY.fullmatch(presented)
    row = ApiKey.objects.select_related("user").filter(prefix=match[1]).first() if match else None
    if row is None or not hmac.compare_digest(row.secret_sha256, _hash(presented)):
        raise ApiKeyRefused("The API key is not known.")
    now = timezone.now()
    if row.revoked_at is not None:
        raise ApiKeyRefused("The API key was revoked.")
    if row.expires_at is not None and row.expires_at <= now:
        raise ApiKeyRefused("The API key has expired.")
    if not row.user.is_active:
        raise ApiKeyRefused("The user of this API key may not sign in any more.")
    _note_use(row)
    return row


def _note_use(row: ApiKey) -> None:
    """At most once a minute, and never in the way of the request."""
    now = timezone.now()
    if row.last_used_at is not None and now - row.last_used_at < _USE_IS_NOTED_EVERY:
        return
    try:
        ApiKey.objects.filter(pk=row.pk).update(last_used_at=now)
    except OperationalError as error:
        logger.warning("api_key_use_not_noted", prefix=row.prefix, error=str(error)[:200])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
