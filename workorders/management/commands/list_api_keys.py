"""`manage.py list_api_keys`: every key by its prefix; the secrets are known to nobody."""

import json
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from workorders.management.database import DatabaseCommand
from workorders.management.printing import plain
from workorders.models import ApiKey
from workorders.services import api_keys


class Command(DatabaseCommand):
    help = "List API keys, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", help="only this user's")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        keys = api_keys.all_keys(username=options["user"] or "")
        if options["json"]:
            self.stdout.write(json.dumps([_document(key) for key in keys], indent=2))
            return
        for key in keys:
            shown = _document(key)
            ends, used = shown["expires_at"] or "no end", shown["last_used_at"] or "never used"
            self.stdout.write(
                plain(
                    f"{key.prefix}  {key.state:<7}  {key.scope:<5}  {ends}  {used}  {shown['user']}  {key.name}"
                )
            )


def _document(key: ApiKey) -> dict[str, str | None]:
    return {
        "prefix": key.prefix,
        "name": key.name,
        "user": key.user.get_username(),
        "scope": key.scope,
        "state": key.state,
        "created_at": _time(key.created_at),
        "expires_at": _time(key.expires_at),
        "last_used_at": _time(key.last_used_at),
        "revoked_at": _time(key.revoked_at),
    }


def _time(value: datetime | None) -> str | None:
    return value.isoformat(timespec="seconds") if value else None
