"""`recover_work_orders`: one recovery pass by hand; the schedule runs the same."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from workorders import wiring
from workorders.management.database import DatabaseCommand
from workorders.workflow_engine.outward.withdrawals import withdraw_owed
from workorders.workflow_engine.upkeep.recovery import recover


class Command(DatabaseCommand):
    help = "Issue missing tickets, remove what no live order owns, close what cancelled orders left open."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")

    def handle(self, *_args: Any, **options: Any) -> None:
        dry_run = options["dry_run"]
        report = recover(
            settings.WORKORDERS_DATA_DIR,
            wiring.isolation_settings(),
            settings.WORKORDERS_SANDBOX_PROVIDERS,
            dry_run=dry_run,
            may_remove=wiring.may_remove_sandbox,
        )
        closed = () if dry_run else withdraw_owed(wiring.engine_parts())
        would = "would be " if dry_run else ""
        self.stdout.write(f"tickets {would}issued: {report.tickets_issued}")
        self.stdout.write(f"orders {would}cancelled: {', '.join(report.orders_cancelled) or 'none'}")
        self.stdout.write(f"leftovers {would}removed: {', '.join(report.leftovers) or 'none'}")
        if closed:
            self.stdout.write(f"pull requests closed of: {', '.join(closed)}")
