"""What the commands that act on one order have in common: its id as the argument, the answer printed."""

from typing import Any, ClassVar, Protocol

from django.core.management.base import CommandParser

from sandboxes.errors import ExpectedError
from workorders.management.database import DatabaseCommand
from workorders.management.printing import as_json, describe, failure
from workorders.models import AgentWorkOrder
from workorders.reading import progress


class Action(Protocol):
    def __call__(self, *, agent_work_order_id: str, by: str) -> AgentWorkOrder: ...


class OneOrderCommand(DatabaseCommand):
    """`action` is the function of `services` that a subclass runs, as a `staticmethod`; or it overrides `act`."""

    action: ClassVar[Action]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent_work_order_id", metavar="ID")
        parser.add_argument("--json", action="store_true", help="print the API's JSON")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        try:
            order_id = progress.known_id(options["agent_work_order_id"])
            order = self.act(order_id, options)
        except ExpectedError as error:
            raise failure(error) from error
        answer = progress.answer_for(order)
        self.stdout.write(as_json(answer) if options["json"] else describe(answer.agent_work_order))

    def act(self, order_id: str, options: dict[str, Any]) -> AgentWorkOrder:  # noqa: ARG002  # for subclasses
        """Raises `ExpectedError`."""
        return self.action(agent_work_order_id=order_id, by="command")
