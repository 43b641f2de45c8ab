"""`manage.py show_work_order ID`: one order, its phases and its latest log entries."""

from typing import Any

from django.core.management.base import CommandParser

from sandboxes.errors import ExpectedError
from workorders.management.database import DatabaseCommand
from workorders.management.printing import as_json, describe, failure, plain
from workorders.reading import progress
from workorders.reading.progress import GitProgressView
from workorders.text.wording import counted


class Command(DatabaseCommand):
    help = "Show one work order."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent_work_order_id", metavar="ID")
        parser.add_argument("--json", action="store_true", help="print the API's JSON")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        try:
            order = progress.work_order(options["agent_work_order_id"])
            snapshot = progress.git_progress(order.agent_work_order_id)
        except ExpectedError as error:
            raise failure(error) from error
        if options["json"]:
            self.stdout.write(as_json(progress.answer_for(order)))
        else:
            self.stdout.write(describe(order) + _phases(snapshot))


def _phases(snapshot: GitProgressView) -> str:
    lines = [
        f"  {entry.phase:<13} {entry.status:<16} "
        f"{counted(entry.commits, 'commit')}, {counted(entry.attempts, 'attempt')}"
        for entry in snapshot.phase_history
    ]
    return "\n" + "\n".join(["Phases:", *map(plain_indented, lines)]) if lines else ""


def plain_indented(line: str) -> str:
    return "  " + plain(line)
