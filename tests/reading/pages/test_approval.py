"""How people see and decide what waits for them: page, form without scripts, API, command, admin, repository page."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from github_app.models import Repository
from tests.factories import make_order, make_repository
from tests.reading.pages.order_rows import add_files
from workorders.domain.errors import InvalidInput
from workorders.domain.states import WaitingReason
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services
from workorders.workflow_engine.claims.lease import claim_steps, has_claimable_steps

pytestmark = pytest.mark.django_db
SHA = "c" * 40
WORKFLOW = ".github/workflows/ci.yml"


def waiting(**values: Any) -> AgentWorkOrder:
    order = make_order(
        status="running",
        waiting_reason=WaitingReason.APPROVAL_REQUIRED,
        waiting_message="The commit changes protected paths.",
        claimable_at=None,
        approval_sha=SHA,
        approval_paths=[
            {"path": WORKFLOW, "commit_sha": SHA},
            {"path": ".gitmodules", "commit_sha": "d" * 40},
        ],
        preferred_host="one",
        **values,
    )
    add_files(order, WORKFLOW, "other.py")
    return order


def page_of(client: Client, order: AgentWorkOrder) -> str:
    return str(client.get(reverse("work-order", args=[order])).content.decode())


def test_the_page_shows_what_is_asked_and_takes_the_answer_without_scripts(client: Client) -> None:
    order = waiting()
    page = page_of(client, order)
    panel = page.split('id="order-approval"')[1].split('id="order-phases"')[0]
    assert f'name="git_commit_sha" value="{SHA}"' in panel
    assert "x = 2" in panel
    assert ".gitmodules" in panel
    assert "this one would be pushed too" in panel
    assert reverse("work-order-cancel", args=[order]) in page
    assert 'href="#prompt-text"' in page
    address = reverse("work-order-approve", args=[order])
    assert Client(enforce_csrf_checks=True).post(address, {"git_commit_sha": SHA}).status_code == 403
    assert client.get(address).status_code == 405
    wrong = client.post(address, {"git_commit_sha": "e" * 40}, follow=True).content.decode()
    assert "The commit that waits is" in wrong
    assert not has_claimable_steps("one")
    after = client.post(address, {"git_commit_sha": SHA}, follow=True).content.decode()
    assert "The commit is approved" in after
    assert 'id="order-approval"' not in after
    assert 'id="order-approved"' in after


def test_hostile_paths_are_only_text(client: Client) -> None:
    order = waiting()
    path = '<script>alert(1)</script>"\x1b[31m'
    AgentWorkOrder.objects.filter(pk=order.pk).update(approval_paths=[{"path": path, "commit_sha": SHA}])
    page = page_of(client, order)
    assert "<script>alert" not in page
    assert "\x1b" not in page


def test_the_api(client: Client) -> None:
    order = waiting()
    address = f"/api/agent-work-orders/{order}"
    shown = client.get(address).json()["agent_work_order"]
    assert (shown["waiting_reason"], shown["approval_sha"]) == ("approval_required", SHA)
    assert shown["approval_paths"][0] == {"path": WORKFLOW, "commit_sha": SHA}

    def approve(body: object) -> Any:
        return client.post(f"{address}/approve", body, content_type="application/json")

    assert approve({"git_commit_sha": SHA[:12]}).status_code == 422
    assert approve({}).status_code == 422
    assert approve({"git_commit_sha": "e" * 40}).status_code == 409
    answer = approve({"git_commit_sha": SHA})
    assert answer.status_code == 202
    body = answer.json()["agent_work_order"]
    assert (body["approved_sha"], body["waiting_reason"]) == (SHA, None)
    assert approve({"git_commit_sha": SHA}).status_code == 409
    unknown = client.post(
        "/api/agent-work-orders/wo-aaaaaaaa/approve", {"git_commit_sha": SHA}, content_type="application/json"
    )
    assert unknown.status_code == 404


def test_the_command() -> None:
    order = waiting()
    out = io.StringIO()
    call_command("show_work_order", str(order), stdout=out)
    assert SHA in out.getvalue()
    with pytest.raises(CommandError, match="The commit that waits"):
        call_command("approve_work_order", str(order), "--sha", "e" * 40)
    call_command("approve_work_order", str(order), "--sha", SHA, stdout=out)
    order.refresh_from_db()
    assert (order.approved_sha, order.approved_by) == (SHA, "command")


def test_the_admin(client: Client) -> None:
    order = waiting()
    client.force_login(User.objects.create_superuser("root"))
    address = reverse("admin:workorders_agentworkorder_changelist")
    client.post(address, {"action": "approve", "_selected_action": [order.pk]})
    order.refresh_from_db()
    assert (order.approved_sha, order.approved_by) == (SHA, "root")


def test_cancelling_and_prompting_end_the_wait() -> None:
    cancelled = services.cancel_agent_work_order(agent_work_order_id=str(waiting()), by="ann")
    assert (cancelled.status, cancelled.waiting_reason) == ("cancelled", "")
    order = waiting()
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="Undo it", by="ann")
    order.refresh_from_db()
    assert (order.waiting_reason, order.approval_sha) == ("", SHA)
    assert order.claimable_at is not None


def test_the_host_that_has_the_commits_goes_first_but_not_for_ever() -> None:
    order = waiting()
    services.approve_agent_work_order(agent_work_order_id=str(order), sha=SHA, by="ann")
    assert (has_claimable_steps("one"), has_claimable_steps("two")) == (True, False)
    assert claim_steps(owner="two:1:1", lease_seconds=30, limit=5) == []
    order.refresh_from_db()
    assert order.claimable_at is not None
    AgentWorkOrder.objects.filter(pk=order.pk).update(claimable_at=order.claimable_at.replace(year=2020))
    assert len(claim_steps(owner="two:1:1", lease_seconds=30, limit=5)) == 1


def test_the_repositorys_protected_paths_are_set_on_its_page_and_in_the_admin(client: Client) -> None:
    row = make_repository()
    page = client.get(reverse("repository", args=[row.pk])).content.decode()
    assert ".github/workflows/**\n.gitmodules</textarea>" in page
    address = reverse("repository-protected-paths", args=[row.pk])
    refused = client.post(address, {"protected_paths": "../x"})
    assert refused.status_code == 422
    assert "no path inside a repository" in refused.content.decode()
    client.post(address, {"protected_paths": "deploy/**\r\n\r\n# why\r\nMakefile"})
    row.refresh_from_db()
    assert row.protected_paths == "deploy/**\nMakefile"
    with pytest.raises(InvalidInput):
        services.update_protected_paths(repository_pk=row.pk, protected_paths="!x", by="ann")
    client.force_login(User.objects.create_superuser("root"))
    admin = reverse("admin:github_app_repository_change", args=[row.pk])
    assert "no path inside" in client.post(admin, {"protected_paths": "a//b"}).content.decode()
    client.post(admin, {"protected_paths": "infra/**"})
    assert Repository.objects.get(pk=row.pk).protected_paths == "infra/**"
