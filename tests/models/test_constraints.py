"""Every database constraint of both apps is hit once; a new one without a case here fails the last test."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from github_app.models import GitHubRateLimit, OpenIssue, Repository
from tests.factories import make_order, make_repository, make_run
from workorders.domain.states import PhaseRunStatus
from workorders.models import (
    AgentPrompt,
    AgentWorkOrder,
    ApiKey,
    IdempotencyRecord,
    ModelAccess,
    ModelUsage,
    OutsideEffect,
    WorkOrderCommit,
    WorkOrderFile,
    WorkOrderLog,
    WrittenText,
)
from workorders.services import api_keys

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def order(**changes: Any) -> Callable[[], object]:
    """Write these columns of a fresh order."""
    return lambda: AgentWorkOrder.objects.filter(pk=make_order().pk).update(**changes)


def repository(**changes: Any) -> Callable[[], object]:
    return lambda: Repository.objects.filter(pk=make_repository().pk).update(**changes)


def same_repository_in_other_case() -> None:
    make_repository("octo/spoon")
    Repository.objects.create(
        host="GitHub.com", owner="OCTO", name="Spoon", repository_url="https://github.com/OCTO/Spoon"
    )


def same_address() -> None:
    """As names would differ that lead to one address."""
    first = make_repository("octo/spoon")
    Repository.objects.create(host="x", owner="o", name="n", repository_url=first.repository_url)


def same_github_id() -> None:
    make_repository("octo/spoon", github_id=7)
    make_repository("octo/fork", github_id=7)


def same_stored_key() -> None:
    first = make_repository("octo/spoon")
    make_repository("octo/fork", stored_key=first.stored_key)


def same_run_number() -> None:
    first = make_run(make_order())
    make_run(first.agent_work_order, sequence=first.sequence)


def two_running() -> None:
    first = make_run(make_order(), status=PhaseRunStatus.RUNNING)
    make_run(first.agent_work_order, status=PhaseRunStatus.RUNNING)


def same_log_number() -> None:
    entry = make_order().log_entries.get()
    WorkOrderLog.objects.create(
        agent_work_order=entry.agent_work_order,
        sequence=entry.sequence,
        timestamp=NOW,
        level="info",
        event="x",
    )


def same_commit_position() -> None:
    place = make_order()
    for sha in ("a", "b"):
        WorkOrderCommit.objects.create(
            agent_work_order=place, position=1, sha=sha, message="", author_name="", committed_at=NOW
        )


def same_file_position() -> None:
    place = make_order()
    for path in ("a", "b"):
        WorkOrderFile.objects.create(agent_work_order=place, position=1, path=path, status="M")


def same_issue() -> None:
    place = make_repository()
    for title in ("a", "b"):
        OpenIssue.objects.create(repository=place, position=1, number=1, title=title)


def same_text() -> None:
    place = make_order()
    for text in ("a", "b"):
        WrittenText.objects.create(agent_work_order=place, part="initial_prompt", text=text)


def effect(**values: Any) -> OutsideEffect:
    fields = {
        "agent_work_order": AgentWorkOrder.objects.first() or make_order(),
        "kind": "comment",
        "key": "#1",
    }
    return OutsideEffect.objects.create(**{**fields, **values})


def same_rate_limit() -> None:
    for _ in range(2):
        GitHubRateLimit.objects.create(host="github.com", token_fingerprint="a", not_before=NOW)


def same_key() -> None:
    for _ in range(2):
        IdempotencyRecord.objects.create(
            endpoint="x", key="k", body_sha256="", response_status=0, response_body={}
        )


def api_key(**changes: Any) -> ApiKey:
    user, _made = User.objects.get_or_create(username="ann")
    row = api_keys.create_api_key(user=user, name="ci", scope="read", lifetime_days=1, by="test").row
    ApiKey.objects.filter(pk=row.pk).update(**changes)
    return row


def model_access(**values: Any) -> ModelAccess:
    run = make_run(make_order())
    return ModelAccess.objects.create(
        phase_run=run,
        agent_work_order=run.agent_work_order,
        token_hash="a",
        claim_epoch=1,
        created_at=NOW,
        expires_at=NOW,
        **values,
    )


def same_model_usage() -> None:
    run = make_run(make_order())
    for _ in range(2):
        ModelUsage.objects.create(phase_run=run, model="claude", updated_at=NOW)


VIOLATIONS: dict[str, list[Callable[[], object]]] = {
    "order_id_format": [
        order(agent_work_order_id="wo-ABCDEFGH"),
        order(agent_work_order_id="wo-abc"),
        order(agent_work_order_id="--option--x"),
    ],
    "order_branch_format": [order(git_branch_name="main"), order(git_branch_name="--force")],
    "order_status_known": [order(status="paused", claimable_at=None)],
    "order_sandbox_known": [order(sandbox_type="moon")],
    "order_sandbox_state_known": [order(sandbox_state="lost")],
    "order_workflow_known": [order(workflow_type="agent_workflow_dance")],
    "order_completed_has_outcome_and_commit": [
        order(status="completed", claimable_at=None, outcome="branch_pushed"),
        order(status="completed", claimable_at=None, head_sha="a"),
    ],
    "order_failed_says_why": [
        order(status="failed", claimable_at=None, error_message="x"),
        order(status="failed", claimable_at=None, error_category="x"),
    ],
    "order_finished_is_not_claimed": [
        order(status="cancelled"),
        order(status="cancelled", claimable_at=None, claim_owner="w"),
    ],
    "order_waiting_reason_known": [order(waiting_reason="the weather")],
    "order_finished_waits_for_nothing": [
        order(status="cancelled", claimable_at=None, waiting_reason="disk_full")
    ],
    "order_issue_is_number": [order(github_issue_number="0"), order(github_issue_number="#1")],
    "phase_run_sequence": [same_run_number],
    "phase_run_one_at_a_time": [two_running],
    "phase_run_ended_has_time": [
        lambda: make_run(make_order(), completed_at=None),
        lambda: make_run(make_order(), status=PhaseRunStatus.RUNNING, completed_at=NOW),
    ],
    "prompt_reason_only_where_dropped": [
        lambda: AgentPrompt.objects.create(
            agent_work_order=make_order(), prompt_text="x", by="ann", dropped_because="failed"
        )
    ],
    "log_sequence_unique": [same_log_number],
    "commit_position": [same_commit_position],
    "file_position": [same_file_position],
    "effect_once": [lambda: [effect() for _ in range(2)]],
    "effect_state_known": [lambda: effect(state="lost", sent_at=NOW)],
    "effect_asked_for_has_time": [lambda: effect(state="sent")],
    "model_access_budget_positive": [lambda: model_access(budget_usd=0), lambda: model_access(budget_usd=-1)],
    "model_usage_once": [same_model_usage],
    "rate_limit_once": [same_rate_limit],
    "open_issue_once": [same_issue],
    "open_issue_is_number": [
        lambda: OpenIssue.objects.create(repository=make_repository(), position=1, number=0, title="x")
    ],
    "idempotency_key_unique": [same_key],
    "api_key_scope_known": [lambda: api_key(scope="root")],
    "api_key_prefix_unique": [lambda: api_key(prefix=api_key().prefix)],
    "repository_unique_ignoring_case": [same_repository_in_other_case],
    "repository_url_unique": [same_address],
    "repository_github_id_unique": [same_github_id],
    "repository_stored_key_unique": [same_stored_key],
    "repository_named_or_local": [
        repository(owner=""),
        repository(repository_url="http://github.com/octo/spoon"),
        repository(name=""),
    ],
    "repository_name_is_no_option": [repository(name="-x"), repository(owner="-x")],
    "written_text_once": [same_text],
    "repository_branch_is_no_option": [repository(default_branch="-x"), repository(default_base_branch="-x")],
    "repository_push_needs_access": [repository(can_push=True)],
    "repository_access_has_a_time": [repository(is_accessible=True)],
}


@pytest.mark.parametrize(
    ("name", "violate"),
    [(name, violate) for name, cases in VIOLATIONS.items() for violate in cases],
    ids=[f"{name}-{number}" for name, cases in VIOLATIONS.items() for number in range(len(cases))],
)
def test_the_database_refuses(name: str, violate: Callable[[], object]) -> None:
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        violate()
    text = str(caught.value)
    assert name in text or "UNIQUE constraint failed" in text  # SQLite names the columns of a plain unique


@pytest.mark.parametrize("column", ["agent_work_order_id", "git_branch_name"])
def test_identifiers_are_unique(column: str) -> None:
    first, second = make_order(), make_order()
    with pytest.raises(IntegrityError), transaction.atomic():
        AgentWorkOrder.objects.filter(pk=second.pk).update(**{column: getattr(first, column)})


def test_a_repository_with_orders_cannot_be_removed() -> None:
    with pytest.raises(models.ProtectedError):
        make_order().repository.delete()


def test_every_constraint_has_a_case() -> None:
    named = {
        constraint.name
        for label in ("workorders", "github_app")
        for model in apps.get_app_config(label).get_models()
        for constraint in model._meta.constraints
    }
    assert named == set(VIOLATIONS)
