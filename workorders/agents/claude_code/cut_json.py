"""What the beginning of a JSON object tells where the rest of it was not kept. Pure."""

import json
import re
from typing import Any

from workorders.agents.base import RESULT_CHARACTERS, TRUNCATION_MARK

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_ESCAPE_CHARACTERS = len(r"\u0000")


def fields_of_cut_object(head: str) -> dict[str, Any]:
    """The object's whole fields, and the beginning of the text it was cut in, with a mark; {} for anything else.

    A value is whole where another field follows it: a number could go on.
    """
    fields: dict[str, Any] = {}
    try:
        at = _past("{", head, 0)
        while True:
            name, at = _DECODER.raw_decode(head, at)
            at = _past(":", head, at)
            try:
                value, end = _DECODER.raw_decode(head, at)
            except ValueError:
                fields[str(name)] = _text_begun(head, at)
                return fields
            at = _past(",", head, end)
            fields[str(name)] = value
    except (ValueError, RecursionError):  # also numbers beyond Python's digit limit
        return fields


def _past(sign: str, head: str, at: int) -> int:
    """The place after the sign and the space around it. Raises `ValueError` where something else is there."""
    at = _end_of_space(head, at)
    if head[at : at + 1] != sign:
        raise ValueError(f"no {sign}")
    return _end_of_space(head, at + 1)


def _end_of_space(head: str, at: int) -> int:
    found = _SPACE.match(head, at)
    return found.end() if found else at


def _text_begun(head: str, at: int) -> str:
    """Enough of an unended text to fill a result. Raises `ValueError` for what is none."""
    if head[at : at + 1] != '"':
        raise ValueError("no text")
    begun = head[at + 1 : at + 1 + 2 * RESULT_CHARACTERS]
    for left_out in range(_ESCAPE_CHARACTERS):  # an escape may be cut in two
        try:
            text: str = json.loads(f'"{begun[: len(begun) - left_out]}"', strict=False)
        except ValueError:
            continue
        return text + TRUNCATION_MARK
    raise ValueError("no text")
