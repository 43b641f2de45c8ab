"""`manage.py create_api_key --user … --name …`: makes a key and prints it, this once."""

import json
from typing import Any

from django.core.management.base import CommandParser

from sandboxes.errors import ExpectedError
from workorders.domain.states import ApiKeyScope
from workorders.management.database import DatabaseCommand
from workorders.management.printing import failure, plain
from workorders.services import api_keys


class Command(DatabaseCommand):
    help = "Make an API key for a user. It is printed once and stored nowhere."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--user", required=True, help="whose key it is; what it does is done in this name"
        )
        parser.add_argument("--name", required=True, help="what it is for")
        parser.add_argument(
            "--scope", default=ApiKeyScope.READ.value, choices=[scope.value for scope in ApiKeyScope]
        )
        parser.add_argument("--days", type=int, default=90, help="how long it lives; 0: no end (default: 90)")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        try:
            made = api_keys.create_api_key(
                user=api_keys.find_user(options["user"]),
                name=options["name"],
                scope=options["scope"],
                lifetime_days=options["days"] or None,
                by="command",
            )
        except ExpectedError as error:
            raise failure(error) from error
        ends = made.row.expires_at.isoformat(timespec="seconds") if made.row.expires_at else None
        if options["json"]:
            document = {
                "key": made.secret,
                "prefix": made.row.prefix,
                "scope": made.row.scope,
                "expires_at": ends,
            }
            self.stdout.write(json.dumps(document, indent=2))
            return
        self.stderr.write(
            f"{plain(made.row.name)} of {plain(options['user'])}: {made.row.scope}, "
            f"{'ends ' + ends if ends else 'no end'}. It cannot be shown again."
        )
        self.stdout.write(made.secret)
