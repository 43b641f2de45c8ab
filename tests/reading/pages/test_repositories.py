"""Connecting, verifying and configuring repositories; the worker's side is replaced at the wiring."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from github_app.errors import GitHubRateLimited, GitHubTokenInvalid, GitHubUnavailable, RepositoryNotFound
from github_app.models import OpenIssue, Repository
from github_app.references import RepositoryReference
from github_app.types import GitHubIssue, GitHubRepository
from sandboxes.errors import ExpectedError
from tests.factories import make_order, make_repository
from workorders import tasks
from workorders.domain.errors import InvalidInput
from workorders.services import work_orders as services

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
PAGE = "/repositories/"


class GitHubSays:
    """Stands for the wiring's questions to GitHub."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.changes: dict[str, Any] = {}
        self.issues: tuple[GitHubIssue, ...] = ()

    def verify(self, reference: RepositoryReference) -> GitHubRepository:
        self.asked.append(reference.full_name)
        if self.error:
            raise self.error
        values = {"default_branch": "trunk", "is_accessible": True, "can_push": True, **self.changes}
        return GitHubRepository(
            repository_owner=reference.owner,
            repository_name=reference.name,
            repository_url=reference.repository_url,
            **values,
        )

    def list_issues(self, repository_url: str) -> tuple[GitHubIssue, ...]:
        self.asked.append(repository_url)
        if self.error:
            raise self.error
        return self.issues


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> GitHubSays:
    says = GitHubSays()
    monkeypatch.setattr("workorders.wiring.verify_repository", says.verify)
    monkeypatch.setattr("workorders.wiring.open_issues", says.list_issues)
    return says


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("a page started a process")

    monkeypatch.setattr("subprocess.Popen.__init__", refuse)


def issue(number: int, title: str = "Broken", labels: tuple[str, ...] = ()) -> GitHubIssue:
    return GitHubIssue(
        issue_number=number, issue_title=title, issue_body="", issue_state="open", issue_url="", issue_labels=labels
    )  # fmt: skip


def ready(**changes: Any) -> Repository:
    values = {"is_accessible": True, "can_push": True, "access_verified_at": timezone.now()}
    return make_repository(**{**values, "default_branch": "trunk", **changes})


def connect(client: Client, text: str, **headers: str) -> Any:
    return client.post(PAGE, {"repository_url": text}, headers=headers)


def state(client: Client, row: Repository, **query: str) -> Any:
    return client.get(f"{PAGE}{row.pk}/state/", query, headers=HTMX)


def test_connecting_keeps_the_row_and_queues_the_verification(client: Client, github: GitHubSays) -> None:
    assert connect(client, "https://github.com/octo/spoon.git")["Location"] == PAGE
    row = Repository.objects.get()
    assert row.verification_requested_at
    assert OrmQ.objects.count() == 1
    assert github.asked == []
    text = client.get(PAGE).content.decode()
    assert "verifying" in text
    assert 'hx-trigger="poll"' in text
    assert state(client, row, shown="pending").status_code == 204


def test_connecting_by_htmx_answers_the_list(client: Client) -> None:
    text = connect(client, "octo/spoon", **HTMX).content.decode()
    assert text.strip().startswith('<div id="repositories"')
    assert "octo/spoon" in text


def test_connecting_twice_asks_once(client: Client) -> None:
    connect(client, "octo/spoon")
    connect(client, "Octo/Spoon")
    assert (Repository.objects.count(), OrmQ.objects.count()) == (1, 1)


@pytest.mark.parametrize("headers", [{}, HTMX])
@pytest.mark.parametrize("text", ["", "nonsense", "https://gitlab.com/o/r", "<script>x</script>", "x" * 600])
def test_what_is_no_reference_is_refused_beside_the_field(
    client: Client, text: str, headers: dict[str, str]
) -> None:
    response = connect(client, text, **headers)
    assert response.status_code == 422
    page = response.content.decode()
    assert 'aria-invalid="true"' in page
    assert 'id="id_repository_url_error"' in page
    assert "<script>x" not in page
    assert not Repository.objects.exists()


def test_the_worker_verifies_and_asks_for_the_issues(client: Client, github: GitHubSays) -> None:
    connect(client, "octo/spoon")
    row = Repository.objects.get()
    tasks.verify_repository(row.pk)
    tasks.verify_repository(row.pk)
    assert github.asked == ["octo/spoon"]
    row.refresh_from_db()
    assert row.verification_requested_at is None
    assert row.issues_requested_at
    text = state(client, row, shown="pending").content.decode()
    for part in ("connected", "trunk", "can push", "public", "verified"):
        assert part in text
    assert "poll" not in text


def test_a_failed_verification_says_what_to_do(client: Client, github: GitHubSays) -> None:
    github.error = RepositoryNotFound("octo/spoon: <b>not</b> found.")
    connect(client, "octo/spoon")
    row = Repository.objects.get()
    tasks.verify_repository(row.pk)
    text = state(client, row).content.decode()
    assert "not accessible" in text
    assert "&lt;b&gt;not&lt;/b&gt; found." in text
    assert "Check owner and name" in text
    assert "poll" not in text
    assert client.post(f"{PAGE}{row.pk}/verify/")["Location"] == f"{PAGE}{row.pk}/"
    github.error = None
    tasks.verify_repository(row.pk)
    row.refresh_from_db()
    assert (row.is_accessible, row.verification_error) == (True, "")


def test_advice_for_the_engine_is_not_given_to_people(client: Client, github: GitHubSays) -> None:
    github.error = GitHubUnavailable("GitHub was not reached.")
    connect(client, "octo/spoon")
    row = Repository.objects.get()
    tasks.verify_repository(row.pk)
    assert "GitHub was not reached. Try again in a moment." in state(client, row).content.decode()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            GitHubUnavailable("GitHub is not available (503)"),
            "GitHub is not available (503). Try again in a moment.",
        ),
        (GitHubRateLimited("Asked to wait.", retry_after_seconds=1800), "Asked to wait. Try again at "),
        (GitHubRateLimited("Asked to wait.", retry_after_seconds=20), "Asked to wait. Try again in 20 s."),
    ],
)
def test_no_answer_says_nothing_of_a_repository(
    client: Client, github: GitHubSays, error: ExpectedError, words: str
) -> None:
    connect(client, "octo/spoon")
    row = Repository.objects.get()
    tasks.verify_repository(row.pk)
    client.post(f"{PAGE}{row.pk}/verify/")
    github.error = error
    tasks.verify_repository(row.pk)
    row.refresh_from_db()
    assert (row.is_accessible, row.can_push, row.verification_unanswered) == (True, True, True)
    text = state(client, row).content.decode()
    for part in ("connected", "can push", "It could not be checked just now", words):
        assert part in text
    assert "not accessible" not in text
    assert "Not verified" not in client.get("/work-orders/new/", {"repository": row.pk}).content.decode()
    client.post(f"{PAGE}{row.pk}/verify/")
    github.error = RepositoryNotFound("octo/spoon: not found.")
    tasks.verify_repository(row.pk)
    row.refresh_from_db()
    assert (row.is_accessible, row.can_push, row.verification_unanswered) == (False, False, False)


def test_a_repository_that_was_never_seen_is_not_called_inaccessible_without_an_answer(
    client: Client, github: GitHubSays
) -> None:
    github.error = GitHubUnavailable("GitHub is not available (503)")
    connect(client, "octo/spoon")
    tasks.verify_repository(Repository.objects.get().pk)
    text = state(client, Repository.objects.get()).content.decode()
    assert "not verified yet" in text
    assert "not accessible" not in text


def test_a_repository_that_can_only_be_read_says_so(client: Client, github: GitHubSays) -> None:
    github.changes = {"can_push": False, "push_obstacle": "It is archived.", "push_advice": "Unarchive it."}
    connect(client, "octo/spoon")
    row = Repository.objects.get()
    tasks.verify_repository(row.pk)
    text = state(client, row).content.decode()
    assert "read only" in text
    assert "It is archived. Unarchive it." in text


def test_a_reference_the_settings_no_longer_allow(github: GitHubSays, settings: Any) -> None:
    row = services.connect_repository(reference=services.parse_repository("/srv/git/a.git"), by="test")
    settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES = False
    tasks.verify_repository(row.pk)
    row.refresh_from_db()
    assert "WORKORDERS_ALLOW_LOCAL_REPOSITORIES" in row.verification_error
    assert (row.verification_requested_at, github.asked) == (None, [])


def test_a_question_nobody_takes_says_so_and_can_be_asked_again(client: Client) -> None:
    row = services.connect_repository(reference=services.parse_repository("octo/spoon"), by="test")
    Repository.objects.update(verification_requested_at=timezone.now() - timedelta(seconds=21))
    text = state(client, row, shown="pending").content.decode()
    assert "No worker has answered for 20 seconds" in text
    assert 'hx-trigger="poll"' in text
    assert state(client, row, shown="late").status_code == 204
    assert "verifying" in client.post(f"{PAGE}{row.pk}/verify/", headers=HTMX).content.decode()
    assert OrmQ.objects.count() == 2


def test_defaults_are_kept_and_prefill_new_orders(client: Client) -> None:
    row = ready()
    values = {
        "sandbox_type": "git_worktree",
        "workflow_type": "agent_workflow_plan",
        "base_branch": "develop",
        "model": "opus",
    }
    assert client.post(f"{PAGE}{row.pk}/", values)["Location"] == f"{PAGE}{row.pk}/"
    row.refresh_from_db()
    assert (row.default_sandbox_type, row.default_workflow_type) == ("git_worktree", "agent_workflow_plan")
    text = client.get(f"/work-orders/new/?repository={row.pk}").content.decode()
    assert re.search(r'value="git_worktree" checked', text)
    assert re.search(r'value="agent_workflow_plan" checked', text)
    assert 'value="develop"' in text
    assert 'value="opus"' in text
    assert 'value="develop"' in client.get(f"{PAGE}{row.pk}/").content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sandbox_type", "e2b"),
        ("workflow_type", "x"),
        ("base_branch", "..x"),
        ("model", "-x"),
        ("model", "a b"),
    ],
)
def test_defaults_that_are_no_good_are_refused(client: Client, field: str, value: str) -> None:
    row = ready()
    response = client.post(f"{PAGE}{row.pk}/", {field: value, "model": "kept"} | {field: value})
    assert response.status_code == 422
    assert f'id="id_{field}_error"' in response.content.decode()
    row.refresh_from_db()
    assert (row.default_sandbox_type, row.default_base_branch, row.default_model) == ("", "", "")


def test_a_repository_page_lists_its_recent_orders(client: Client) -> None:
    order = make_order(initial_prompt="Mine")
    other = make_order(repository="octo/other", initial_prompt="Theirs")
    text = client.get(f"{PAGE}{order.repository_id}/").content.decode()
    assert "Mine" in text
    assert "Theirs" not in text
    assert f"/work-orders/new/?repository={order.repository_id}" in text
    assert client.get(f"{PAGE}{other.pk + 100}/").status_code == 404


@pytest.mark.parametrize("path", ["", "state/", "issues/"])
def test_an_unknown_repository_is_a_404(client: Client, path: str) -> None:
    assert client.get(f"{PAGE}999/{path}").status_code == 404
    assert client.post(f"{PAGE}999/verify/").status_code == 404


def test_issues_are_fetched_by_the_worker_and_kept(github: GitHubSays) -> None:
    row = ready()
    github.issues = (issue(2, "Two\x00\ud800", ("bug",)), issue(1), issue(2, "again"))
    services.request_issues(repository_pk=row.pk)
    services.request_issues(repository_pk=row.pk)
    assert OrmQ.objects.count() == 1
    tasks.refresh_issues(row.pk)
    tasks.refresh_issues(row.pk)
    assert len(github.asked) == 1
    assert [found.number for found in OpenIssue.objects.all()] == [2, 1]
    row.refresh_from_db()
    assert row.issues_fetched_at
    github.error = GitHubTokenInvalid("GitHub refuses the token.")
    services.request_issues(repository_pk=row.pk)
    tasks.refresh_issues(row.pk)
    row.refresh_from_db()
    assert "GH_TOKEN" in row.issues_error
    assert OpenIssue.objects.count() == 2


def test_tasks_of_rows_that_are_gone_do_nothing(github: GitHubSays) -> None:
    tasks.verify_repository(999)
    tasks.refresh_issues(999)
    assert github.asked == []


def test_a_local_folder_has_no_issues_to_ask_for() -> None:
    row = make_repository("/srv/git/a.git")
    services.request_issues(repository_pk=row.pk)
    assert not OrmQ.objects.exists()


@pytest.mark.parametrize(
    ("values", "constraint"),
    [({"number": 0}, "open_issue_is_number"), ({"number": 1}, "open_issue_once|number")],
)
def test_database_refuses(values: dict[str, int], constraint: str) -> None:
    row = make_repository()
    OpenIssue.objects.create(repository=row, position=0, number=1, title="")
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        OpenIssue.objects.create(repository=row, position=1, title="", **values)
    assert str(OpenIssue(number=3, title="x")) == "#3 x"


def test_submodules_that_may_be_private_are_set_on_the_page_and_in_the_admin(client: Client) -> None:
    row = make_repository()
    client.force_login(User.objects.create_superuser("root"))
    address = reverse("repository-submodules-allowed", args=[row.pk])
    refused = client.post(address, {"submodules_allowed": "https://github.com/a/b"})
    assert refused.status_code == 422
    assert "is not a repository as owner/name" in refused.content.decode()
    assert (
        client.post(address, {"submodules_allowed": "Acme/Lib\r\n\r\n# why\r\nacme/lib"}).status_code == 302
    )
    row.refresh_from_db()
    assert row.submodules_allowed == "acme/lib"
    assert "acme/lib</textarea>" in client.get(reverse("repository", args=[row.pk])).content.decode()
    with pytest.raises(InvalidInput):
        services.update_submodules_allowed(repository_pk=row.pk, submodules_allowed="*", by="ann")
    admin = reverse("admin:github_app_repository_change", args=[row.pk])
    assert "is not a repository" in client.post(admin, {"submodules_allowed": "*"}).content.decode()
    client.post(admin, {"submodules_allowed": "acme/other"})
    row.refresh_from_db()
    assert row.submodules_allowed == "acme/other"
