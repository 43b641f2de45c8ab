"""A delivery while GitHub answers oddly or not at all; and what the pull request says of drafts, tests and issues."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from github_app import errors
from tests.factories import make_run
from tests.fakes.github import PullRequest
from tests.workflow_engine.handlers.test_delivery import COMMENTS, PULLS, TOKEN, World
from workorders.domain.states import AgentWorkOrderStatus, Wait
from workorders.domain.workflows import AgentWorkflowPhase, StepKind
from workorders.models import AgentWorkOrder, PhaseRun
from workorders.services import work_orders as services
from workorders.workflow_engine.planning.retries import decide

pytestmark = [pytest.mark.django_db, pytest.mark.once]
Status = AgentWorkOrderStatus
REPO = "^/repos/acme/widgets$"
ODD: list[dict[str, Any]] = [
    {"status": 200, "body": "<html>Unicorn!</html>"},
    {"status": 200, "body": ""},
    {"status": 202, "body": {}},
    {"status": 202, "body": ""},
    {"status": 204, "body": ""},
    {"status": 304, "body": ""},
    {"status": 200, "body": '{"number": 1, "titl'},
    {"status": 200, "body": {"message": "a queue"}},
    {"status": 200, "body": []},
    {"status": 200, "body": [7]},
    {"status": 200, "body": "null"},
    {"status": 200, "body": '"words"'},
    {"status": 200, "body": "{}", "headers": {"Content-Type": "text/plain"}},
    {"status": 418, "body": {"message": "teapot"}},
    {"status": 503, "body": {"message": "Busy"}, "headers": {"Retry-After": "1"}},
]


@pytest.fixture
def world(tmp_path: Path, settings: Any) -> Iterator[World]:
    with ExitStack() as stack:
        found = World(tmp_path, stack)
        settings.GH_TOKEN = TOKEN
        settings.GH_CONFIG_DIR = str(found.github.gh_config_dir)
        settings.WORKORDERS_GITHUB_GIT_BASE_URL = found.git.base_url
        settings.WORKORDERS_DATA_DIR = found.data_dir
        yield found


# --- odd answers ---


# Each was tried both ways; these are the ones that differ.
@pytest.mark.parametrize(
    ("fault", "executed"),
    [(ODD[0], True), (ODD[1], False), (ODD[4], True), (ODD[5], False), (ODD[6], True), (ODD[8], True)],
    ids=["html", "empty", "204", "304", "cut", "list"],
)
def test_one_odd_answer_to_a_post_costs_nothing_and_doubles_nothing(
    world: World, fault: dict[str, Any], executed: bool
) -> None:
    for path in (PULLS, COMMENTS):
        world.github.fail("POST", path, execute=executed, **fault)
    order = world.finish(world.order(), steps=6)
    world.law(order)
    assert not order.phase_runs.filter(status="failed").exists(), "no attempt was counted"


@pytest.mark.parametrize(
    ("path", "fault"), [(REPO, ODD[0]), (f"{PULLS}$", ODD[7]), ("issues/1$", ODD[4]), ("comments$", ODD[5])]
)
def test_one_odd_answer_to_a_look_costs_nothing(world: World, path: str, fault: dict[str, Any]) -> None:
    world.github.fail("GET", path, **fault)
    world.law(world.finish(world.order(), steps=6))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("path", [REPO, PULLS, COMMENTS], ids=["repository", "pull request", "comment"])
def test_one_redirect_of_what_has_not_moved_costs_nothing(world: World, path: str, status: int) -> None:
    method = "GET" if path == REPO else "POST"
    world.github.fail(method, path, status=status, body="", execute=status == 302 and path != REPO)
    order = world.finish(world.order(), steps=6)
    world.law(order)
    assert not order.phase_runs.filter(status="failed").exists(), "no attempt was counted"


def test_an_outage_is_a_visible_wait_and_no_attempt(world: World) -> None:
    order = world.order()
    troubles: list[dict[str, Any]] = [
        {"status": 502},
        {"drop": True},
        ODD[0],
        {"status": 503},
        ODD[4],
        {"status": 500},
        {"status": 504},
    ]
    for trouble in troubles:
        fault = world.github.fail("*", "/", times=99, **trouble)
        world.step(order)
        assert (order.status, order.waiting_reason) == (Status.RUNNING, "github_unavailable")
        assert order.waiting_until is not None
        assert "goes on by itself" in order.waiting_message
        assert order.error_message is None
        fault.times = 0
    world.law(world.finish(order))
    assert not order.phase_runs.filter(status="failed").exists()


@pytest.mark.parametrize(
    ("error", "at_least"),
    [
        (errors.GitHubUnavailable("GitHub is not available (502)"), timedelta(hours=1)),
        (errors.GitHubAnswerInvalid("GitHub's answer is no JSON."), timedelta(minutes=30)),
    ],
    ids=["away", "odd"],
)
def test_how_long_an_outage_is_waited_out(error: errors.GitHubError, at_least: timedelta) -> None:
    waited: list[str] = []
    pauses: list[float] = []
    while isinstance(found := decide(error, attempt=1, waited=waited, chance=lambda: 0), Wait):
        assert found.seconds is not None
        pauses.append(found.seconds)
        waited.append(found.reason)
    assert found is None
    assert pauses == sorted(pauses)
    assert pauses[0] <= 5
    assert at_least <= timedelta(seconds=sum(pauses)) <= timedelta(hours=4)


def test_what_a_503_asks_for_is_kept() -> None:
    found = decide(errors.GitHubUnavailable("x", retry_after_seconds=77), attempt=1, chance=lambda: 0)
    assert isinstance(found, Wait)
    assert found.seconds == 77


@pytest.mark.parametrize(
    "fault",
    [
        {
            "status": 422,
            "body": {"message": "Validation Failed", "errors": [{"message": "was submitted too quickly"}]},
        },
        {"status": 403, "body": {"message": "You have triggered an abuse detection mechanism"}},
        {"status": 429, "body": "<html>", "headers": {"Retry-After": "1"}},
    ],
    ids=["422", "403", "429"],
)
@pytest.mark.parametrize("path", [PULLS, COMMENTS], ids=["pull request", "comment"])
def test_slow_down_in_any_shape_is_a_wait(world: World, path: str, fault: dict[str, Any]) -> None:
    world.github.fail("POST", path, **fault)
    order = world.order()
    world.step(order)
    assert (order.status, order.waiting_reason) == (Status.RUNNING, "github_rate_limited")
    services.continue_agent_work_order(agent_work_order_id=str(order), by="ann")
    world.gh._gate._free_until = 0  # type: ignore[union-attr]  # what it believed for a second
    world.law(world.finish(order))


# --- a wrong token ---


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_token_is_asked_about_once(world: World, method: str) -> None:
    world.github.fail(method, "/", times=99, status=401, body={"message": "Bad credentials"})
    order = world.finish(world.order())
    assert (order.status, order.error_category) == (Status.FAILED, "github_token_invalid")
    assert sum(request.status == 401 for request in world.github.requests) == 1
    assert "GH_TOKEN" in (order.error_advice or "")


# --- what is said of tests and drafts ---


def persons_pull_request(world: World, order: AgentWorkOrder, *, draft: bool = True) -> PullRequest:
    head = order.head_sha
    item = PullRequest(
        9, "Mine", "My words.", "ann", order.git_branch_name, "main", head, order.base_sha, draft
    )
    world.repository.pull_requests[9] = item
    return item


@pytest.mark.parametrize("tested", [False, True])
def test_nothing_is_said_of_a_draft_that_a_person_opened(world: World, tested: bool) -> None:
    order = world.order()
    if not tested:
        PhaseRun.objects.filter(agent_work_order=order, phase=AgentWorkflowPhase.TESTING).update(
            tests_failed=None
        )
    draft = persons_pull_request(world, order)
    world.finish(order)
    assert order.status == Status.COMPLETED
    assert "My words." in (draft.body or "")
    assert "tests pass now" not in (draft.body or "")
    assert draft.is_draft


def test_a_draft_of_ours_whose_tests_pass_by_a_later_run_says_so_once(world: World) -> None:
    order = world.finish(world.order(failed=2))
    assert "tests pass now" not in (world.law(order).body or "")
    world.follow_up(order)
    latest = order.phase_runs.filter(kind=StepKind.FOLLOW_UP).latest("sequence")
    PhaseRun.objects.filter(pk=latest.pk).update(tests_passed=5, tests_failed=0)
    world.finish(order)
    assert (world.law(order).body or "").count("The tests pass now.") == 1


def test_a_draft_of_ours_whose_tests_were_not_run_again_says_nothing_new(world: World) -> None:
    order = world.finish(world.order(failed=2))
    world.follow_up(order, commit=False)
    world.finish(order)
    assert "tests pass now" not in (world.law(order).body or "")
    assert "**2 tests fail.**" in (world.law(order).body or "")


def test_a_draft_of_ours_that_a_person_made_ready_says_nothing(world: World) -> None:
    order = world.finish(world.order(failed=2))
    world.law(order).is_draft = False
    world.follow_up(order)
    make_run(order, AgentWorkflowPhase.TESTING, kind=StepKind.FOLLOW_UP, tests_passed=2, tests_failed=0)
    world.finish(order)
    assert "tests pass now" not in (world.law(order).body or "")


# --- a person's words, through the whole delivery ---


def test_notes_below_a_deleted_end_mark_survive_two_follow_ups(world: World) -> None:
    order = world.finish(world.order())
    pull_request = world.law(order)
    pull_request.body = (pull_request.body or "").replace("<!-- work-order: end -->", "") + "\n\nMy notes."
    for number in (7, 8):
        world.follow_up(order)
        AgentWorkOrder.objects.filter(pk=order.pk).update(git_files_changed=number)
        world.finish(order)
        assert "My notes." in (pull_request.body or "")
        assert (pull_request.body or "").count(f"{number} files changed") == 1
    assert "7 files changed" not in (pull_request.body or "")


# --- the issue ---


def test_a_closed_issue_is_said_and_not_closed_again(world: World) -> None:
    order = world.order(github_issue_title="Broken", github_issue_state="closed")
    world.repository.issues[1].state = "closed"
    body = world.law(world.finish(order)).body or ""
    assert "For #1, which was closed already" in body
    assert "Closes #1" not in body


def test_a_locked_or_vanished_issue_undoes_nothing(world: World) -> None:
    order = world.order()
    gone = {"message": "This issue was deleted"}
    world.github.fail("GET", "issues/1$", status=410, body=gone, times=9)
    world.finish(order)
    assert order.status == Status.COMPLETED
    assert "github_issue_comment_failed" in world.events.names
    assert replace(world.pull_requests[0]).state == "open"
