"""An HTTP answer of GitHub as gh prints it: status, headers, JSON, GitHub's own words, and how long it asks to wait.

Pure text in, values out; knows neither gh nor what an answer means for the product (`gh.REFUSALS` does).
"""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST_WAIT_SECONDS = 24 * 3600.0
_MOST_DETAILS = 5
_PLAIN_CHARACTERS = 300
_GENERIC = {"validation failed", "validation error"}  # says nothing where the details do
# What GitHub's codes mean; its documentation calls the first ones "most common".
_CODES = {
    "missing": "does not exist",
    "missing_field": "is missing",
    "invalid": "is invalid",
    "already_exists": "already exists",
    "unprocessable": "cannot be processed",
}
# Words with which GitHub asks to come back later, whatever the status.
_SLOW_DOWN = re.compile(
    r"rate limit|abuse detection|submitted too quickly|too many requests|temporarily blocked"
    r"|(?:try|retry)\b[^.]{0,40}\b(?:again|request) later|wait a few minutes|please slow down|\bthrottled\b"
    r"|too many [^.]{0,60}\bin a short|quota (?:is |has been |was )?(?:exhausted|exceeded)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as gh printed it; header names in lower case, `value` None where the body is no JSON.

    `plain` is the beginning of a short body that is neither JSON nor HTML.
    """

    status: int
    headers: Mapping[str, str]
    value: Any
    plain: str = ""

    @property
    def message(self) -> str:
        """GitHub's own words: its sentence first, then what each detail names; the rest of a long list is counted."""
        if not isinstance(self.value, dict):
            return self.plain
        sentence = _text(self.value.get("message") or self.value.get("error"))
        details = _details(self.value.get("errors"))
        if details and sentence.rstrip(".").lower() in _GENERIC:
            sentence = f"{sentence.rstrip('.')}: "
        elif details and sentence:
            sentence = f"{sentence.rstrip('. ')}; "
        more = len(details) - _MOST_DETAILS
        ending = f"; and {more} more" if more > 0 else ""
        return sentence + "; ".join(details[:_MOST_DETAILS]) + ending

    @property
    def location(self) -> str:
        """Where a redirect leads, by its header or its body."""
        told = self.value.get("url") if isinstance(self.value, dict) else None
        return self.headers.get("location", "") or _text(told)

    @property
    def asks_to_wait(self) -> bool:
        """Whether it is one of GitHub's ways to say "slow down", where the status alone does not tell."""
        if "retry-after" in self.headers:
            return True
        if self.status == 403 and self.headers.get("x-ratelimit-remaining") == "0":
            return True
        return bool(_SLOW_DOWN.search(self.message))


def _details(errors: object) -> list[str]:
    """What `errors` holds, in any of its shapes: a text, texts, objects, or an object of lists. Each thing once."""
    if isinstance(errors, str):
        return [errors] if errors.strip() else []
    if isinstance(errors, dict):
        if {"message", "code", "field", "resource"} & set(errors):
            return [words] if (words := _detail(errors)) else []
        nested = [f"{name}: {words}" for name, value in errors.items() for words in _details(value)]
        return list(dict.fromkeys(nested))
    if isinstance(errors, list):
        found = [
            words
            for item in errors
            for words in ([_detail(item)] if isinstance(item, dict) else _details(item))
        ]
        return [words for words in dict.fromkeys(found) if words]
    return []


def _detail(detail: Mapping[str, Any]) -> str:
    """One error object in words, such as `PullRequest.base is invalid`."""
    place = ".".join(filter(None, (_text(detail.get("resource")), _text(detail.get("field")))))
    message, code = _text(detail.get("message")), _text(detail.get("code"))
    if not message and isinstance(detail.get("errors"), list | dict):
        message = "; ".join(_details(detail["errors"]))
    if message:
        field = _text(detail.get("field"))
        return f"{place}: {message}" if field and field.lower() not in message.lower() else message
    if not code:
        return place
    value = detail.get("value")
    shown = f" (`{value}`)" if isinstance(value, str | int) and value != "" else ""
    return f"{place or 'the request'} {_CODES.get(code, code)}{shown}"


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def parse_answer(output: bytes) -> Answer | None:
    """Reads `gh api --include`: status line, headers, empty line, body. None where there is no answer."""
    head, _, body = output.replace(b"\r\n", b"\n").partition(b"\n\n")
    status_line, _, header_lines = head.decode("utf-8", "replace").partition("\n")
    words = status_line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit() or len(words[1]) != 3:
        return None
    headers = {}
    for line in header_lines.splitlines():
        name, _, content = line.partition(":")
        headers[name.strip().lower()] = content.strip()
    value = _json_or_none(body)
    return Answer(int(words[1]), headers, value, _plain(body, headers) if value is None else "")


def _json_or_none(body: bytes) -> Any:
    try:
        # gh rewrites control characters inside strings, and not always to what strict JSON allows.
        return json.loads(body.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _plain(body: bytes, headers: Mapping[str, str]) -> str:
    text = body[: _PLAIN_CHARACTERS * 4].decode("utf-8", "replace").strip()
    is_markup = "html" in headers.get("content-type", "").lower() or text.startswith(("<", "{", "["))
    return "" if is_markup else " ".join(text.split())[:_PLAIN_CHARACTERS]


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """How long GitHub asks to wait, by GitHub's own clock (`Date`); None where it does not say."""
    seconds = _retry_after(headers)
    if seconds is None:
        exhausted = headers.get("x-ratelimit-remaining", "0") == "0"
        if not (exhausted and headers.get("x-ratelimit-reset", "").isdecimal()):
            return None
        seconds = float(headers["x-ratelimit-reset"][:12]) - _answered_at(headers)
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The header's seconds, or those until the date it gives instead."""
    text = headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text, re.ASCII):
        return float(text[:9])
    date = _timestamp(text)
    return None if date is None else date - _answered_at(headers)


def _answered_at(headers: Mapping[str, str]) -> float:
    found = _timestamp(headers.get("date", ""))
    return time.time() if found is None else found


def _timestamp(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
