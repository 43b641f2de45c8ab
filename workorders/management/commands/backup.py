"""`manage.py backup`: a copy of the database while the server runs."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from sandboxes.errors import ExpectedError
from workorders.management.backups import BackupFailed, back_up, default_target, remove_older
from workorders.management.database import DatabaseCommand


class Command(DatabaseCommand):
    help = "Copy the database while the server runs; docs/operations.md says how to restore it."
    requires_migrations_checks = False  # an upgrade backs up before it migrates

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="default: a new file in <data folder>/backups")
        parser.add_argument("--keep", type=int, help="remove all but so many of the copies in that folder")

    def handle(self, *_args: Any, **options: Any) -> None:
        keep = options["keep"]
        if keep is not None and keep < 1:
            raise CommandError("--keep must be at least 1.")
        target = options["file"] or default_target()
        try:
            size = back_up(target)
        except (BackupFailed, ExpectedError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{target} ({size:,} bytes)")
        if keep is not None:
            self._remove_older(target.parent, keep)

    def _remove_older(self, folder: Path, keep: int) -> None:
        try:
            for path in remove_older(folder, keep=keep):
                self.stdout.write(f"removed {path}")
        except OSError as error:
            raise CommandError(
                f"The copy is made, but {error.filename} could not be removed: {error.strerror}."
            ) from error
