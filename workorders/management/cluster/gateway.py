"""Keeps a cluster's model gateway running: a socket that stays, and a process on it that may be replaced.

The cluster's main process opens the socket and hands it to the gateway's process, so the port is free and known before
any worker starts, and a gateway that dies leaves agents waiting for a second instead of failing.
"""

import json
import socket
import sys
import time
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import structlog
from django.conf import settings

from sandboxes.processes.run import Service

logger = structlog.get_logger("workorders")
DOWN, STARTING = "down", "starting"
_STOP_SECONDS = 5.0
_START_SECONDS = 20.0
_LOOK_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0


class GatewayKeeper:
    """Start it before the workers: they inherit where the gateway listens (`settings.WORKORDERS_GATEWAY_URL`)."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._service: Service | None = None
        self._started_at = 0.0
        self._next_start = 0.0
        self._pause = 1.0

    def start(self) -> None:
        """Raises `OSError` where the configured address cannot be listened on."""
        host, port = settings.WORKORDERS_GATEWAY_ADDRESS
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host.strip("[]"), port), family=family, backlog=512)
        settings.WORKORDERS_GATEWAY_URL = self.url
        self._start_process()

    @property
    def url(self) -> str:
        """For agents of this host, also where the gateway listens on every address."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nosec B104  # compared, not bound
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def keep(self) -> None:
        """Start it again where it has ended; call often, it returns at once."""
        if self._service is None or self._service.poll() is None or time.monotonic() < self._next_start:
            return
        logger.error("model_gateway_restarted", exit_code=self._service.poll())
        self._start_process()

    def state(self) -> str:
        """What it says of itself (`ready`, `no_credential`, `refused`); without an answer `starting` or `down`."""
        found = gateway_state(self.url)
        starting = time.monotonic() - self._started_at < _START_SECONDS
        return STARTING if found == DOWN and starting else found

    def stop(self) -> None:
        if self._service is not None:
            self._service.stop(within_seconds=_STOP_SECONDS)
        if self._listener is not None:
            self._listener.close()

    def _start_process(self) -> None:
        assert self._listener is not None
        now = time.monotonic()
        steady = now - self._started_at > _STEADY_SECONDS
        self._pause = 1.0 if steady else min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        self._started_at, self._next_start = now, now + self._pause
        descriptor = self._listener.fileno()
        argv = [sys.executable, sys.argv[0], "model_gateway", f"--fd={descriptor}"]
        self._service = Service(argv, pass_fds=(descriptor,))


def gateway_state(url: str) -> str:
    """Asks the gateway at `url`, within a second."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=_LOOK_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return str(json.loads(connection.getresponse().read(4096))["state"])[:20]
    except (OSError, HTTPException, ValueError, LookupError):
        return DOWN
    finally:
        connection.close()
