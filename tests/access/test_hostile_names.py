"""Names that mean something else to git, gh or a terminal are refused wherever they come in, and by the database."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, transaction
from django.test import Client

from github_app.models import Repository
from tests.api.conftest import BODY, Api
from tests.factories import make_order, make_repository
from workorders.models import AgentWorkOrder

pytestmark = pytest.mark.django_db

REPOSITORIES = [
    "-x/y", "x/-y", "--upload-pack=id/x", "o/r:x", "o/..", "../r", "./r", "o/r@{1}", "o/r\n", "o\n/r", "o/r\x1b[31m",
    "o/r\u202e", "o/ r", "o /r", "o//r", "o/r/s/t", "o/r;id", "o/$(id)", "o/`id`", "o/r|id", "o/r&x", "o/r%00",
    "o/r%2f",
    "ö/r", "o/ŕ", "https://github.com/o", "https://github.com/", "https://github.com", "https://evil.example/o/r",
    "https://github.com.evil.example/o/r", "https://github.com@evil.example/o/r", "https://user:pw@github.com/o/r",
    "https://token@github.com/o/r", "https://github.com:444/o/r", "https://github.com:x/o/r", "http://github.com/o/r",
    "HTTPS://evil.example/o/r", "git://github.com/o/r", "ssh://git@github.com/o/r", "ssh://-oProxyCommand=id/o/r",
    "git@-oProxyCommand=id:o/r", "git@evil.example:o/r", "git@github.com:../r", "ext::sh -c id", "fd::17",
    "javascript:x",
    "https://github.com/o/r?x=1", "https://github.com/o/r#x", "https://github.com/o/r;x", "https://github.com/../o/r",
    "https://github.com\\o\\r", "https:/github.com/o/r", "https://[::1]/o/r", "https://127.0.0.1/o/r",
    "https://2130706433/o/r",
    "https://github.com\t/o/r", "https://ｇithub.com/o/r", "https://github.com./o/r", "o/.git", "x" * 600 + "/r",
]  # fmt: skip
BRANCHES = [
    "-x", "--force", "a..b", "a:b", "a@{1}", "@", "a b", "a\nb", "a\x1bb", "a\x7f", "a~1", "a^", "a?", "a*", "a[b",
    "a\\b",
    "/a", "a/", "a//b", "a.", ".a", "a/.b", "a.lock", "a.lock/b", "refs/heads/\u202ex", "x" * 300, "a\u202eb",
]  # fmt: skip
MODELS = ["-x", "--help", "a b", "a\nb", "a;id", "$(id)", "a\x00", "ö", "x" * 101, "a\u202e", "a\n"]
ISSUES = ["0", "-1", "1.5", "1e3", "x", "#", "##1", "1 2", "٣", "1\n2", "9" * 30, "0x10", "1;id"]
CASES = [
    *(("repository_url", value) for value in REPOSITORIES),
    *(("base_branch", value) for value in BRANCHES),
    *(("model", value) for value in MODELS),
    *(("github_issue_number", value) for value in ISSUES),
]
OPTIONS = {
    "repository_url": "--repository",
    "base_branch": "--base-branch",
    "model": "--model",
    "github_issue_number": "--issue",
}
STRIPPED = {"o/r\n", "a\n", "1\n2"}  # a form's field is one line, and trimmed


@pytest.fixture(autouse=True)
def strict(settings: Any) -> None:
    settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES = False


@pytest.mark.parametrize("field", sorted(OPTIONS))
def test_refused_by_the_api(api: Api, field: str) -> None:
    accepted = [
        value
        for name, value in CASES
        if name == field and api.post("/agent-work-orders", {**BODY, field: value}).status_code != 422
    ]
    assert accepted == []
    assert not AgentWorkOrder.objects.exists()
    assert not Repository.objects.exists()


@pytest.mark.parametrize("field", sorted(OPTIONS))
def test_refused_by_the_form(client: Client, field: str) -> None:
    accepted = []
    for name, value in CASES:
        if name == field and value not in STRIPPED:
            answer = client.post("/work-orders/new/", {**BODY, "initial_prompt": "x", field: value})
            if answer.status_code != 422:
                accepted.append(value)
    assert accepted == []
    assert not AgentWorkOrder.objects.exists()


@pytest.mark.parametrize("field", sorted(OPTIONS))
def test_refused_by_the_command(field: str) -> None:
    accepted = []
    for name, value in CASES:
        if name == field:
            given = {"repository_url": "octo/spoon", field: value}
            arguments = [f"{OPTIONS[name]}={text}" for name, text in given.items()]
            try:
                call_command("create_work_order", *arguments, stdout=StringIO(), stderr=StringIO())
                accepted.append(value)
            except CommandError:
                pass
    assert accepted == []


def test_refused_where_repositories_are_connected_and_verified(api: Api, client: Client) -> None:
    for value in REPOSITORIES:
        if value not in STRIPPED:
            assert client.post("/repositories/", {"repository_url": value}).status_code == 422, value
        assert api.post("/github/verify-repository", {"repository_url": value}).status_code == 422, value
    assert not Repository.objects.exists()


def test_refused_by_the_database() -> None:
    order, repository = make_order(), make_repository()
    for change in (
        {"git_branch_name": "--force"},
        {"git_branch_name": "main"},
        {"agent_work_order_id": "../../x"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            AgentWorkOrder.objects.filter(pk=order.pk).update(**change)
    for name in ("owner", "name", "default_branch", "default_base_branch"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Repository.objects.filter(pk=repository.pk).update(**{name: "-x"})
