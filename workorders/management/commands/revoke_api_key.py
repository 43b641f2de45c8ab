"""`manage.py revoke_api_key PREFIX`: ends a key at once and for good."""

from typing import Any

from django.core.management.base import CommandParser

from sandboxes.errors import ExpectedError
from workorders.management.database import DatabaseCommand
from workorders.management.printing import failure
from workorders.services import api_keys


class Command(DatabaseCommand):
    help = "Revoke an API key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", metavar="PREFIX", help="its beginning, such as wok_abcdefgh")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        try:
            row = api_keys.revoke_api_key(prefix=options["prefix"], by="command")
        except ExpectedError as error:
            raise failure(error) from error
        self.stdout.write(f"{row.prefix} is revoked.")
