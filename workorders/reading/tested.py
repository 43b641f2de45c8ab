"""Results of tests and the commit they are of, for all that shows them. Reads rows; a constant number of queries."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from django.db.models import OuterRef, Subquery
from pydantic import BaseModel, ConfigDict, Field

from workorders.domain.workflows import TEST, steps_of
from workorders.models import PhaseRun, WorkOrderCommit
from workorders.text.wording import results_in_words


class TestsView(BaseModel):
    """The newest results of tests and the commit they are of."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    __test__: ClassVar[bool] = False  # not one of pytest's

    passed: int
    failed: int
    git_commit_sha: str
    is_current: bool = Field(description="whether the branch still holds what was tested, as far as is known")
    commits_since: int | None = Field(description="how many came after it; null: not known")

    def words(self) -> str:
        """As `12 passed, 2 failed at 77ad0ed, 1 commit ago, not tested since`."""
        return results_in_words(
            self.passed, self.failed, "" if self.is_current else self.git_commit_sha, self.commits_since
        )


class Tested(Protocol):
    """What of an order's row tells whether results are of what is there now."""

    pk: int
    workflow_type: str
    head_sha: str
    tested_sha: str
    git_commit_count: int


def tests_of(rows: Sequence[Tested]) -> dict[int, TestsView]:
    """The newest test results of each order that has some, by its key: one query, none where no workflow has tests."""
    with_tests = {row.pk: row for row in rows if row.head_sha and TEST in steps_of(row.workflow_type)}
    if not with_tests:
        return {}
    commit = WorkOrderCommit.objects.filter(
        agent_work_order=OuterRef("agent_work_order"), sha=OuterRef("end_sha")
    )
    found = PhaseRun.objects.filter(
        agent_work_order__in=list(with_tests), phase=TEST.phase, tests_passed__isnull=False
    )
    values = found.order_by("sequence").values_list(
        "agent_work_order_id",
        "tests_passed",
        "tests_failed",
        "end_sha",
        Subquery(commit.order_by().values("position")[:1]),
    )
    views = {}
    for pk, passed, failed, sha, place in values:
        row = with_tests[pk]
        current = not sha or row.head_sha in {sha, row.tested_sha}
        since = None if place is None else row.git_commit_count - place
        views[pk] = TestsView(
            passed=passed or 0,
            failed=failed or 0,
            git_commit_sha=sha,
            is_current=current,
            commits_since=0 if current else since if since and since > 0 else None,
        )
    return views
