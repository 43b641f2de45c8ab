"""gunicorn's own configuration file: what must hold in its master too, which never loads the application."""

from typing import Any


def on_starting(server: Any) -> None:  # noqa: ARG001  # gunicorn calls it by this signature
    """Before the workers are forked; they inherit it."""
    from sandboxes.hardening import make_undumpable  # its folder is on the path only by now

    make_undumpable()
