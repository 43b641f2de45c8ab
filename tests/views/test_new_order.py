"""The form for a new work order, with and without HTMX."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_q.models import OrmQ

from github_app.models import Repository
from github_app.types import GitHubIssue
from tests.factories import make_order, make_repository
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
PAGE = "/work-orders/new/"
FIELDS = {
    "repository_url": "octo/spoon",
    "initial_prompt": "Add a flag",
    "sandbox_type": "git_branch",
    "workflow_type": "agent_workflow_plan_build_test",
}


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("a page started a process")

    monkeypatch.setattr("subprocess.Popen.__init__", refuse)


def submit(client: Client, headers: dict[str, str] | None = None, **changes: str) -> Any:
    return client.post(PAGE, {**FIELDS, **changes}, headers=headers or {})


def with_issues(*titles: str) -> Repository:
    row = make_repository(is_accessible=True, access_verified_at=timezone.now(), default_branch="trunk")
    issues = [
        GitHubIssue(
            issue_number=number,
            issue_title=title,
            issue_body="",
            issue_state="open",
            issue_url="",
            issue_labels=("bug",),
        )
        for number, title in enumerate(titles, 41)
    ]
    services.record_open_issues(repository_pk=row.pk, issues=issues)
    return row


def key_of(text: str) -> str:
    found = re.search(r'name="key" value="([^"]{20,})"', text)
    assert found
    return found[1]


def test_an_order_is_created_and_shown(client: Client) -> None:
    response = submit(client, github_issue_number="#42", base_branch="develop", model="opus")
    order = AgentWorkOrder.objects.get()
    assert response["Location"] == f"/work-orders/{order.agent_work_order_id}/"
    assert (order.github_issue_number, order.base_branch, order.model) == ("42", "develop", "opus")
    assert order.repository.full_name == "octo/spoon"
    assert order.transitions.get().by == "page"
    assert OrmQ.objects.count() == 1


def test_htmx_is_sent_to_the_order(client: Client) -> None:
    response = submit(client, HTMX)
    order = AgentWorkOrder.objects.get()
    assert response["HX-Redirect"] == f"/work-orders/{order.agent_work_order_id}/"


def test_the_signed_in_person_is_kept(client: Client, settings: Any, django_user_model: type[User]) -> None:
    settings.WORKORDERS_AUTH = "required"
    assert submit(client).status_code == 302
    assert not AgentWorkOrder.objects.exists()
    ada = django_user_model.objects.create_user("ada")
    client.force_login(ada)
    submit(client)
    order = AgentWorkOrder.objects.get()
    assert (order.created_by, order.transitions.get().by) == (ada, "ada")


def test_a_connected_repository_and_a_picked_issue(client: Client) -> None:
    row = with_issues("Broken")
    submit(client, repository=str(row.pk), repository_url="", issue="41", initial_prompt="")
    order = AgentWorkOrder.objects.get()
    assert (order.repository, order.github_issue_number) == (row, "41")


def test_what_is_typed_wins_over_what_is_picked(client: Client) -> None:
    row = with_issues("Broken")
    submit(client, repository=str(row.pk), repository_url="octo/other", issue="41", github_issue_number="7")
    order = AgentWorkOrder.objects.get()
    assert (order.repository.full_name, order.github_issue_number) == ("octo/other", "7")


def test_a_prompt_keeps_its_lines(client: Client) -> None:
    submit(client, initial_prompt="one\r\ntwo\x1b[0m")
    assert AgentWorkOrder.objects.get().initial_prompt == "one\ntwo[0m"


@pytest.mark.parametrize("headers", [{}, HTMX])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repository_url", "nonsense"),
        ("repository_url", "x" * 513),
        ("github_issue_number", "abc"),
        ("github_issue_number", "0"),
        ("base_branch", "..x"),
        ("model", "-x y"),
        ("initial_prompt", "x" * 100_001),
        ("sandbox_type", "cloud"),
        ("sandbox_type", "e2b"),
        ("sandbox_type", "dagger"),
        ("sandbox_type", ""),
        ("workflow_type", "x"),
        ("workflow_type", ""),
    ],
)
def test_a_field_that_is_no_good_is_said_beside_it(
    client: Client, field: str, value: str, headers: dict[str, str]
) -> None:
    response = submit(
        client, headers, **{"initial_prompt": "Typed <text>", "model": "kept-model", field: value}
    )
    assert response.status_code == 422
    text = response.content.decode()
    assert f'id="id_{field}_error"' in text
    assert f'href="#id_{field}"' in text
    described = " ".join(re.findall(r'aria-describedby="([^"]*)"', text)).split()
    assert f"id_{field}_error" in described
    assert "Typed &lt;text&gt;" in text or field == "initial_prompt"
    assert 'value="kept-model"' in text or field == "model"
    assert ("<html" in text) is not bool(headers)
    assert not AgentWorkOrder.objects.exists()


def test_unavailable_sandboxes_cannot_be_chosen_and_say_why(client: Client) -> None:
    text = client.get(PAGE).content.decode()
    assert re.search(r'value="e2b" disabled', text)
    assert "E2B_API_KEY" in text
    assert "E2B_API_KEY" in submit(client, sandbox_type="e2b").content.decode()


def test_something_must_be_asked_for(client: Client) -> None:
    assert submit(client, initial_prompt=" ").status_code == 422
    assert submit(client, repository_url="").status_code == 422
    assert submit(client, initial_prompt="", workflow_type="agent_workflow_test").status_code == 302


def test_a_local_repository_has_no_issue(client: Client) -> None:
    response = submit(client, repository_url="/srv/git/a.git", github_issue_number="4")
    assert response.status_code == 422
    assert "has no GitHub issues" in response.content.decode()


def test_a_repository_that_was_never_connected_is_refused(client: Client) -> None:
    response = submit(client, repository="999", repository_url="")
    assert response.status_code == 422
    assert not AgentWorkOrder.objects.exists()


def test_a_second_submission_makes_no_second_order(client: Client) -> None:
    key = key_of(client.get(PAGE).content.decode())
    first, again = submit(client, key=key), submit(client, HTMX, key=key)
    assert AgentWorkOrder.objects.count() == 1
    assert first["Location"] == again["HX-Redirect"]
    changed = submit(client, key=key, initial_prompt="Something else")
    assert changed.status_code == 422
    assert "already created" in changed.content.decode()
    new = key_of(changed.content.decode())
    assert new != key
    assert submit(client, key=new, initial_prompt="Something else").status_code == 302
    assert AgentWorkOrder.objects.count() == 2


def test_a_refused_form_leaves_its_key_usable(client: Client) -> None:
    assert submit(client, key="k" * 24, base_branch="..").status_code == 422
    assert submit(client, key="k" * 24).status_code == 302


@pytest.mark.parametrize("named", ["pk", "https://github.com/Octo/Spoon.git", "octo/spoon"])
def test_prefill_from_a_link(client: Client, named: str) -> None:
    row = with_issues("Broken")
    text = client.get(
        PAGE, {"repository": row.pk if named == "pk" else named, "issue": "41"}
    ).content.decode()
    assert f'<option value="{row.pk}" selected>' in text
    assert re.search(r'id="issue-41" value="41" data-fills="id_github_issue_number" checked', text)
    assert re.search(r'name="github_issue_number" value="41"', text)
    assert "trunk" in text


def test_prefill_with_an_unknown_repository_makes_no_row(client: Client) -> None:
    text = client.get(PAGE, {"repository": "octo/new"}).content.decode()
    assert 'value="https://github.com/octo/new"' in text
    for value in ("999999", "9" * 40, '"><script>', "²"):
        assert client.get(PAGE, {"repository": value, "issue": '"><script>'}).status_code == 200
    assert not Repository.objects.exists()


def test_choosing_a_repository_shows_its_issues_and_defaults_and_keeps_the_rest(client: Client) -> None:
    row = with_issues("Broken")
    Repository.objects.update(default_sandbox_type="git_worktree")
    response = submit(
        client, HTMX, action="choose", repository=str(row.pk), repository_url="", model="..typed"
    )
    text = response.content.decode()
    assert response.status_code == 200
    for part in ("Broken", "Add a flag", "..typed"):
        assert part in text
    assert re.search(r'value="git_worktree" checked', text)
    assert "error-summary" not in text
    assert not AgentWorkOrder.objects.exists()
    assert not OrmQ.objects.exists()


def test_refreshing_issues_queues_and_polls(client: Client) -> None:
    row = with_issues("Broken")
    text = submit(client, action="refresh", repository=str(row.pk), repository_url="").content.decode()
    assert "Asking GitHub" in text
    assert OrmQ.objects.count() == 1
    poll = f"/repositories/{row.pk}/issues/?shown=pending&github_issue_number=42"
    assert client.get(poll, headers=HTMX).status_code == 204
    services.record_open_issues(
        repository_pk=row.pk,
        issues=[
            GitHubIssue(
                issue_number=42,
                issue_title="<img src=x>\x1b[1m",
                issue_body="",
                issue_state="open",
                issue_url="",
            )
        ],
    )
    text = client.get(poll, headers=HTMX).content.decode()
    assert 'hx-trigger="poll"' not in text
    assert 'id="issue-42" value="42" data-fills="id_github_issue_number" checked' in text
    assert "<img" not in text
    assert "\x1b" not in text


def asks_by_itself(client: Client, row: Repository) -> bool:
    """Whether the prefilled page asks for the issues as soon as it is open; getting it must ask for nothing."""
    text = client.get(PAGE, {"repository": row.pk}).content.decode()
    assert not OrmQ.objects.exists()
    return 'hx-trigger="load"' in text


def test_issues_that_are_missing_or_old_are_asked_for_by_the_open_page(client: Client) -> None:
    assert asks_by_itself(client, make_repository())
    row = with_issues("Broken")
    assert not asks_by_itself(client, row)
    Repository.objects.update(issues_fetched_at=timezone.now() - timedelta(hours=1))
    assert asks_by_itself(client, row)
    Repository.objects.update(issues_error="No answer.")
    assert not asks_by_itself(client, row)
    Repository.objects.update(issues_error="", issues_fetched_at=None)
    answer = submit(client, HTMX, action="refresh", repository=str(row.pk), repository_url="")
    assert 'hx-trigger="poll"' in answer.content.decode()
    assert 'hx-trigger="load"' not in answer.content.decode()


def test_a_failed_refresh_says_why(client: Client) -> None:
    row = with_issues()
    services.record_open_issues(repository_pk=row.pk, issues=None, error_message="No <token>.")
    text = client.get(PAGE, {"repository": row.pk}).content.decode()
    assert "No &lt;token&gt;." in text


def test_the_form_is_usable_without_looking(client: Client) -> None:
    make_order()
    text = client.get(PAGE).content.decode()
    assert len(re.findall("<legend", text)) == 2
    ids = set(re.findall(r'\sid="([^"]+)"', text))
    assert set(re.findall(r'<label[^>]* for="([^"]+)"', text)) <= ids
    assert len(re.findall("<h1", text)) == 1
    assert "New work order</title>" in text


# --- pasted links ---

LINK = "https://github.com/octo/spoon/issues/42#issuecomment-7"


@pytest.mark.parametrize(
    "changes",
    [
        {"repository_url": LINK},
        {"repository_url": LINK, "initial_prompt": ""},
        {"repository_url": LINK, "issue": "7"},
        {"repository_url": "octo/spoon#42"},
        {"repository_url": "", "repository": "", "github_issue_number": LINK, "initial_prompt": ""},
        {"repository_url": "octo/spoon", "github_issue_number": LINK},
        {"repository_url": "octo/spoon", "github_issue_number": "OCTO/Spoon#42"},
    ],
    ids=range(7),
)
def test_a_pasted_issue_link_fills_repository_and_issue(client: Client, changes: dict[str, str]) -> None:
    form = {
        "workflow_type": "agent_workflow_build",
        "sandbox_type": "git_branch",
        "initial_prompt": "x",
        **changes,
    }
    assert client.post(PAGE, form).status_code == 302
    order = AgentWorkOrder.objects.get()
    assert (order.repository.full_name, order.github_issue_number) == ("octo/spoon", "42")
    assert order.repository_url == "https://github.com/octo/spoon"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repository_url": LINK, "github_issue_number": "41"}, "names issue #42, and this is #41"),
        (
            {"repository_url": "octo/fork", "github_issue_number": LINK},
            "one of octo/spoon, and the repository",
        ),
        ({"repository_url": "https://github.com/octo/spoon/pull/3"}, "#3 is a pull request of octo/spoon"),
        (
            {"repository_url": "octo/spoon", "github_issue_number": "https://github.com/octo/spoon/pull/3"},
            "is a pull",
        ),
        ({"repository_url": "octo/spoon", "github_issue_number": "octo/spoon"}, "names no issue"),
        (
            {"repository_url": "octo/spoon", "github_issue_number": "https://evil.example/o/r/issues/1"},
            "works with",
        ),
    ],
    ids=range(6),
)
def test_a_link_that_contradicts_the_rest_is_refused_in_words(
    client: Client, changes: dict[str, str], words: str
) -> None:
    form = {
        "workflow_type": "agent_workflow_build",
        "sandbox_type": "git_branch",
        "initial_prompt": "x",
        **changes,
    }
    answer = client.post(PAGE, form)
    assert answer.status_code == 422
    assert words in unescape(answer.content.decode())
    assert not AgentWorkOrder.objects.exists()


def test_a_link_in_the_address_fills_the_form(client: Client) -> None:
    answer = client.get(PAGE, {"repository": LINK})
    text = answer.content.decode()
    assert 'value="https://github.com/octo/spoon"' in text
    assert 'value="42"' in text
