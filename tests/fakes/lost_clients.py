"""What the fakes' servers share: a client that was killed in the middle of a request is no news."""

import socketserver
import sys
from typing import Any


class ForgivesLostClients(socketserver.BaseServer):
    """To be named before the server's class."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are a part of the play; anything else is printed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
