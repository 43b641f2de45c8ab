"""`manage.py approve_work_order ID --sha SHA`: allow a commit that changes protected paths to be pushed."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sandboxes.errors import ExpectedError
from workorders import progress, services
from workorders.management.printing import as_json, describe, failure


class Command(BaseCommand):
    help = "Approve exactly this commit of a work order that waits for it (show_work_order names it)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent_work_order_id", metavar="ID")
        parser.add_argument(
            "--sha", required=True, help="the commit that waits, all of it, as show_work_order prints it"
        )
        parser.add_argument("--json", action="store_true", help="print the API's JSON")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        try:
            order_id = progress.known_id(options["agent_work_order_id"])
            order = services.approve_agent_work_order(
                agent_work_order_id=order_id, sha=options["sha"], by="command"
            )
        except ExpectedError as error:
            raise failure(error) from error
        answer = progress.answer_for(order)
        self.stdout.write(as_json(answer) if options["json"] else describe(answer.agent_work_order))
