"""`manage.py prune`: removes what is old, as the workers do each hour, and says what and how many bytes."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from sandboxes.errors import ExpectedError
from sandboxes.files.disk import discard, free_bytes, in_units, tree_bytes
from sandboxes.local.leftovers import kept_places
from workorders import wiring
from workorders.domain.states import FINISHED
from workorders.management.database import DatabaseCommand
from workorders.management.printing import failure
from workorders.services import work_orders as services
from workorders.workflow_engine.upkeep.recovery import recover
from workorders.workflow_engine.upkeep.retention import Pruned, PruneReport, prune


class Command(DatabaseCommand):
    help = "Remove old agents' homes, unused mirrors, old logs and what no live order owns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
        parser.add_argument(
            "--discard-work",
            metavar="ID",
            help="also this finished order's places, with work that is not in git",
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        parts, dry_run = wiring.engine_parts(), bool(options["dry_run"])
        more = self._discarded(options["discard_work"], dry_run) if options["discard_work"] else ()
        settings = parts.settings
        swept = recover(
            settings.data_dir,
            settings.isolation,
            settings.providers,
            dry_run=dry_run,
            may_remove=wiring.may_remove_sandbox,
        )
        found = prune(parts, wiring.retention(), dry_run=dry_run)
        report = PruneReport(
            (*more, *(Pruned(words, "") for words in swept.leftovers), *found.removed),
            found.kept,
            found.failed,
        )
        if options["json"]:
            body = {"dry_run": dry_run, "size_bytes": report.size_bytes, **asdict(report)}
            self.stdout.write(json.dumps(body, indent=2, ensure_ascii=False))
        else:
            self._print(report, dry_run, free_bytes(settings.data_dir))

    @staticmethod
    def _discarded(wanted: str, dry_run: bool) -> tuple[Pruned, ...]:
        try:
            order = services.get_agent_work_order(wanted)
        except ExpectedError as error:
            raise failure(error) from error
        if order.status not in FINISHED:
            raise CommandError(f"{order} is {order.status}; cancel it first.")
        data_dir, name = wiring.engine_parts().settings.data_dir, order.expected_sandbox_identifier
        places = [*(data_dir / "sandboxes").glob(name), *kept_places(data_dir).glob(f"{name}.*")]
        found = tuple(Pruned("place with its work", place.name, tree_bytes(place)) for place in places)
        if not dry_run:
            for place in places:
                discard(place, data_dir / "trash")
        return found

    def _print(self, report: PruneReport, dry_run: bool, free: int) -> None:
        for item in report.removed:
            size = f"  {in_units(item.size_bytes)}" if item.size_bytes else ""
            self.stdout.write(f"{item.what} {item.name}".rstrip() + size)
        for words in report.kept:
            self.stdout.write(f"kept: {words}")
        for words in report.failed:
            self.stderr.write(f"failed: {words}")
        verb = "would be removed" if dry_run else "removed"
        self.stdout.write(
            f"{len(report.removed)} things, {in_units(report.size_bytes)} {verb}; {in_units(free)} free"
        )
