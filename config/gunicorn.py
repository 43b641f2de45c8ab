"""gunicorn's own configuration file: what must hold in its master too, which never loads the application."""

import sys
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
    from sandboxes.hardening import make_undumpable  # its folder is on the path only by now

    make_undumpable()
