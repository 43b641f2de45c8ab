"""HTTP answers of the API: JSON, ETag with 304, and one answer for one Idempotency-Key."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import get_conditional_response
from pydantic import BaseModel

from workorders.api.auth import caller_of
from workorders.api.problems import invalid
from workorders.reading.progress import WorkOrderAnswer
from workorders.services import work_orders as services

MAX_KEY_LENGTH = 200


class Versioned(Protocol):
    @property
    def etag(self) -> str: ...


def json_answer(value: BaseModel, *, status: int = 200) -> HttpResponse:
    return _json(value.model_dump(mode="json"), status)


def versioned_answer(request: HttpRequest, value: BaseModel, version: Versioned) -> HttpResponseBase:
    """The value with its ETag, or 304 where the caller has this version."""
    response = json_answer(value)
    response["ETag"] = version.etag
    response["Cache-Control"] = "private, no-cache"
    answer = get_conditional_response(request, etag=version.etag, response=response)
    return answer or response


def order_answer(answer: WorkOrderAnswer, *, status: int) -> services.Answer:
    return services.Answer(status, answer.model_dump(mode="json"))


def answer_once(
    request: HttpRequest, *, payload: BaseModel | None, produce: Callable[[], services.Answer]
) -> HttpResponse:
    """`produce()`, or its first answer again for a repeated Idempotency-Key. Keys belong to their caller."""
    caller = caller_of(request)
    body = {"path": request.path, "body": payload.model_dump(mode="json") if payload else None}
    answer = services.answer_once(
        endpoint=f"{_route(request)} {caller.user.pk if caller.user else ''}".strip(),
        key=_idempotency_key(request),
        body=body,
        produce=produce,
    )
    # Postgres keeps an order of its own: only sorted is the first answer what its repeats will be.
    response = _json(answer.body, answer.status, sort_keys=True)
    _describe_order(response, answer)
    if answer.repeated:
        response["Idempotent-Replayed"] = "true"
    return response


def _json(body: Mapping[str, Any], status: int, *, sort_keys: bool = False) -> HttpResponse:
    text = json.dumps(body, sort_keys=sort_keys)
    return HttpResponse(text, status=status, content_type="application/json; charset=utf-8")


def _describe_order(response: HttpResponse, answer: services.Answer) -> None:
    if "agent_work_order" not in answer.body:
        return
    order = WorkOrderAnswer.model_validate(answer.body).agent_work_order
    response["ETag"] = order.etag
    if answer.status == 201:
        response["Location"] = reverse("api:work-order", args=[order.agent_work_order_id])


def _route(request: HttpRequest) -> str:
    match = request.resolver_match
    return f"{request.method} {match.url_name if match else request.path[:100]}"


def _idempotency_key(request: HttpRequest) -> str:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise invalid("Idempotency-Key", f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters")
    return key
