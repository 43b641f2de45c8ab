"""`manage.py approve_work_order ID --sha SHA`: allow a commit that changes protected paths to be pushed."""

from typing import Any

from django.core.management.base import CommandParser

from workorders.management.one_order import OneOrderCommand
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services


class Command(OneOrderCommand):
    help = "Approve exactly this commit of a work order that waits for it (show_work_order names it)."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--sha", required=True, help="the commit that waits, all of it, as show_work_order prints it"
        )

    def act(self, order_id: str, options: dict[str, Any]) -> AgentWorkOrder:
        return services.approve_agent_work_order(
            agent_work_order_id=order_id, sha=options["sha"], by="command"
        )
