"""`manage.py list_work_orders`: the newest orders, a line each."""

from typing import Any

from django.core.management.base import CommandParser

from sandboxes.errors import ExpectedError
from workorders.domain.states import AgentWorkOrderStatus
from workorders.management.arguments import whole_number
from workorders.management.database import DatabaseCommand
from workorders.management.printing import as_json, failure, row
from workorders.reading import progress
from workorders.reading.progress import WorkOrderQuery
from workorders.services import work_orders as services


class Command(DatabaseCommand):
    help = "List work orders, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--status", choices=[status.value for status in AgentWorkOrderStatus])
        parser.add_argument("--repository", help="only orders of this repository")
        parser.add_argument("--limit", type=whole_number(1, 200), default=50, help="1 to 200 (default: 50)")
        parser.add_argument("--json", action="store_true", help="print the API's JSON")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        try:
            repository = services.parse_repository(options["repository"]) if options["repository"] else None
        except ExpectedError as error:
            raise failure(error) from error
        query = WorkOrderQuery(status=options["status"], repository=repository, limit=options["limit"])
        page = progress.work_orders(query)
        if options["json"]:
            self.stdout.write(as_json(page))
            return
        for order in page.agent_work_orders:
            self.stdout.write(row(order))
        self.stdout.write(f"{len(page.agent_work_orders)} of {page.total_count} work orders")
