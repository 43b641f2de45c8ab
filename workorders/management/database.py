"""The base of commands that work on the database: where it is away or not migrated, they end with what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError, connection

from workorders.reading import schema

_LACKS = ("42P01", "42703")  # Postgres's undefined_table and undefined_column
AWAY_HINT = "Check DATABASE_URL, and that the database server runs and lets this machine in."


def does_not_answer(error: Exception) -> str:
    words = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return f"{connection.display_name} does not answer: {words}"


def in_words(error: Exception) -> str:
    """What a database said that ended a command, and what to do."""
    state = str(getattr(error.__cause__, "sqlstate", None) or "")
    said = " ".join(str(error).split())[:300].rstrip(".")
    if state.startswith(_LACKS) or said.startswith("no such "):
        return f"The database lacks what this version works on: {said}.\n{schema.MIGRATE}"
    if isinstance(error, IntegrityError | DataError):
        return f"The database does not take this: {said}.\nCorrect it, and try again."
    if isinstance(error, OperationalError | InterfaceError):
        return f"{does_not_answer(error)}\n{AWAY_HINT}"
    return f"{connection.display_name} refused: {said}.\n{AWAY_HINT}"


class DatabaseCommand(BaseCommand):
    requires_migrations_checks = True

    def check(self, *arguments: Any, **options: Any) -> None:
        """Raises `CommandError`; Django's checks ask SQLite what it can do."""
        with _must_answer():
            super().check(*arguments, **options)

    def check_migrations(self) -> None:
        """Raises `CommandError`; Django's own would warn and go on."""
        with _must_answer():
            missing = schema.missing_migrations()
        if missing:
            raise CommandError(f"{missing} {schema.MIGRATE}")


@contextmanager
def _must_answer() -> Iterator[None]:
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        raise CommandError(f"{does_not_answer(error)}\n{AWAY_HINT}") from error
