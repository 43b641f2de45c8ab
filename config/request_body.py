"""Makes a body that ends early or is malformed an `OSError` of the WSGI input, whoever reads it.

Django answers an `OSError` as `UnreadablePostError`, but takes a short read for the whole body, and lets the web
server's own errors through. Must not know what is read, nor for which address.
"""

from collections.abc import Iterable
from io import IOBase
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import ParseException

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_MOST_DIGITS = 19


class BodyUnreadable(OSError):
    """The connection ended before the body did, or the chunks are none."""


class WholeInput(IOBase):
    """`source` up to the announced length, or to the end of the chunks where `length` is None."""

    def __init__(self, source: Any, length: int | None) -> None:
        self._source = source
        self._missing = length

    def read(self, size: int | None = -1, /) -> bytes:
        """Fewer bytes than asked for only at the body's end. Raises `OSError`."""
        wanted = -1 if size is None else size
        if self._missing is not None:
            wanted = self._missing if wanted < 0 else min(wanted, self._missing)
        try:
            data: bytes = self._source.read(wanted)
        except ParseException as error:
            raise BodyUnreadable(f"The body is malformed: {error}") from error
        if self._missing is not None:
            if len(data) < wanted:
                raise BodyUnreadable("The body ended early.")
            self._missing -= len(data)
        return data


def whole_body(application: "WSGIApplication") -> "WSGIApplication":
    def inner(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ["wsgi.input"] = WholeInput(environ["wsgi.input"], _announced(environ))
        return application(environ, start_response)

    return inner


def _announced(environ: "WSGIEnvironment") -> int | None:
    length = environ.get("CONTENT_LENGTH") or ""
    return int(length) if length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS else None
