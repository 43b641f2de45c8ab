"""Repository verification; what gh says is tested elsewhere, so the wiring's one function is replaced here."""

from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from github_app.models import Repository
from github_app.references import RepositoryReference
from github_app.types import GitHubRepository
from sandboxes.errors import RemoteAccessDenied
from tests.api.conftest import Api, problem
from workorders.api import verification
from workorders.models import AgentWorkOrder

pytestmark = pytest.mark.django_db
PATH = "/github/verify-repository"
# The PRD's GitHubRepository and GitHubRepositoryVerificationResponse.
REPOSITORY_FIELDS = {
    "repository_owner",
    "repository_name",
    "repository_url",
    "default_branch",
    "is_accessible",
    "access_verified_at",
}


def found(reference: RepositoryReference, **changes: Any) -> GitHubRepository:
    values: dict[str, Any] = {
        "repository_owner": reference.owner,
        "repository_name": reference.name,
        "repository_url": reference.repository_url,
        "default_branch": "trunk",
        "is_accessible": True,
        "access_verified_at": timezone.now(),
        "can_push": True,
        **changes,
    }
    return GitHubRepository(**values)


class GitHubSays:
    """Stands for `wiring.verify_repository`."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes
        self.asked: list[str] = []
        self.error: Exception | None = None

    def __call__(self, reference: RepositoryReference) -> GitHubRepository:
        self.asked.append(reference.full_name)
        if self.error:
            raise self.error
        return found(reference, **self.changes)


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> GitHubSays:
    says = GitHubSays()
    monkeypatch.setattr("workorders.wiring.verify_repository", says)
    return says


def test_success(api: Api, github: GitHubSays) -> None:
    response = api.post(PATH, {"repository_url": "https://github.com/octo/spoon.git"})
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"repository", "verification_success", "error_message"}
    assert set(body["repository"]) >= REPOSITORY_FIELDS
    assert (body["verification_success"], body["error_message"]) == (True, None)
    assert body["repository"]["repository_url"] == "https://github.com/octo/spoon.git"
    assert body["repository"]["default_branch"] == "trunk"
    assert body["repository"]["is_accessible"] is True
    assert body["repository"]["access_verified_at"].endswith("Z")
    row = Repository.objects.get()
    assert (row.default_branch, row.is_accessible, row.can_push) == ("trunk", True, True)


def test_refusal_says_what_to_do(api: Api, github: GitHubSays) -> None:
    github.error = RemoteAccessDenied("GitHub refused the token.")
    response = api.post(PATH, {"repository_url": "octo/spoon"})
    assert response.status_code == 200
    body = response.json()
    assert body["verification_success"] is False
    assert "GH_TOKEN" in body["error_message"]
    assert body["repository"]["repository_owner"] == "octo"
    assert body["repository"]["repository_url"] == "https://github.com/octo/spoon"
    assert body["repository"]["is_accessible"] is False
    assert body["repository"]["access_verified_at"] is None
    assert Repository.objects.get().verification_error == body["error_message"]


def test_a_repository_that_can_only_be_read_is_no_success(api: Api, github: GitHubSays) -> None:
    github.changes = {"can_push": False, "push_obstacle": "It is archived.", "push_advice": "Unarchive it."}
    body = api.post(PATH, {"repository_url": "octo/spoon"}).json()
    assert body["verification_success"] is False
    assert body["error_message"] == "It is archived. Unarchive it."
    assert body["repository"]["is_accessible"] is True


def test_what_is_no_reference_is_a_422_and_nobody_is_asked(api: Api, github: GitHubSays) -> None:
    for text in ("", "nonsense", "https://gitlab.com/o/r", "x" * 600):
        assert (
            problem(api.post(PATH, {"repository_url": text}), 422)["errors"][0]["field"] == "repository_url"
        )
    assert github.asked == []


def test_a_repeated_key_gives_the_first_answer(api: Api, github: GitHubSays) -> None:
    first = api.post(PATH, {"repository_url": "octo/spoon"}, {"Idempotency-Key": "v"})
    github.error = RemoteAccessDenied("no")
    again = api.post(PATH, {"repository_url": "octo/spoon"}, {"Idempotency-Key": "v"})
    assert first.json() == again.json()


def test_nothing_waits_for_github_inside_a_transaction(
    api: Api, github: GitHubSays, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths = []

    def ask(reference: RepositoryReference) -> GitHubRepository:
        depths.append(len(connection.savepoint_ids))
        return found(reference)

    monkeypatch.setattr("workorders.wiring.verify_repository", ask)
    outside = len(connection.savepoint_ids)
    assert api.post(PATH, {"repository_url": "octo/spoon"}, {"Idempotency-Key": "v"}).status_code == 200
    assert depths == [outside]


def test_an_order_does_not_ask_github(api: Api, github: GitHubSays) -> None:
    assert api.create().status_code == 201
    assert github.asked == []
    assert AgentWorkOrder.objects.count() == 1


def test_the_function_behind_it(github: GitHubSays) -> None:
    reference = RepositoryReference("github.com", "octo", "spoon")
    row, error = verification.verify(reference)
    assert (row.full_name, row.is_accessible, error) == ("octo/spoon", True, "")
