"""One Idempotency-Key, one effect: repeated, with another body, and twenty at once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from tests.api.conftest import BODY, Api, problem
from tests.factories import make_order
from workorders.models import AgentPrompt, AgentWorkOrder, IdempotencyRecord


@pytest.mark.django_db
def test_the_same_key_and_body_gives_the_first_answer_again(api: Api) -> None:
    first = api.create(headers={"Idempotency-Key": "k1"})
    again = api.create(headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert (again["Location"], again["ETag"]) == (first["Location"], first["ETag"])
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert AgentWorkOrder.objects.count() == 1


@pytest.mark.django_db
def test_a_repeat_is_the_first_answer_to_the_byte(api: Api) -> None:
    first = api.create(headers={"Idempotency-Key": "k1"})
    record = IdempotencyRecord.objects.get()
    order = dict(reversed(record.response_body.pop("agent_work_order").items()))
    record.response_body["agent_work_order"] = order  # Postgres keeps an order of its own
    record.save()
    assert api.create(headers={"Idempotency-Key": "k1"}).content == first.content


@pytest.mark.django_db
def test_the_same_key_with_another_body_or_path_is_a_conflict(api: Api) -> None:
    api.create(headers={"Idempotency-Key": "k1"})
    document = problem(api.create(headers={"Idempotency-Key": "k1"}, initial_prompt="other"), 409)
    assert document["code"] == "idempotency_key_reused"
    one, other = make_order(), make_order()
    body = {"prompt_text": "x"}
    assert api.post(f"/agent-work-orders/{one}/prompt", body, {"Idempotency-Key": "k1"}).status_code == 200
    problem(api.post(f"/agent-work-orders/{other}/prompt", body, {"Idempotency-Key": "k1"}), 409)
    assert AgentPrompt.objects.count() == 1


@pytest.mark.django_db
def test_a_refused_request_leaves_its_key_unused(api: Api) -> None:
    problem(api.create(headers={"Idempotency-Key": "k1"}, sandbox_type="e2b"), 422)
    assert IdempotencyRecord.objects.count() == 0
    assert api.create(headers={"Idempotency-Key": "k1"}).status_code == 201


@pytest.mark.django_db
def test_prompt_cancel_and_retry_are_done_once(api: Api) -> None:
    order = make_order()
    for verb, body, status in (
        ("prompt", {"prompt_text": "x"}, 200),
        ("cancel", None, 202),
        ("retry", None, 202),
    ):
        key = {"Idempotency-Key": f"key of {verb}"}
        first = api.post(f"/agent-work-orders/{order}/{verb}", body, key)
        again = api.post(f"/agent-work-orders/{order}/{verb}", body, key)
        assert first.status_code == again.status_code == status
        assert first.json() == again.json()
    assert AgentPrompt.objects.count() == 1


@pytest.mark.django_db
def test_keys_belong_to_their_user(settings: Any) -> None:
    settings.WORKORDERS_AUTH = "required"
    for name in ("ann", "ben"):
        client = Client()
        client.force_login(User.objects.create_user(name))
        headers = {"Idempotency-Key": "same"}
        response = client.post(
            "/api/agent-work-orders", json.dumps(BODY), content_type="application/json", headers=headers
        )
        assert response.status_code == 201
    assert set(AgentWorkOrder.objects.values_list("created_by__username", flat=True)) == {"ann", "ben"}


@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_create_one_order() -> None:
    together = threading.Barrier(20)

    def post(_number: int) -> tuple[int, Any]:
        together.wait(30)
        try:
            response = Api(Client()).create(headers={"Idempotency-Key": "at once"})
            return response.status_code, response.json()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert {status for status, _body in answers} == {201}
    assert len({json.dumps(body, sort_keys=True) for _status, body in answers}) == 1
    assert AgentWorkOrder.objects.count() == 1
