"""The admin: everything can be read, nothing edited, and the two actions go through the services."""

from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests.factories import make_log, make_order, make_run
from workorders.admin import https_link
from workorders.models import AgentWorkOrder, ApiKey, IdempotencyRecord, WorkerProcess
from workorders.services import api_keys
from workorders.services import work_orders as services

pytestmark = pytest.mark.django_db
MODELS: list[type[Model]] = [model for model in site._registry if model.__module__.startswith("workorders.")]


def address(model: type[Model], page: str, *arguments: Any) -> str:
    return reverse(f"admin:workorders_{model._meta.model_name}_{page}", args=arguments)


def rich_order() -> AgentWorkOrder:
    order = make_order(github_pull_request_url="https://github.com/o/r/pull/3", github_pull_request_number=3)
    make_run(order)
    make_log(order, "one", "two")
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="<b>more</b>", by="ann")
    return order


def rows() -> None:
    rich_order().effects.create(kind="comment", key="#1")
    number = IdempotencyRecord.objects.count()
    IdempotencyRecord.objects.create(
        endpoint="x", key=str(number), body_sha256="", response_status=200, response_body={}
    )
    user, _made = User.objects.get_or_create(username="owner")
    api_keys.create_api_key(user=user, name="ci", scope="read", lifetime_days=None, by="test")
    now = timezone.now()
    WorkerProcess.objects.create(
        name=f"w{number}", host="h", version="1", share=1, started_at=now, last_beat_at=now
    )


def cost(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def test_all_nine_are_there() -> None:
    assert len(MODELS) == 9


@pytest.mark.parametrize("model", MODELS)
def test_pages_open_at_constant_cost_and_nothing_can_be_edited(
    admin_client: Client, model: type[Model]
) -> None:
    rows()
    listing = address(model, "changelist")
    client = admin_client
    cost(client, listing)
    before = cost(client, listing)
    for _ in range(5):
        rows()
    assert cost(client, listing) == before
    assert client.get(listing, {"q": "x"}).status_code == 200
    one = model._default_manager.first()
    assert one is not None
    change = address(model, "change", one.pk)
    page = client.get(change)
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert client.post(change, {}).status_code == 403
    assert client.get(address(model, "add")).status_code == 403
    assert client.post(address(model, "delete", one.pk), {"post": "yes"}).status_code == 403


def test_the_order_page_shows_its_history_bounded_and_escaped(admin_client: Client) -> None:
    order = rich_order()
    path = address(AgentWorkOrder, "change", order.pk)
    cost(admin_client, path)
    before = cost(admin_client, path)
    make_log(order, *(f"event_{number}" for number in range(200)))
    assert cost(admin_client, path) == before
    page = admin_client.get(path).content.decode()
    assert "&lt;b&gt;more&lt;/b&gt;" in page
    assert "<b>more</b>" not in page
    assert "event_199" in page
    assert "event_100" not in page
    assert 'href="https://github.com/o/r/pull/3"' in page
    listing = f"/admin/workorders/workorderlog/?agent_work_order__id__exact={order.pk}"
    assert listing in page
    assert admin_client.get(listing).status_code == 200


def act(client: Client, action: str, *orders: AgentWorkOrder) -> str:
    response = client.post(
        address(AgentWorkOrder, "changelist"),
        {"action": action, "_selected_action": [order.pk for order in orders]},
        follow=True,
    )
    return str(response.content.decode())


def test_actions_report_each_order(admin_client: Client) -> None:
    active, failed = make_order(), make_order(status="failed")
    page = act(admin_client, "cancel", active, failed)
    assert f"{active} is being cancelled." in page
    assert f"{failed}: The work order is already failed." in page
    page = act(admin_client, "retry", active, failed)
    assert f"{active} is queued again." in page
    assert f"{failed} is queued again." in page
    last = active.transitions.last()
    assert last is not None
    assert last.by == "admin"


def test_actions_need_the_permission_to_change(client: Client) -> None:
    order = make_order()
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_agentworkorder"))
    client.force_login(user)
    assert str(order) in act(client, "cancel", order)
    order.refresh_from_db()
    assert order.status == "pending"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://github.com/o/r", "", None])
def test_only_https_becomes_a_link(url: str | None) -> None:
    assert https_link(url, "#3") == "#3"


def test_keys_show_no_hash_and_can_be_revoked(admin_client: Client) -> None:
    rows()
    key = ApiKey.objects.get()
    assert key.secret_sha256 not in admin_client.get(address(ApiKey, "change", key.pk)).content.decode()
    form = {"action": "revoke", "_selected_action": [key.pk]}
    admin_client.post(address(ApiKey, "changelist"), form)
    key.refresh_from_db()
    assert key.state == "revoked"


def test_schedules_cannot_be_edited(admin_client: Client) -> None:
    """django-q2 calls whatever function a schedule names."""
    assert admin_client.get("/admin/django_q/schedule/").status_code == 200
    assert admin_client.get("/admin/django_q/schedule/add/").status_code == 403
    fields = {"name": "x", "func": "os.system", "args": "'id'", "schedule_type": "O", "repeats": "-1"}
    assert admin_client.post("/admin/django_q/schedule/add/", fields).status_code == 403
