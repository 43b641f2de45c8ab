"""Every failure under /api as RFC 9457 `application/problem+json`; one table says which status each gets.

Must not know single endpoints.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from pydantic import BaseModel, Field

from sandboxes.errors import ExpectedError
from workorders.domain.errors import ConflictError, InvalidInput, NotFound, RequestHoldsSecret
from workorders.text.redaction import redact_value

logger = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="work-orders"'
_MAX_ERRORS = 20
_CODES = {
    400: "bad_request",
    401: "authentication_required",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "precondition_failed",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_input",
    500: "internal",
    503: "unavailable",
}
_DETAILS = {
    401: "Sign in first, or send an API key: Authorization: Bearer wok_…",
    404: "There is nothing at this address; /api/docs lists the addresses.",
    405: "This address does not know this method; the Allow header lists those it knows.",
    412: "The order has changed since; read it again.",
    413: "The body is larger than 1 MiB.",
    500: "The server made a mistake; its log holds the reason.",
    503: "The server cannot answer now; try again in a moment.",
}


class FieldError(BaseModel):
    field: str
    message: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457); `code` is stable, `detail` is for people."""

    type: str = Field(examples=["urn:work-orders:problem:invalid_input"])
    title: str
    status: int
    detail: str
    code: str
    advice: str | None = Field(None, description="what to do next")
    errors: list[FieldError] | None = Field(None, description="for 422: the fields that are not acceptable")


@dataclass(frozen=True)
class Problem(Exception):
    """An error answer; raised where a request is refused before it reaches the services.

    `code` and `detail` follow the status where they are left empty; `challenge` is for `WWW-Authenticate`.
    """

    status: int
    detail: str = ""
    code: str = ""
    advice: str = ""
    errors: tuple[tuple[str, str], ...] = field(default=())
    challenge: str = ""

    def response(self) -> HttpResponse:
        code = self.code or _CODES.get(self.status, "error")
        document = {
            "type": f"urn:work-orders:problem:{code}",
            "title": code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail or _DETAILS.get(self.status, HTTPStatus(self.status).phrase + "."),
            "code": code,
        }
        if self.advice:
            document["advice"] = self.advice
        if self.errors:
            document["errors"] = [{"field": name, "message": message} for name, message in self.errors]
        response = HttpResponse(
            json.dumps(redact_value(document)), status=self.status, content_type=MEDIA_TYPE
        )
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            response["Retry-After"] = "5"
        if self.challenge or self.status == HTTPStatus.UNAUTHORIZED:
            response["WWW-Authenticate"] = self.challenge or CHALLENGE
        return response


def invalid(name: str, message: str) -> Problem:
    return Problem(422, f"{name}: {message}", errors=((name, message),))


def _expected(error: ExpectedError) -> Problem:
    if isinstance(error, RequestHoldsSecret):
        return replace(invalid(error.field, str(error)), code=error.category, advice=error.advice)
    if isinstance(error, InvalidInput):
        return invalid(error.field, str(error))
    if isinstance(error, NotFound):
        status = 404
    elif isinstance(error, ConflictError):
        status = 409
    else:
        status = 503 if error.retryable else 400
    return Problem(status, str(error), error.category, error.advice)


def _http(error: HttpError) -> Problem:
    if isinstance(error.__cause__, Problem):  # ninja wraps whatever the parser raised
        return error.__cause__
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        return Problem(401)
    return Problem(error.status_code, error.message)


def _validation(error: ValidationError) -> Problem:
    found = tuple(_field_error(item) for item in error.errors[:_MAX_ERRORS])
    detail = "; ".join(f"{name}: {message}" for name, message in found[:3])
    return Problem(422, detail, errors=found)


def _field_error(item: dict[str, Any]) -> tuple[str, str]:
    source, *place = item["loc"]
    name = ".".join(_plain(str(part)) for part in (place[1:] if source == "body" else place)) or str(source)
    if item["type"] == "extra_forbidden":
        return name, "is not a field of this request"
    if name == "body":
        return name, "must be a JSON object"
    return name, _plain(str(item["msg"]).removeprefix("Value error, "), 500)


def _plain(text: str, limit: int = 100) -> str:
    return text[:limit].encode("ascii", "replace").decode() if not text.isprintable() else text[:limit]


def _database(error: Exception) -> Problem:
    logger.error("api_database_unavailable", error=str(error)[:200])
    return Problem(503, "The database cannot be reached now; try again in a moment.", "database_unavailable")


def _unexpected(error: Exception) -> Problem:
    logger.error("api_request_failed", exc_info=error)
    return Problem(500)


_TABLE: tuple[tuple[type[Exception], Callable[[Any], Problem]], ...] = (
    (Problem, lambda error: error),
    (ExpectedError, _expected),
    (ValidationError, _validation),
    (HttpError, _http),
    (Http404, lambda _error: Problem(404)),
    (PermissionDenied, lambda _error: Problem(403)),
    (RequestDataTooBig, lambda _error: Problem(413)),
    (SuspiciousOperation, lambda error: Problem(400, str(error)[:200])),
    (UnreadablePostError, lambda _error: Problem(400, "The body ended early, or its chunks are malformed.")),
    (OperationalError, _database),
    (InterfaceError, _database),
    (Exception, _unexpected),
)
EXPECTED: tuple[type[Exception], ...] = tuple(kind for kind, _ in _TABLE if kind is not Exception)


def problem_of(error: Exception) -> Problem:
    """The first row of the table that fits."""
    return next(make(error) for kind, make in _TABLE if isinstance(error, kind))


def handle_with(api: NinjaAPI) -> None:
    """Answer every exception of the API's operations by the table."""

    def handler(_request: HttpRequest, error: Any) -> HttpResponse:
        return problem_of(error).response()

    for kind, _make in _TABLE:
        api.add_exception_handler(kind, handler)


def as_problem(response: HttpResponseBase) -> HttpResponseBase:
    """An error page somebody else made, as a problem; everything else as it is."""
    if response.status_code < HTTPStatus.BAD_REQUEST or response["Content-Type"].startswith(MEDIA_TYPE):
        return response
    answer = Problem(response.status_code).response()
    _copy_headers(response, answer, ("Allow", "Retry-After", "ETag", "WWW-Authenticate"))
    return answer


def _copy_headers(source: HttpResponseBase, target: HttpResponse, names: Iterable[str]) -> None:
    for name in names:
        if name in source.headers:
            target[name] = source[name]
