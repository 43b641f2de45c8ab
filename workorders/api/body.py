"""Reads a JSON body strictly: UTF-8, one object per key, finite numbers, at most 1 MiB however it is sent.

Must not know what the fields mean.
"""

import json
from typing import Any, NoReturn

from django.conf import settings
from django.http import HttpRequest
from django.http.request import UnreadablePostError
from ninja.parser import Parser

from workorders.api.problems import Problem


class StrictJSONParser(Parser):
    """Raises `Problem`; ninja wraps it, and the problems' table takes it out again."""

    def parse_body(self, request: HttpRequest) -> Any:
        kind = request.content_type or ""
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Problem(415, "Send the body as application/json.")
        if (request.content_params or {}).get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
            raise Problem(415, "Send the body in UTF-8.")
        try:
            text = request.body.decode("utf-8")
            return json.loads(
                text, parse_int=_integer, parse_constant=_refuse_constant, object_pairs_hook=_unique
            )
        except UnicodeDecodeError as error:
            raise Problem(400, "The body is not valid UTF-8.", "invalid_json") from error
        except RecursionError as error:
            raise Problem(400, "The body is nested too deeply.", "invalid_json") from error
        except ValueError as error:
            raise Problem(400, f"The body is not valid JSON: {str(error)[:200]}", "invalid_json") from error


def take_body(request: HttpRequest) -> None:
    """Read all of the body before anybody acts on a part of it, whatever its length header says.

    Raises `Problem`, `RequestDataTooBig`, and `UnreadablePostError` where it ends early or is malformed.
    """
    length = request.META.get("CONTENT_LENGTH") or ""
    if length and not (length.isascii() and length.isdigit() and len(length) < 20):
        raise Problem(400, "The Content-Length header is no number.")
    limit = int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0)
    stream = request.META.get("wsgi.input")
    if not length and request.META.get("wsgi.input_terminated") and stream is not None:
        request._body = _read_up_to(stream, limit + 1)  # chunked: Django itself would read nothing
    if len(request.body) > limit:
        raise Problem(413)


def _read_up_to(stream: Any, size: int) -> bytes:
    chunks = []
    try:
        while size > 0 and (chunk := stream.read(min(size, 65536))):
            chunks.append(chunk)
            size -= len(chunk)
    except OSError as error:
        raise UnreadablePostError(*error.args) from error
    return b"".join(chunks)


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python's own words advise the client to change this server
        raise ValueError("a number has too many digits") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found
