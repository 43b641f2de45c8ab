"""The delivery with real git and gh: one branch, one pull request, one comment, whatever happens on the way.

The order's phases are done; its last step is run again and again in this thread, as workers would that die, wait,
or are cancelled. GitHub does what it was asked for and then drops the connection, or answers 502.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django_q.models import OrmQ

from github_app.gh import GhCli, GhSettings
from github_app.issues import GitHubIssueClient
from github_app.pull_requests import GitHubPullRequestClient
from tests.factories import make_order, make_run
from tests.fakes.git_http import FakeGitServer, git
from tests.fakes.github import FakeGitHub, PullRequest, Repository
from tests.support import require_program
from tests.workflow_engine.rows import claim, expire
from workorders import tasks, wiring
from workorders.domain.errors import ConflictError, PullRequestLeftOpen
from workorders.domain.states import AgentWorkOrderStatus, EffectKind, EffectState, PhaseRunStatus
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType, StepKind
from workorders.models import AgentWorkOrder, OutsideEffect
from workorders.models.clock import database_now
from workorders.models.logs import LogEvent
from workorders.queueing.queue import RECOVERY_TASK
from workorders.repositories import github_limits
from workorders.repositories.github_limits import SharedRateLimit
from workorders.services import work_orders as services
from workorders.workflow_engine.claims.control import StepControl, StopCause
from workorders.workflow_engine.outward.withdrawals import WITHDRAW_TASK, issue_missing_task, withdraw_owed
from workorders.workflow_engine.parts.engine import EngineParts
from workorders.workflow_engine.planning.retries import RULES
from workorders.workflow_engine.record.claimed_step import ClaimedStep
from workorders.workflow_engine.record.journal import StepJournal
from workorders.workflow_engine.record.recorder import InlineDatabase, LogBuffer, StepLogger
from workorders.workflow_engine.worker.run_step import Orchestrator

pytestmark = pytest.mark.django_db
Status, Phase = AgentWorkOrderStatus, AgentWorkflowPhase
TOKEN = "ghp_deliveryTestToken0123456789abcdefghij"
PULLS = "/repos/acme/widgets/pulls"
COMMENTS = r"/repos/acme/widgets/issues/\d+/comments"
TOO_LATE = [{"drop": True}, {"status": 502}]
IDS = ["dropped", "502"]


class Crashed(BaseException):
    """The worker's process is gone; nothing catches this."""


class Events(LogBuffer):
    """Keeps the names of events; no thread."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, order_pk: int, event: LogEvent, *, claim_epoch: int | None = None) -> None:
        self.names.append(event.event)


@dataclass
class Desk(GhCli):
    """gh, with something happening just before or after a request of this thread."""

    before: dict[tuple[str, str], Callable[[], object]] = field(default_factory=dict)
    after: dict[tuple[str, str], Callable[[], object]] = field(default_factory=dict)

    def __init__(self, settings: GhSettings) -> None:
        super().__init__(settings, SharedRateLimit("github.com", TOKEN))
        self.before, self.after = {}, {}

    def api(self, method: str, path: str, **values: Any) -> Any:
        self._happen(self.before, method, path)
        try:
            return super().api(method, path, **values)
        finally:
            self._happen(self.after, method, path)

    @staticmethod
    def _happen(hooks: dict[tuple[str, str], Callable[[], object]], method: str, path: str) -> None:
        for key in [key for key in hooks if key[0] == method and re.search(key[1], path)]:
            hooks.pop(key)()


class World:
    """An order whose work is pushed, and everything outside."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.git = stack.enter_context(FakeGitServer(folder / "remotes"))
        self.github = stack.enter_context(FakeGitHub(branch_sha=self.git.branch_sha))
        self.git.add_token(TOKEN)
        self.github.add_token(TOKEN)
        self.repository: Repository = self.github.add_repository("acme", "widgets")
        self.bare = self.git.create_repository("acme", "widgets", {"README.md": "# Widgets\n"})
        self.clone = folder / "person"
        git("clone", "-q", str(self.bare), str(self.clone))
        self.issue = self.github.add_issue(self.repository, "Broken").number
        gh = Path(require_program("gh"))
        self.gh = Desk(GhSettings("github.com", TOKEN, folder, str(gh.parent), self.github.gh_config_dir))
        self.events = Events()
        self.data_dir = folder / "data"

    def _git(self, *arguments: str) -> str:
        return git("-C", str(self.clone), *arguments)

    def commit(self, branch: str, path: str = "a.txt") -> str:
        """Somebody's commit on the branch, pushed."""
        start = branch if self.git.branch_sha("acme", "widgets", branch) else "main"
        self._git("fetch", "-q", "origin")
        self._git("checkout", "-q", "-B", branch, f"origin/{start}")
        with (self.clone / path).open("a") as file:
            file.write("more\n")
        self._git("add", "-A")
        identity = ("-c", "user.name=P", "-c", "user.email=p@example.com")
        self._git(*identity, "commit", "-q", "--allow-empty", "-m", "A change")
        self._git("push", "-q", "origin", branch)
        return self._git("rev-parse", "HEAD").strip()

    def order(self, *, failed: int = 0, **values: Any) -> AgentWorkOrder:
        order = make_order(
            repository="acme/widgets",
            workflow_type=AgentWorkflowType.PLAN_BUILD_TEST,
            github_issue_number=str(self.issue),
            initial_prompt="Mend it.",
        )
        base = git("rev-parse", "main", folder=self.bare).strip()
        head = self.commit(order.git_branch_name)
        fields = {
            "status": Status.RUNNING,
            "base_sha": base,
            "base_branch": "main",
            "head_sha": head,
            "git_files_changed": 1,
            **values,
        }
        AgentWorkOrder.objects.filter(pk=order.pk).update(**fields)
        for phase in (Phase.PLANNING, Phase.IMPLEMENTING, Phase.TESTING):
            numbers: dict[str, Any] = (
                {"tests_passed": 2, "tests_failed": failed} if phase == Phase.TESTING else {}
            )
            make_run(order, phase, start_sha=base, end_sha=head, **numbers)
        order.refresh_from_db()
        return order

    def follow_up(self, order: AgentWorkOrder, *, commit: bool = True) -> None:
        """A person asked for more, and it is done, pushed and tested."""
        order.refresh_from_db()
        services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="More.", by="ann")
        order.prompts.update(status="done")
        before = order.head_sha
        head = self.commit(order.git_branch_name, "b.txt") if commit else before
        make_run(order, Phase.TESTING, kind=StepKind.FOLLOW_UP, start_sha=before, end_sha=head)
        AgentWorkOrder.objects.filter(pk=order.pk).update(head_sha=head)
        if commit:
            make_run(order, Phase.TESTING, start_sha=head, end_sha=head, tests_passed=2, tests_failed=0)

    def parts(self, crash_at: str = "") -> EngineParts:
        def crash_point(name: str, _branch: str) -> None:
            if name == crash_at:
                raise Crashed(name)

        parts = wiring.engine_parts()
        return replace(
            parts,
            issues=GitHubIssueClient(self.gh, (0.0, 0.1)),
            pull_requests=GitHubPullRequestClient(self.gh, (0.0, 0.1)),
            crash_point=crash_point,  # type: ignore[arg-type]  # raises where the real one kills
        )

    def step(self, order: AgentWorkOrder, crash_at: str = "") -> AgentWorkOrder:
        """One claim of the order and its step, whatever pause or lease there was."""
        AgentWorkOrder.objects.filter(pk=order.pk, status__in=["pending", "running"]).update(
            claimable_at=database_now()
        )
        expire(order)
        journal = StepJournal(claim(order), InlineDatabase())
        plan = journal.begin()
        log = StepLogger(order.pk, plan.context, self.events)
        Orchestrator(ClaimedStep(self.parts(crash_at), journal, log, StepControl(), plan)).run()
        order.refresh_from_db()
        return order

    def finish(self, order: AgentWorkOrder, steps: int = 5) -> AgentWorkOrder:
        for _ in range(steps):
            if self.step(order).status not in {Status.PENDING, Status.RUNNING}:
                break
        return order

    @property
    def pull_requests(self) -> list[PullRequest]:
        return list(self.repository.pull_requests.values())

    def law(self, order: AgentWorkOrder) -> PullRequest:
        """Completed, with one of everything, and rows that say so."""
        order.refresh_from_db()
        assert order.status == Status.COMPLETED, (order.status, order.error_message, self.events.names)
        (pull_request,) = self.pull_requests
        assert pull_request.state == "open"
        assert len(self.repository.comments) == 1
        assert order.github_pull_request_number == pull_request.number
        effects = {effect.kind: effect for effect in order.effects.all()}
        assert {effect.state for effect in effects.values()} == {EffectState.CONFIRMED}
        assert all(effect.settled for effect in effects.values())
        assert effects["pull_request"].number == pull_request.number
        assert "#issuecomment-" in effects["comment"].address
        return pull_request


@pytest.fixture
def world(tmp_path: Path, settings: Any) -> Iterator[World]:
    with ExitStack() as stack:
        found = World(tmp_path, stack)
        settings.GH_TOKEN = TOKEN
        settings.GH_CONFIG_DIR = str(found.github.gh_config_dir)
        settings.WORKORDERS_GITHUB_GIT_BASE_URL = found.git.base_url
        settings.WORKORDERS_DATA_DIR = found.data_dir
        yield found


def cancel(order: AgentWorkOrder) -> AgentWorkOrder:
    return services.cancel_agent_work_order(agent_work_order_id=str(order), by="ann")


# --- one of everything ---


def test_one_of_everything(world: World) -> None:
    order = world.finish(world.order())
    pull_request = world.law(order)
    assert order.outcome == "pull_request_opened"
    assert not pull_request.is_draft
    assert "Mend it." in (pull_request.body or "")
    assert world.github.recorded("PATCH", ".*") == []


@pytest.mark.parametrize("stale", [0, 1], ids=["fresh", "stale"])
@pytest.mark.parametrize("fault", TOO_LATE, ids=IDS)
@pytest.mark.parametrize("path", [PULLS, COMMENTS], ids=["pull request", "comment"])
def test_done_but_the_answer_was_lost(world: World, path: str, fault: dict[str, Any], stale: int) -> None:
    world.github.fail("POST", path, execute=True, **fault)
    if stale:  # the list shows it late only
        world.gh.after["POST", path.removeprefix("/")] = lambda: world.github.fail(
            "GET", f"{path}$", stale=True
        )
    order = world.finish(world.order())
    world.law(order)
    assert len(world.github.recorded("POST", path)) == 1


@pytest.mark.parametrize("path", [PULLS, COMMENTS], ids=["pull request", "comment"])
def test_lost_on_the_way_there(world: World, path: str) -> None:
    world.github.fail("POST", path, drop=True)
    order = world.order()
    assert world.step(order).status == Status.RUNNING
    assert order.effects.filter(state=EffectState.UNKNOWN).count() == 1
    world.law(world.finish(order))
    assert len(world.github.recorded("POST", path)) == 2


@pytest.mark.parametrize("point", ["pull_request_posted", "pull_request_stored", "commented"])
def test_the_worker_dies(world: World, point: str) -> None:
    order = world.order()
    with pytest.raises(Crashed):
        world.step(order, crash_at=point)
    world.law(world.finish(order))
    assert len(world.github.recorded("POST", PULLS)) == 1
    assert len(world.github.recorded("POST", COMMENTS)) == 1


def test_the_worker_dies_before_github_was_asked(world: World) -> None:
    order = world.order()

    def crash() -> None:
        raise Crashed

    world.gh.before["POST", "pulls"] = crash
    with pytest.raises(Crashed):
        world.step(order)
    assert order.effects.get(kind="pull_request").state == EffectState.SENT
    world.law(world.finish(order))


def test_a_rate_limit_is_a_visible_wait_and_no_attempt(world: World) -> None:
    order = world.order()
    for _ in range(7):  # more often than anything is tried
        words = {"message": "You have exceeded a secondary rate limit."}
        world.github.fail("POST", PULLS, status=403, body=words)
        world.step(order)
        assert (order.status, order.waiting_reason) == (Status.RUNNING, "github_rate_limited")
        assert order.waiting_until is not None
        assert "secondary rate limit" in order.waiting_message
        services.continue_agent_work_order(agent_work_order_id=str(order), by="ann")
        world.gh._gate._free_until = 0  # type: ignore[union-attr]  # what it believed for a second
    world.law(world.finish(order))


def test_a_comment_that_is_not_allowed_undoes_nothing(world: World) -> None:
    world.github.fail("POST", COMMENTS, status=403, body={"message": "The conversation is locked."})
    order = world.finish(world.order())
    assert order.status == Status.COMPLETED
    assert "github_issue_comment_failed" in world.events.names


def test_a_workers_death_is_no_try_of_the_comment(world: World) -> None:
    """As for the step itself: of the tries a comment has, the one whose worker died is not counted."""
    order = world.order()
    for _ in range(RULES["github_unavailable"].attempts - 2):
        world.github.fail("POST", COMMENTS, status=502)
        world.step(order)
    with pytest.raises(Crashed):
        world.step(order, crash_at="pull_request_stored")
    world.github.fail("POST", COMMENTS, status=502)
    assert world.step(order).status == Status.RUNNING
    assert "github_issue_comment_failed" not in world.events.names
    world.law(world.finish(order))


def test_another_host_delivers(world: World, settings: Any, tmp_path: Path) -> None:
    """It has no mirror yet."""
    order = world.order()
    with pytest.raises(Crashed):
        world.step(order, crash_at="pull_request_posted")
    settings.WORKORDERS_DATA_DIR = tmp_path / "other host"
    world.law(world.finish(order))


# --- outcomes ---


def test_failing_tests_make_a_draft_that_says_so(world: World) -> None:
    order = world.finish(world.order(failed=3))
    pull_request = world.law(order)
    assert order.outcome == "tests_failed"
    assert pull_request.is_draft
    assert "**3 tests fail.**" in (pull_request.body or "")
    assert "3 tests fail" in world.repository.comments[0].body
    world.follow_up(order)
    world.finish(order)
    assert order.outcome == "pull_request_opened"
    assert "Mark this draft as ready" in (world.law(order).body or "")


def test_nothing_changed_and_nothing_is_opened(world: World) -> None:
    order = world.order(git_files_changed=0)
    order.phase_runs.filter(phase=Phase.IMPLEMENTING).update(status=PhaseRunStatus.NO_CHANGE_NEEDED)
    world.finish(order)
    assert (order.status, order.outcome) == (Status.COMPLETED, "no_change_needed")
    assert world.pull_requests == []
    assert "no change is needed" in world.repository.comments[0].body


def test_no_change_needed_but_there_is_a_plan_to_read(world: World) -> None:
    order = world.order()
    order.phase_runs.filter(phase=Phase.IMPLEMENTING).update(status=PhaseRunStatus.NO_CHANGE_NEEDED)
    world.law(world.finish(order))
    assert order.outcome == "no_change_needed"


# --- follow-ups, and what people do ---


def test_a_follow_up_updates_the_same_pull_request_and_keeps_a_persons_words(world: World) -> None:
    order = world.finish(world.order())
    pull_request = world.law(order)
    pull_request.title = "A person's title"
    pull_request.body = f"Words before.\r\n\r\n{pull_request.body}\nWords after."
    old_text = pull_request.body
    world.follow_up(order)
    AgentWorkOrder.objects.filter(pk=order.pk).update(git_files_changed=2)
    world.finish(order)
    assert world.law(order) is pull_request
    assert pull_request.title == "A person's title"
    assert pull_request.body is not None
    assert pull_request.body != old_text
    assert pull_request.body.startswith("Words before.\n\n<!-- work-order: begin -->")
    assert pull_request.body.endswith("\nWords after.")
    assert "2 files changed" in pull_request.body
    assert pull_request.head_sha == order.head_sha


def test_a_closed_pull_request_is_left_alone_or_reopened_for_new_work(world: World) -> None:
    order = world.finish(world.order())
    pull_request = world.law(order)
    pull_request.state = "closed"
    world.follow_up(order, commit=False)
    world.finish(order)
    assert (order.status, pull_request.state) == (Status.COMPLETED, "closed")
    assert "github_pull_request_left_closed" in world.events.names
    world.follow_up(order)
    world.finish(order)
    assert world.law(order) is pull_request


def test_a_merged_pull_request_takes_no_more_so_new_work_gets_its_own(world: World) -> None:
    order = world.finish(world.order())
    pull_request = world.law(order)
    pull_request.state, pull_request.is_merged = "closed", True
    world.follow_up(order, commit=False)
    world.finish(order)
    assert (order.status, world.pull_requests) == (Status.COMPLETED, [pull_request])
    world.follow_up(order)
    world.finish(order)
    assert [item.state for item in world.pull_requests] == ["closed", "open"]
    assert order.github_pull_request_number == world.pull_requests[1].number


def test_a_persons_commits_on_the_branch_are_never_lost(world: World) -> None:
    order = world.order()
    theirs = world.commit(order.git_branch_name, "theirs.txt")
    world.finish(order)
    assert (order.status, order.error_category) == (Status.FAILED, "push_rejected")
    assert world.git.branch_sha("acme", "widgets", order.git_branch_name) == theirs
    assert theirs[:12] in (order.error_message or "")


@pytest.mark.parametrize("failed", [0, 2])
def test_results_of_an_older_commit_are_said_to_be(world: World, failed: int) -> None:
    order = world.order(failed=failed)
    tested = order.head_sha
    world.commit(order.git_branch_name, "theirs.txt")
    world.finish(order)
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")  # as it is on the remote now
    world.finish(order)
    body = world.law(order).body or ""
    numbers = "2 passed, 2 failed" if failed else "2 passed"
    assert f"<sub>{numbers} at {tested[:7]}, 1 commit ago, not tested since.</sub>" in body
    assert (f"**2 failed at {tested[:7]}, 1 commit ago, not tested since.**" in body) is bool(failed)
    assert "2 tests fail" not in body


# --- cancel ---


def test_a_cancel_before_anything_was_sent_wins(world: World) -> None:
    order = world.order()
    world.gh.after["GET", "pulls"] = lambda: cancel(order)  # while the step looks
    world.step(order)
    assert order.status == Status.CANCELLED
    assert world.github.recorded("POST", ".*") == []


def test_a_cancel_is_refused_while_the_pull_request_is_being_opened(world: World) -> None:
    order = world.order()
    refused = []

    def try_to_cancel() -> None:
        with pytest.raises(ConflictError, match="pull request") as caught:
            cancel(order)
        refused.append(caught.value)

    world.gh.before["POST", "pulls"] = try_to_cancel
    world.gh.after["POST", "comments"] = try_to_cancel
    world.law(world.finish(order))
    assert len(refused) == 2
    assert order.transitions.filter(to_status__in=["completed", "cancelled", "failed"]).count() == 1


@pytest.mark.parametrize("execute", [True, False], ids=["opened", "not opened"])
def test_a_cancel_after_a_lost_answer_takes_the_pull_request_back(world: World, execute: bool) -> None:
    order = world.order()
    world.github.fail("POST", PULLS, drop=True, execute=execute)
    if execute:  # GitHub cannot be asked what came of it either
        world.gh.after["POST", "pulls"] = lambda: world.github.fail("GET", PULLS, status=503)
    assert world.step(order).status == Status.RUNNING
    assert cancel(order).status == Status.RUNNING
    assert world.step(order).status == Status.CANCELLED
    assert [item.state for item in world.pull_requests] == (["closed"] if execute else [])
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    world.law(world.finish(order))


def test_a_cancel_takes_the_second_pull_request_back_and_leaves_the_merged_one(world: World) -> None:
    order = world.finish(world.order())
    merged = world.law(order)
    merged.state, merged.is_merged = "closed", True
    world.follow_up(order)
    world.github.fail("POST", PULLS, drop=True, execute=True)
    world.gh.after["POST", "pulls"] = lambda: world.github.fail("GET", PULLS, status=503)
    assert world.step(order).status == Status.RUNNING
    cancel(order)
    assert world.step(order).status == Status.CANCELLED
    assert [(item.state, item.is_merged) for item in world.pull_requests] == [
        ("closed", True),
        ("closed", False),
    ]
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    world.finish(order)
    assert [item.state for item in world.pull_requests] == ["closed", "open"]
    assert order.github_pull_request_number == world.pull_requests[1].number


def test_a_cancel_while_the_comment_waits_takes_the_pull_request_back(world: World) -> None:
    order = world.order()
    world.github.fail("POST", COMMENTS, status=429, headers={"Retry-After": "600"})
    assert world.step(order).waiting_reason == "github_rate_limited"
    shown = cancel(order)
    assert (shown.status, shown.waiting_reason) == (Status.RUNNING, "")
    rate_limit_has_passed(world)
    assert world.step(order).status == Status.CANCELLED
    assert [item.state for item in world.pull_requests] == ["closed"]


def rate_limit_has_passed(world: World) -> None:
    """The rate limit has passed."""
    github_limits.forget("github.com")
    world.gh._gate._free_until = 0  # type: ignore[union-attr]  # likewise


def owing(world: World) -> AgentWorkOrder:
    """A cancelled order whose pull request is open: GitHub asks to wait, and the cancel did not."""
    order = world.order()
    world.github.fail("POST", COMMENTS, status=429, headers={"Retry-After": "600"})
    world.step(order)
    cancel(order)
    assert world.step(order).status == Status.CANCELLED
    assert [item.state for item in world.pull_requests] == ["open"]
    return order


def owed(order: AgentWorkOrder) -> OutsideEffect:
    order.refresh_from_db()
    return order.effects.get(kind=EffectKind.PULL_REQUEST)


def fall_due(order: AgentWorkOrder, **values: Any) -> None:
    """The next try's time has come, and the rate limit has passed."""
    order.effects.filter(withdraw_at__isnull=False).update(withdraw_at=database_now(), **values)


def withdraw(world: World) -> tuple[str, ...]:
    rate_limit_has_passed(world)
    return withdraw_owed(world.parts())


def test_a_pull_request_that_a_cancel_left_open_is_closed_when_the_rate_limit_ends(world: World) -> None:
    order = owing(world)
    assert owed(order).state == EffectState.OWED
    assert (order.error_category, order.error_advice) == (
        "pull_request_left_open",
        PullRequestLeftOpen.advice,
    )
    due = owed(order).withdraw_at
    assert due is not None
    assert due > database_now() + timedelta(seconds=500)  # as GitHub said
    assert withdraw(world) == ()
    fall_due(order)
    assert withdraw(world) == (str(order),)
    assert [item.state for item in world.pull_requests] == ["closed"]
    assert owed(order).state == EffectState.UNDONE
    assert (order.status, order.error_message, order.error_advice) == (Status.CANCELLED, None, None)
    assert order.log_entries.filter(event="github_pull_request_withdrawn").count() == 1
    fall_due(order)
    assert withdraw(world) == ()


@pytest.mark.parametrize(
    "fault", [{"status": 401}, {"status": 503}, {"status": 404}], ids=["401", "503", "404"]
)
def test_a_cancel_where_github_is_away_still_cancels_and_closes_later(
    world: World, fault: dict[str, Any]
) -> None:
    order = world.order()
    with pytest.raises(Crashed):
        world.step(order, crash_at="pull_request_stored")
    expire(order)
    cancel(order)
    world.github.fail("*", ".*", times=2, **fault)
    assert world.step(order).status == Status.CANCELLED
    assert "github_pull_request_not_withdrawn" in world.events.names
    fall_due(order)
    assert withdraw(world) == ()  # still away
    fall_due(order)
    world.github.fail("PATCH", PULLS, drop=True)  # done, and the answer is lost
    assert withdraw(world) == ()
    fall_due(order)
    assert withdraw(world) == (str(order),)
    assert [item.state for item in world.pull_requests] == ["closed"]


def test_what_cannot_be_closed_is_given_up_and_says_so(world: World) -> None:
    order = owing(world)
    fall_due(order, withdrawals=RULES["pull_request_left_open"].attempts - 1)
    world.github.fail("*", ".*", status=403)
    assert withdraw(world) == ()
    assert (owed(order).state, owed(order).withdraw_at) == (EffectState.OWED, None)
    assert "close it on GitHub" in (order.error_advice or "")
    assert order.log_entries.get(event="github_pull_request_not_withdrawn").level == "error"
    assert withdraw(world) == ()
    assert [item.state for item in world.pull_requests] == ["open"]


def test_a_retry_takes_over_the_pull_request_that_was_to_be_closed(world: World) -> None:
    order = owing(world)
    rate_limit_has_passed(world)
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    fall_due(order)
    assert withdraw(world) == ()  # the order is no longer cancelled
    world.law(world.finish(order))
    assert owed(order).settled
    assert order.error_message is None


def test_a_second_cancel_closes_what_the_first_one_left(world: World) -> None:
    order = owing(world)
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    assert cancel(order).status == Status.PENDING
    rate_limit_has_passed(world)
    assert world.step(order).status == Status.CANCELLED
    assert [item.state for item in world.pull_requests] == ["closed"]
    assert owed(order).state == EffectState.UNDONE


def test_nobody_retries_or_closes_while_the_pull_request_is_being_closed(world: World) -> None:
    order = owing(world)
    fall_due(order)
    tried: list[tuple[str, ...]] = []

    def meanwhile() -> None:
        tried.append(withdraw_owed(world.parts()))
        with pytest.raises(ConflictError, match="being closed"):
            services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")

    world.gh.before["PATCH", "pulls"] = meanwhile
    assert withdraw(world) == (str(order),)
    assert tried == [()]
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")
    world.law(world.finish(order))


def test_a_try_whose_process_died_is_made_again(world: World) -> None:
    order = owing(world)
    fall_due(order)

    def die() -> None:
        raise Crashed

    world.gh.before["PATCH", "pulls"] = die
    with pytest.raises(Crashed):
        withdraw(world)
    assert (owed(order).state, owed(order).withdrawals) == (EffectState.UNDOING, 2)
    assert withdraw(world) == ()
    fall_due(order)
    assert withdraw(world) == (str(order),)


def test_a_worker_is_asked_once_for_what_is_due(world: World) -> None:
    order = owing(world)
    OrmQ.objects.all().delete()
    issue_missing_task()
    assert OrmQ.objects.count() == 0
    fall_due(order)
    issue_missing_task()
    issue_missing_task()
    (message,) = OrmQ.objects.all()
    assert message.func() == WITHDRAW_TASK
    rate_limit_has_passed(world)
    for _ in range(2):
        tasks.withdraw_pull_requests()
    assert [item.state for item in world.pull_requests] == ["closed"]


def test_a_follow_ups_cancel_leaves_the_delivered_pull_request_alone(world: World) -> None:
    order = world.finish(world.order())
    pull_request = world.law(order)
    services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text="More.", by="ann")
    assert cancel(order).status == Status.CANCELLED
    assert pull_request.state == "open"


def test_completion_yields_to_a_cancel_that_came_first(world: World) -> None:
    order = world.order(git_files_changed=0, github_issue_number=None)
    journal = StepJournal(claim(order), InlineDatabase())
    plan = journal.begin()
    cancel(order)
    control = StepControl()
    log = StepLogger(order.pk, plan.context, world.events)
    Orchestrator(ClaimedStep(world.parts(), journal, log, control, plan)).run()
    order.refresh_from_db()
    assert (order.status, control.cause) == (Status.CANCELLED, StopCause.CANCEL)


# --- what kills its worker each time ---


def deadly(world: World, point: str) -> tuple[AgentWorkOrder, Path]:
    """An order with a place that is still there, and that place."""
    order = world.order()
    identifier = order.expected_sandbox_identifier
    place = world.data_dir / "sandboxes" / identifier / identifier
    place.mkdir(parents=True)
    with pytest.raises(Crashed):
        world.step(order, crash_at=point)
    return order, place


@pytest.mark.parametrize("point", ["claimed", "cleaning"])
def test_three_deaths_at_the_same_place_end_the_order_without_a_fourth(world: World, point: str) -> None:
    order, place = deadly(world, point)
    for _ in range(2):
        with pytest.raises(Crashed):
            world.step(order, crash_at=point)
    world.step(order, crash_at=point)
    assert (order.status, order.error_category) == (Status.FAILED, "worker_lost")
    assert_left_to_recovery(place)


def assert_left_to_recovery(place: Path) -> None:
    assert place.is_dir()
    assert [message.func() for message in OrmQ.objects.all()].count(RECOVERY_TASK) == 1


@pytest.mark.parametrize("point", ["claimed", "cleaning"])
def test_a_cancel_does_not_repeat_what_killed_the_worker_that_cancelled(world: World, point: str) -> None:
    order, place = deadly(world, point)
    expire(order)
    cancel(order)
    with pytest.raises(Crashed):
        world.step(order, crash_at=point)
    assert world.step(order, crash_at=point).status == Status.CANCELLED
    assert_left_to_recovery(place)


def test_a_cancel_that_killed_its_worker_leaves_the_pull_request_to_others(world: World) -> None:
    order = world.order()
    with pytest.raises(Crashed):
        world.step(order, crash_at="pull_request_stored")
    expire(order)
    cancel(order)
    with pytest.raises(Crashed):
        world.step(order, crash_at="claimed")
    asked = len(world.github.recorded("*", ".*"))
    assert world.step(order, crash_at="claimed").status == Status.CANCELLED
    assert len(world.github.recorded("*", ".*")) == asked
    fall_due(order)
    assert withdraw(world) == (str(order),)
    assert [item.state for item in world.pull_requests] == ["closed"]
