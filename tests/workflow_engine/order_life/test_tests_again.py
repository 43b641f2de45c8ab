"""Results of tests belong to the commit that was tested: what a follow-up changes is tested before it is delivered."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from tests.factories import make_order
from tests.workflow_engine.engine import finished, running_engine, wait_until
from tests.workflow_engine.order_life.life import COMMIT, QUESTION, Life, cancel, living, prompt, retry, run
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType
from workorders.models import AgentWorkOrder, PhaseRun
from workorders.reading import progress
from workorders.reading.pages.phases import progress_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engine_settings"),
    pytest.mark.once,
]

PASS = '{"passed": 2, "failed": 0, "tests": [{"name": "a", "status": "passed"}, {"name": "b", "status": "passed"}]}'
FAIL = '{"passed": 1, "failed": 1, "tests": [{"name": "a", "status": "failed"}, {"name": "b", "status": "passed"}]}'
FIX = "agent: commit fixed.txt\nagent: nothing"
BREAK = "agent: run git rm -q fixed.txt; git commit -qm 'Break it'\nagent: nothing"


@pytest.fixture
def life(tmp_path: Path, engine_settings: LazySettings) -> Iterator[Life]:
    with living(tmp_path, engine_settings) as found:
        yield found


def checked_if(condition: str = "test -e fixed.txt") -> str:
    """A request whose tests pass where the shell's condition holds."""
    results = f"if {condition}; then echo '{PASS}'; else echo '{FAIL}'; fi > test_results.json"
    add = "git add -f test_results.json; git commit -q --allow-empty -m 'Test it'"
    return f"agent[testing]: run {results}; {add}\nagent[testing]: nothing"


def delivered(
    request: str = "", workflow: AgentWorkflowType = AgentWorkflowType.PLAN_BUILD_TEST
) -> AgentWorkOrder:
    return run(make_order(repository="acme/widgets", workflow_type=workflow, initial_prompt=request), 60)


def steps(order: AgentWorkOrder, after: int = 0) -> list[str]:
    """What was run, in order; deliveries and phases by name."""
    rows = order.phase_runs.filter(sequence__gt=after, status="succeeded").order_by("sequence")
    return [row.phase if row.kind == "phase" else row.kind for row in rows]


def text_of(life: Life, order: AgentWorkOrder) -> str:
    """Of its pull request."""
    return life.repository.pull_requests[order.github_pull_request_number or 0].body or ""


def last_tests(order: AgentWorkOrder) -> PhaseRun:
    return order.phase_runs.exclude(tests_passed=None).order_by("-sequence")[0]


def test_what_a_follow_up_changed_is_tested(life: Life) -> None:
    order = delivered()
    before = order.phase_runs.count()
    prompt(order, COMMIT)
    run(order)
    assert (order.status, order.outcome) == ("completed", "pull_request_opened")
    assert steps(order, before) == ["follow_up", "testing", "delivery"]
    tested = last_tests(order)
    assert tested.end_sha == order.head_sha == life.sha(order.git_branch_name)
    assert tested.attempt == 1, "the tests before are no attempts of these"
    assert tested.commits == 1
    history = {entry.phase: entry.commits for entry in progress.git_progress(str(order)).phase_history}
    assert history[AgentWorkflowPhase.TESTING] == 2


def test_mended_tests_change_the_outcome_and_the_pull_request(life: Life) -> None:
    order = delivered(checked_if())
    assert order.outcome == "tests_failed"
    assert life.repository.pull_requests[order.github_pull_request_number or 0].is_draft
    assert "1 test fails" in text_of(life, order)
    prompt(order, FIX)
    run(order)
    assert (order.status, order.outcome) == ("completed", "pull_request_opened")
    text = text_of(life, order)
    assert "2 passed, 0 failed" in text
    assert "1 test fails" not in text
    assert "Mark this draft as ready" in text


def test_broken_tests_change_the_outcome_too(life: Life) -> None:
    order = delivered(f"agent[implementing]: commit fixed.txt\n{checked_if()}")
    assert order.outcome == "pull_request_opened"
    prompt(order, BREAK)
    run(order)
    assert (order.status, order.outcome) == ("completed", "tests_failed")
    assert "1 test fails" in text_of(life, order)


@pytest.mark.parametrize("was_draft", [True, False])
def test_what_a_person_marked_as_ready_stays_ready_and_is_said_not_to_be(life: Life, was_draft: bool) -> None:
    first = checked_if() if was_draft else f"agent[implementing]: commit fixed.txt\n{checked_if()}"
    order = delivered(first)
    life.pull_request(order).is_draft = False
    prompt(order, "agent: commit other.txt\nagent: nothing" if was_draft else BREAK)
    run(order)
    assert (order.status, order.outcome) == ("completed", "tests_failed")
    assert not life.pull_request(order).is_draft
    assert "1 test fails" in text_of(life, order)
    assert "Convert it to a draft" in text_of(life, order)
    line = progress_of(order, is_asked=False, tests=None).lines[-1]
    assert "marked as ready for review, but is not ready to merge (1 test fails)" in line.warning
    prompt(order, FIX)
    run(order)
    assert "Convert it" not in text_of(life, order)
    assert "Mark this draft" not in text_of(life, order)
    assert not progress_of(order, is_asked=False, tests=None).lines[-1].warning


def test_passing_tests_of_another_commit_do_not_end_a_draft(life: Life) -> None:
    """A person pushes while the order is delivered: nobody has tested that."""
    order = delivered(checked_if())
    prompt(order, FIX)
    run(order)
    before = text_of(life, order)
    assert "The tests pass now" in before
    life.commit(order.git_branch_name)
    AgentWorkOrder.objects.filter(pk=order.pk).update(
        status="failed", outcome=None, error_category="push_rejected", error_message="x"
    )
    order.phase_runs.filter(kind="delivery").update(status="failed", error_category="push_rejected")
    retry(order)
    run(order)
    assert order.status == "completed"
    assert "not tested since" in text_of(life, order)
    assert "The tests pass now" not in text_of(life, order)


def test_a_question_is_not_tested(life: Life) -> None:
    order = delivered()
    before = order.phase_runs.count()
    prompt(order, QUESTION)
    run(order)
    assert steps(order, before) == ["follow_up", "delivery"]
    assert not list((life.folder / "data" / "sandboxes").glob(f"{order}*")), "its place is gone"


def test_two_prompts_are_tested_together(life: Life) -> None:
    order = delivered()
    before = order.phase_runs.count()
    prompt(order, COMMIT)
    prompt(order, FIX)
    run(order)
    assert steps(order, before) == ["follow_up", "follow_up", "testing", "delivery"]
    assert life.files(order.git_branch_name) >= {"more.txt", "fixed.txt"}


def test_a_workflow_without_tests_has_none_afterwards(life: Life) -> None:
    order = life.delivered()
    before = order.phase_runs.count()
    prompt(order, COMMIT)
    run(order)
    assert steps(order, before) == ["follow_up", "delivery"]


def test_a_workflow_of_tests_alone(life: Life) -> None:
    order = delivered(workflow=AgentWorkflowType.TEST)
    before = order.phase_runs.count()
    prompt(order, COMMIT)
    run(order)
    assert steps(order, before) == ["follow_up", "testing", "delivery"]
    assert last_tests(order).end_sha == order.head_sha


def test_files_as_they_were_tested_need_no_tests(life: Life) -> None:
    order = delivered()
    before, tested = order.phase_runs.count(), order.head_sha
    prompt(order, "agent: run git commit -q --allow-empty -m 'Say why'\nagent: nothing")
    run(order)
    assert steps(order, before) == ["follow_up", "delivery"]
    assert order.head_sha != tested
    assert order.tested_sha == order.head_sha
    shown = progress.work_order(str(order)).tests
    assert shown is not None
    assert (shown.is_current, shown.git_commit_sha) == (True, tested)


def test_a_person_s_commits_below_a_question_are_tested(life: Life) -> None:
    order = delivered()
    before = order.phase_runs.count()
    life.commit(order.git_branch_name)
    prompt(order, QUESTION)
    run(order)
    assert steps(order, before) == ["follow_up", "testing", "delivery"]
    assert last_tests(order).end_sha == order.head_sha


def test_tests_that_leave_no_commit_did_not_run(life: Life) -> None:
    order = delivered()
    before = order.phase_runs.count()
    prompt(order, COMMIT)
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt="agent[testing#1]: nothing")
    run(order, 60)
    failed = order.phase_runs.get(phase="testing", status="failed", sequence__gt=before)
    assert "--allow-empty" in failed.error_message
    assert steps(order, before) == ["follow_up", "testing", "delivery"]


RESULTS = f"echo '{PASS}' > test_results.json; git add -f test_results.json"
TESTED_TOO = f"echo more > more.txt; {RESULTS}; git add more.txt; git commit -q -m 'Add more, tested'"


def test_results_that_the_change_brought_along_need_no_empty_commit(life: Life) -> None:
    order = delivered()
    before = order.phase_runs.count()
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt="agent[testing]: nothing")
    prompt(order, f"agent: run {TESTED_TOO}\nagent: nothing")
    run(order, 60)
    assert (order.status, order.error_message) == ("completed", None)
    assert steps(order, before) == ["follow_up", "testing", "delivery"]
    assert not order.phase_runs.filter(status="failed").exists(), "the agent was run once"
    assert last_tests(order).end_sha == order.head_sha


@pytest.mark.parametrize(
    "request_text",
    [
        f"agent: run {RESULTS}; git commit -qm Test\nagent: commit more.txt\nagent: nothing",
        f"agent: run {RESULTS}; git commit -qm Test; git rm -q test_results.json; git commit -qm Away\nagent: nothing",
    ],
)
def test_results_of_other_files_show_nothing(life: Life, request_text: str) -> None:
    order = delivered()
    AgentWorkOrder.objects.filter(pk=order.pk).update(initial_prompt="agent[testing#1]: nothing")
    prompt(order, request_text)
    run(order, 60)
    assert order.status == "completed"
    assert order.phase_runs.filter(phase="testing", status="failed").count() == 1


def test_cancelled_before_the_tests_it_says_so_and_a_retry_runs_them(life: Life) -> None:
    wait = f"agent[testing]: run if test -e more.txt; then until test -e {life.folder}/go; do sleep 0.05; done; fi"
    order = delivered(wait)
    tested = order.head_sha
    prompt(order, COMMIT)
    with running_engine():
        wait_until(
            order,
            lambda row: (
                row.phase_runs.filter(phase="testing", status="running").exclude(start_sha="").exists()
            ),
        )
        shown = progress.work_order(str(order)).tests
        cancel(order)
        finished(order)
    assert shown is not None
    assert (shown.passed, shown.failed, shown.git_commit_sha, shown.is_current) == (2, 0, tested, False)
    assert shown.commits_since == 1
    (life.folder / "go").touch()
    retry(order)
    run(order)
    assert order.status == "completed"
    assert last_tests(order).end_sha == order.head_sha
    again = progress.work_order(str(order)).tests
    assert again is not None
    assert again.is_current


def test_a_prompt_that_comes_while_the_tests_run_again(life: Life) -> None:
    wait = f"agent[testing]: run if test -e more.txt; then until test -e {life.folder}/go; do sleep 0.05; done; fi"
    order = delivered(wait)
    before = order.phase_runs.count()
    prompt(order, COMMIT)
    with running_engine():
        wait_until(
            order,
            lambda row: (
                row.phase_runs.filter(phase="testing", status="running").exclude(start_sha="").exists()
            ),
        )
        prompt(order, FIX)
        (life.folder / "go").touch()
        finished(order)
    assert steps(order, before) == ["follow_up", "testing", "follow_up", "testing", "delivery"]
    assert last_tests(order).end_sha == order.head_sha
