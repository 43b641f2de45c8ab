"""`model_gateway`: the process that holds the model's credential; `serve` and `qcluster` start it themselves."""

import socket
from argparse import ArgumentParser
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError

from sandboxes.errors import ExpectedError
from workorders import wiring
from workorders.management.arguments import whole_number
from workorders.model_gateway.ledger import DatabaseLedger
from workorders.model_gateway.meter import Account
from workorders.model_gateway.run import run
from workorders.model_gateway.server import Gateway

logger = structlog.get_logger("workorders")


class Command(BaseCommand):
    help = "Run the model gateway on a socket that is already open. `serve` and `qcluster` do this for you."
    requires_system_checks = ()  # whoever starts it has run them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--fd", type=whole_number(0, 65535), required=True, help="descriptor of the listening socket"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            listener = socket.socket(fileno=options["fd"])
            prices = wiring.model_prices()
        except (OSError, ExpectedError) as error:
            raise CommandError(f"The model gateway cannot start: {error}") from error
        gateway = Gateway(Account(DatabaseLedger(), prices), wiring.model_upstream())
        logger.info("model_gateway_started", address="{}:{}".format(*listener.getsockname()[:2]))
        run(gateway, listener)
        logger.info("model_gateway_stopped")
