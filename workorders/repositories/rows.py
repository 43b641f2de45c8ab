"""Which row a repository is: by GitHub's id where it is known, else by name; rows follow renames and transfers.

The only writer of a repository's identity (id, owner, name), used by services and engine. Asks nobody: what GitHub
said comes in. A transaction here locks rows of repositories before rows of orders, and must not be begun by who holds
an order's row.
"""

from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from github_app.models import OpenIssue, Repository
from github_app.protected_paths import parse_patterns
from github_app.references import RepositoryReference
from github_app.types import GitHubRepository
from workorders.models import AgentWorkOrder

logger = structlog.get_logger("workorders")
_KEPT = ("default_sandbox_type", "default_workflow_type", "default_base_branch", "default_model")


def same_repository(reference: RepositoryReference) -> dict[str, Any]:
    """The look-up of the row that has the name now; GitHub ignores case in names, and so do we."""
    if reference.is_local:
        return {"repository_url": reference.repository_url}
    return {
        "host__iexact": reference.host,
        "owner__iexact": reference.owner,
        "name__iexact": reference.name,
        "replaced_at__isnull": True,
    }


def repository_row(reference: RepositoryReference) -> Repository:
    """The repository's one row, made on first mention."""
    defaults: dict[str, Any] = {
        "repository_url": reference.repository_url,
        "host": reference.host,
        "owner": reference.owner,
        "name": reference.name,
        "stored_key": lambda: _free_key(reference),  # asked only for a new one
    }
    row, _created = Repository.objects.get_or_create(**same_repository(reference), defaults=defaults)
    return row


def _free_key(reference: RepositoryReference) -> str:
    """A place in the data folder that no other row has had: one that was renamed keeps the place of its old name."""
    first = key = str(reference.key)
    number = 1
    while Repository.objects.filter(stored_key=key).exists():
        number += 1
        key = f"{first}~{number}"  # no name on GitHub holds a tilde
    return key


def record_repository(asked: RepositoryReference, found: GitHubRepository, **changes: Any) -> Repository:
    """The row of what GitHub showed for the name `asked`, with GitHub's id and spelling, and `changes` written.

    A row that had another name follows; two rows that turn out to be one repository become one, with the orders of
    both. A row whose name belongs to another repository now keeps its orders and loses the name (`replaced_at`).
    """
    values: dict[str, Any] = {
        "is_accessible": found.is_accessible,
        "can_push": found.can_push,
        "is_private": found.is_private,
        "default_branch": found.default_branch,
        "access_verified_at": timezone.now(),
        "verification_requested_at": None,
        **changes,
        "updated_at": timezone.now(),
    }
    with transaction.atomic():
        if found.github_id is None:
            row = repository_row(asked)
        else:
            row = _identified(asked, found)
            values |= {
                "github_id": found.github_id,
                "owner": found.repository_owner,
                "name": found.repository_name,
                "repository_url": found.repository_url,
                "replaced_at": None,
            }
        before = row.full_name
        Repository.objects.filter(pk=row.pk).update(**values)
        row.refresh_from_db()
    if before.lower() != row.full_name.lower():
        logger.info("github_repository_renamed", renamed_from=before, repository_url=row.repository_url)
    return row


def _identified(asked: RepositoryReference, found: GitHubRepository) -> Repository:
    """The row with that id, or the one to get it; the names in question are free for it then."""
    called = RepositoryReference(asked.host, found.repository_owner, found.repository_name)
    by_id = Q(host__iexact=asked.host, github_id=found.github_id)
    named, canonical = (Q(**same_repository(reference)) for reference in (asked, called))
    rows = list(Repository.objects.select_for_update().filter(by_id | named | canonical).order_by("pk"))
    row = next((row for row in rows if row.github_id == found.github_id), None)
    if row is None:  # the row that has the right name already, else the one that was asked for
        nameless = [item for item in rows if item.github_id is None]
        nameless.sort(key=lambda item: item.full_name.lower() != called.full_name.lower())
        row = nameless[0] if nameless else None
    for other in rows:
        if row is None or other.pk != row.pk:
            if other.github_id is None and row is not None:
                _join(other, row)
            elif other.github_id is not None:
                retire(other)
    return row or repository_row(called)


def retire(row: Repository) -> None:
    """Its name belongs to another repository now; only the id leads to it, and its orders stay its own."""
    changes = {
        "replaced_at": timezone.now(),
        "is_accessible": False,
        "can_push": False,
        "verification_requested_at": None,
        "verification_error": f"The name {row.full_name} belongs to another repository on GitHub now. If this one "
        "was only renamed, its work orders find it by its id.",
    }
    Repository.objects.filter(pk=row.pk).update(**changes, updated_at=timezone.now())
    logger.warning("github_repository_replaced", repository_url=row.repository_url, github_id=row.github_id)


def _join(other: Repository, row: Repository) -> None:
    """Two rows are one repository: `row` gets the orders, and what a person has protected in either."""
    key = other.mirror_key
    orders = AgentWorkOrder.objects.filter(repository=other).order_by("pk")
    pks = list(orders.select_for_update().values_list("pk", flat=True))
    moved = AgentWorkOrder.objects.filter(pk__in=pks)
    moved.filter(former_mirror_key="").update(former_mirror_key=key)
    moved.update(repository=row)
    OpenIssue.objects.filter(repository=other).delete()
    changes = {
        name: getattr(other, name) for name in _KEPT if getattr(other, name) and not getattr(row, name)
    }
    patterns = (*parse_patterns(row.protected_paths), *parse_patterns(other.protected_paths))
    changes["protected_paths"] = "\n".join(dict.fromkeys(patterns))
    Repository.objects.filter(pk=row.pk).update(**changes)
    other.delete()
    logger.info(
        "github_repositories_joined",
        joined=other.full_name,
        repository_url=row.repository_url,
        count=len(pks),
    )
