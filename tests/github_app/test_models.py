from typing import Any

import pytest
from django.contrib import admin
from django.db import IntegrityError, transaction
from django.test import RequestFactory
from django.utils import timezone

from github_app.admin import DEFAULTS, EDITABLE
from github_app.models import Repository
from github_app.references import parse_repository_reference

pytestmark = pytest.mark.django_db


def make(text: str = "octo/sample", **values: Any) -> Repository:
    reference = parse_repository_reference(text, github_host="github.com", allow_local=True)
    fields = {
        "host": reference.host,
        "owner": reference.owner,
        "name": reference.name,
        "repository_url": reference.repository_url,
    }
    return Repository.objects.create(**{**fields, **values})


def test_full_name() -> None:
    assert str(make()) == "octo/sample"
    assert str(make("/srv/git/sample.git")) == "/srv/git/sample.git"
    assert make("/srv/git/Sample.git").is_local


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"owner": ""}, "repository_named_or_local"),
        ({"host": ""}, "repository_named_or_local"),
        ({"name": ""}, "repository_named_or_local"),
        ({"repository_url": "ext::sh"}, "repository_named_or_local"),
        ({"owner": "-octo"}, "repository_name_is_no_option"),
        ({"name": "-sample"}, "repository_name_is_no_option"),
        ({"default_branch": "-x"}, "repository_branch_is_no_option"),
        ({"default_base_branch": "--x"}, "repository_branch_is_no_option"),
        ({"can_push": True}, "repository_push_needs_access"),
        ({"is_accessible": True}, "repository_access_has_a_time"),
    ],
)
def test_database_refuses(values: dict[str, Any], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        make(**values)


def test_accessible_repository() -> None:
    assert make(is_accessible=True, can_push=True, access_verified_at=timezone.now()).pk


@pytest.mark.parametrize("text", ["octo/sample", "Octo/SAMPLE"])
def test_one_row_a_repository(text: str) -> None:
    make()
    with pytest.raises(IntegrityError), transaction.atomic():
        make(text)


def test_local_folders_differ_by_case() -> None:
    assert make("/srv/a").pk != make("/srv/A").pk


def test_admin_changes_defaults_only() -> None:
    request = RequestFactory().get("/")
    model_admin = admin.site.get_model_admin(Repository)
    assert not model_admin.has_add_permission(request)
    read_only = set(model_admin.get_readonly_fields(request))
    assert {field.name for field in Repository._meta.fields} - read_only == {*DEFAULTS, *EDITABLE}
