"""Runs the gateway on a listening socket until it is told to stop."""

import asyncio
import signal
import socket
from contextlib import suppress

from aiohttp import web

from workorders.model_gateway.server import Gateway

_GOODBYE_SECONDS = 2.0


async def serve(gateway: Gateway, listener: socket.socket, stop: asyncio.Event) -> None:
    """Until `stop`; running answers then get two seconds. A client that hangs up cancels its request upstream."""
    runner = web.AppRunner(
        gateway.app, handler_cancellation=True, access_log=None, shutdown_timeout=_GOODBYE_SECONDS
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=512).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def run(gateway: Gateway, listener: socket.socket) -> None:
    """In this process's main thread, until SIGTERM or SIGINT."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(gateway, listener, stop)

    with suppress(KeyboardInterrupt):
        asyncio.run(main())
