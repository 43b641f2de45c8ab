"""What an error inside an answer of status 200 would have been as an answer of its own. Pure.

Once a stream has begun, its status can say nothing any more; proxies answer so from the first line on.
"""

import re
from typing import Any

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
}
_PASSING = {"api_error": 500, "timeout_error": 504, "overloaded_error": 529}
_PAYMENT = re.compile(
    r"credit balance|insufficient[ _](?:credits?|funds|quota)|billing|payment required|spend(?:ing)? limit",
    re.IGNORECASE,
)
_READ_CHARACTERS = 2000


def status_of_error(event: dict[str, Any]) -> int | None:
    """Of a message or event of type `error`; None for any other. Words of payment outweigh a general type."""
    if event.get("type") != "error":
        return None
    told = event.get("error")
    error = told if isinstance(told, dict) else {"message": told or event.get("message")}
    kind = str(error.get("type"))
    if kind in _PASSING:
        return _PASSING[kind]
    if _PAYMENT.search(f"{kind} {error.get('message')}"[:_READ_CHARACTERS]):
        return _STATUS["billing_error"]
    return _STATUS.get(kind, _PASSING["api_error"])
