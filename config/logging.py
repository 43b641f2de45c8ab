"""structlog for the whole process: console or JSON lines on one stream, and one file per work order.

Every event that carries `agent_work_order_id` is also appended to
`<data dir>/logs/agent_work_orders/<date>/<agent_work_order_id>.jsonl`. The same events reach the table
`work_order_logs` through the services and the recorder, which is what the API and the pages read.
"""

import json
import logging
import re
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import Processor, WrappedLogger

from workorders.text.redaction import redact_value

SERVERS = frozenset({"serve", "qcluster", "model_gateway"})
_ORDER_ID = re.compile(r"^wo-[a-z0-9]{8}$")


class OrderFileWriter:
    """Appends events to their order's file; one `write` a line, so that processes may share a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self, _logger: WrappedLogger, _name: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        order_id = str(event_dict.get("agent_work_order_id", ""))
        if _ORDER_ID.match(order_id):
            line = json.dumps(dict(event_dict), default=str, ensure_ascii=True)
            path = self._folder / str(event_dict["timestamp"])[:10] / f"{order_id}.jsonl"
            try:
                self._append(path, f"{line}\n".encode())
            except OSError as error:  # a full disk must not stop the order; the table still has the event
                event_dict["order_log_error"] = str(error)
        return event_dict

    @staticmethod
    def _append(path: Path, line: bytes) -> None:
        try:
            file = path.open("ab", buffering=0)
        except FileNotFoundError:  # the day's first
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = path.open("ab", buffering=0)
        with file:
            file.write(line)


class _Stream(logging.StreamHandler[TextIO]):
    """Whose reader may be gone: that is no defect of the event that could not be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _without_secrets(
    _logger: WrappedLogger, _name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Values that are neither text nor JSON are written as text later, so they become text here."""
    for key, value in event_dict.items():
        if not key.startswith("_") and key != "exc_info":
            plain = value if isinstance(value, str | int | float | dict | list | tuple | None) else str(value)
            event_dict[key] = redact_value(plain)
    return event_dict


def _strangers_mistakes_in_one_line(
    _logger: WrappedLogger, _name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A request for another host, or one that is no HTTP, is nobody's bug here: it gets no traceback.

    Nor does a page, or a task, that was asked for while the database was away.
    """
    found = event_dict.get("exc_info")
    error = found[1] if isinstance(found, tuple) else found
    name = str(event_dict.get("logger", ""))
    is_strange = name.startswith("django.security.") or type(error).__module__ == "aiohttp.http_exceptions"
    is_away = name in {"django.request", "django-q"} and type(error).__name__ in {
        "OperationalError",
        "InterfaceError",
    }
    if is_strange or is_away:
        event_dict.pop("exc_info", None)
        if isinstance(error, BaseException):
            event_dict["error"] = " ".join(str(error).split())[:300]
    return event_dict


def log_stream(argv: Sequence[str]) -> TextIO:
    """Where this process logs: a server on standard output; for a command that is its answer, so on standard error."""
    is_server = argv[1:2] and argv[1] in SERVERS
    return sys.stdout if is_server or Path(argv[0]).parent.name == "gunicorn" else sys.stderr


def configure_logging(
    *,
    log_format: Literal["console", "json"],
    log_level: str,
    order_log_folder: Path,
    stream: TextIO | None = None,
) -> None:
    """Route structlog and the standard library through the same processors; safe to call more than once.

    `stream` None: standard error.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _strangers_mistakes_in_one_line,
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        _without_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            OrderFileWriter(order_log_folder),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    handler = _Stream(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log_level)
    logging.getLogger("django-q").setLevel(max(logging.WARNING, root.level))
