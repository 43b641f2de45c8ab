"""What ninja cannot tell of the endpoints in the OpenAPI description: headers, and the problems each may answer."""

from http import HTTPStatus
from typing import Any

from ninja.openapi.schema import OpenAPISchema

from workorders.api.problems import MEDIA_TYPE, ProblemDocument

_SCHEMA = "#/components/schemas/{model}"
_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "maxLength": 200},
    "required": False,
    "description": "The same key and body gives the first answer again; with another body it is a 409.",
}
_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "schema": {"type": "string"},
    "required": False,
    "description": "ETags the caller has; answers 304 where one of them is current.",
}


def _header(description: str, *, required: bool = True) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"}}


_HEADERS = {
    "ETag": _header("The version of what is answered, for If-None-Match."),
    "Location": _header("The order's address."),
    "Idempotent-Replayed": _header("`true` where this is the first answer again.", required=False),
}
_PROBLEM_HEADERS = {
    401: {"WWW-Authenticate": _header("How to sign in.")},
    403: {"WWW-Authenticate": _header("What the API key lacks.", required=False)},
    503: {"Retry-After": _header("Seconds to wait.")},
}
_VERSION = {"headers": {"ETag": _HEADERS["ETag"]}}
VERSIONED = {
    "parameters": [_NONE_MATCH],
    "responses": {200: _VERSION, 304: {"description": "Not changed", **_VERSION}},
}


def once(status: int, *headers: str) -> dict[str, Any]:
    """The `openapi_extra` of an operation that knows `Idempotency-Key` and sends these headers with `status`."""
    sent = {name: _HEADERS[name] for name in (*headers, "Idempotent-Replayed")}
    return {"parameters": [_KEY], "responses": {status: {"headers": sent}}}


def add_problems(schema: OpenAPISchema) -> None:
    """Name the problem document as the answer of each error an operation knows, and of any other."""
    document = ProblemDocument.model_json_schema(ref_template=_SCHEMA)
    schema["components"]["schemas"].update(document.pop("$defs", {}), ProblemDocument=document)
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for status in _statuses(path, method, operation):
                operation["responses"][status] = _problem(
                    HTTPStatus(status).phrase, _PROBLEM_HEADERS.get(status, {})
                )
            operation["responses"]["default"] = _problem("An error", {})


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    found = {400, 401, 403, 413, 503}  # what may befall any request
    if "{agent_work_order_id}" in path:
        found |= {404}
    if method == "post":
        found |= {409, 422}
    if "requestBody" in operation:
        found |= {415}
    if any(parameter["in"] == "query" for parameter in operation["parameters"]):
        found |= {422}
    return sorted(found)


def _problem(description: str, headers: dict[str, Any]) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": _SCHEMA.format(model="ProblemDocument")}}}
    return {"description": description, "content": content, "headers": headers}
