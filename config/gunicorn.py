"""gunicorn's own configuration file: what must hold in its master too, which never loads the application."""

import os
import sys
from socket import AF_UNIX
from typing import Any

from gunicorn.glogging import Logger


class _OnStandardOutput(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """The web server logs where the server logs."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            if getattr(handler, "stream", None) is sys.stderr:
                handler.setStream(sys.stdout)


logger_class = _OnStandardOutput


def on_starting(server: Any) -> None:  # noqa: ARG001  # gunicorn calls it by this signature
    """Before the workers are forked; they inherit it."""
    from sandboxes.processes.hardening import make_undumpable  # its folder is on the path only by now

    make_undumpable()


def pre_fork(server: Any, worker: Any) -> None:
    """Quick ones first, and again where one has died."""
    from workorders.serving import lanes

    quick = sum(not getattr(other, "is_slow", False) for other in server.WORKERS.values())
    worker.is_slow = quick >= lanes.QUICK_PROCESSES


def post_fork(_server: Any, worker: Any) -> None:
    """A slow process listens to the quick ones alone, and yields to everything else."""
    from workorders.serving import lanes

    behind = [listener for listener in worker.sockets if listener.sock.family == AF_UNIX]
    if not behind:
        return
    lanes.become(str(behind[0].sock.getsockname()), is_slow=worker.is_slow)
    if worker.is_slow:
        os.nice(lanes.SLOW_NICE)
        worker.sockets = behind
        worker.cfg.set("threads", lanes.SLOW_THREADS)
        worker.cfg.set("limit_request_fields", 200)  # what a quick process says comes on top
        worker.cfg.set("limit_request_field_size", 16_380)
    else:
        worker.sockets = [listener for listener in worker.sockets if listener not in behind]
