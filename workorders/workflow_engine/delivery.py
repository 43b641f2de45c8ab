"""The last step: the remote has the commits, the pull request exists, the issue knows. Looks, then says so.

What is published, and how one of everything is kept, is `github_delivery`'s; here is what is said in it and what
the order's outcome is.
"""

from collections.abc import Callable

from github_app.references import RepositoryReference
from sandboxes.errors import PushRejected
from sandboxes.git import RemoteRefs, RemoteRepository
from sandboxes.mirror import RepositoryMirror
from workorders.models import PhaseRun
from workorders.states import STEP_DONE, AgentWorkOrderOutcome, PhaseRunStatus
from workorders.workflow_definitions import StepKind, steps_of
from workorders.workflow_engine.github_delivery import GitHubDelivery
from workorders.workflow_engine.parts import EngineParts
from workorders.workflow_engine.phase_tracker import says_no_change_needed
from workorders.workflow_engine.pull_request_template import find_template
from workorders.workflow_engine.pull_request_text import (
    PhaseSummary,
    PullRequestFacts,
    TestNumbers,
    issue_comment,
    pull_request_body,
    pull_request_title,
)
from workorders.workflow_engine.step_plan import StepPlan


class Delivery:
    """Delivers one order. `check` raises when the supervisor has ended the step."""

    def __init__(self, parts: EngineParts, github: GitHubDelivery, check: Callable[[], None]) -> None:
        self._parts = parts
        self._github = github
        self._check = check

    def deliver(
        self, plan: StepPlan, mirror: RepositoryMirror, remote: RemoteRepository
    ) -> AgentWorkOrderOutcome:
        """The order's outcome, once everything that makes it true was seen. Raises `ExpectedError`s.

        An order that changed nothing gets no pull request, which could show nothing; its issue hears why.
        """
        order = plan.order
        reference = self._parts.parse_reference(plan.repository.repository_url)
        tests = _tests(plan.runs)
        outcome = _outcome(plan, reference, tests)
        seen = self._parts.look_ahead.take(order, remote)
        if reference.is_local:
            self._require_pushed(plan, mirror, remote, seen)
            return outcome
        point = mirror.refresh(  # another host may have worked so far
            remote, base_branch=order.base_branch or None, git_branch_name=order.git_branch_name, seen=seen
        )
        if point.branch_sha != order.head_sha:
            self._require_pushed(plan, mirror, remote)
        facts = self._facts(plan, mirror, tests)
        self._check()
        url = self._pull_request(facts, tests) if _has_something_to_review(plan) else ""
        if order.github_issue_number:
            comment = issue_comment(
                pull_request_url=url, outcome=outcome, tests=tests, reason=facts.no_change_reason
            )
            self._github.comment(order.github_issue_number, comment)
        self._require_pushed(plan, mirror, remote)
        return outcome

    def _pull_request(self, facts: PullRequestFacts, tests: TestNumbers | None) -> str:
        found = self._github.pull_request(
            title=pull_request_title(facts),
            body=pull_request_body(facts),
            draft=bool(tests and tests.failed),
            tests_pass=tests is not None and not tests.failed,
        )
        return found.pull_request_url

    def _require_pushed(
        self,
        plan: StepPlan,
        mirror: RepositoryMirror,
        remote: RemoteRepository,
        seen: RemoteRefs | None = None,
    ) -> None:
        """The remote branch is at the inspected commit; pushed again from this host's mirror where it is not."""
        order, git = plan.order, self._parts.git
        refs = seen or git.remote_refs(remote, [order.git_branch_name])
        found = refs.branches.get(order.git_branch_name)
        if found == order.head_sha:
            return
        if not git.has_commit(mirror.path, order.head_sha):
            raise PushRejected(
                f"The remote branch {order.git_branch_name} is at {(found or 'nothing')[:12]}, not at the "
                f"inspected commit {order.head_sha[:12]}.",
                advice="Restore the branch on the remote, then retry.",
            )
        mirror.push(remote, sha=order.head_sha, git_branch_name=order.git_branch_name)

    def _facts(self, plan: StepPlan, mirror: RepositoryMirror, tests: TestNumbers | None) -> PullRequestFacts:
        order, git = plan.order, self._parts.git
        plan_path = next((run.plan_path for run in reversed(plan.runs) if run.plan_path), "")
        plan_text = git.read_file(mirror.path, order.head_sha, plan_path) if plan_path else None
        commits = git.commits(mirror.path, base=order.base_sha, head=order.head_sha)
        unchanged = says_no_change_needed(commits) if _no_change(plan) else None
        return PullRequestFacts(
            agent_work_order_id=order.agent_work_order_id,
            request=order.initial_prompt,
            issue_number=order.github_issue_number or "",
            issue_title=order.github_issue_title,
            issue_state=order.github_issue_state,
            phases=_phases(plan),
            plan_path=plan_path,
            plan=(plan_text or b"").decode("utf-8", "replace"),
            tests=tests,
            commit_subjects=[commit.subject for commit in commits],
            files_changed=order.git_files_changed,
            lines_added=order.git_lines_added,
            lines_removed=order.git_lines_removed,
            no_change_reason=unchanged.message if unchanged else "",
            template=find_template(git, mirror.path, order.base_sha),
        )


def _outcome(
    plan: StepPlan, reference: RepositoryReference, tests: TestNumbers | None
) -> AgentWorkOrderOutcome:
    if tests is not None and tests.failed:
        return AgentWorkOrderOutcome.TESTS_FAILED
    if _no_change(plan) or not _has_something_to_review(plan):
        return AgentWorkOrderOutcome.NO_CHANGE_NEEDED
    return (
        AgentWorkOrderOutcome.BRANCH_PUSHED
        if reference.is_local
        else AgentWorkOrderOutcome.PULL_REQUEST_OPENED
    )


def _has_something_to_review(plan: StepPlan) -> bool:
    """Files that differ from the base branch; or a pull request from before, which a follow-up has emptied."""
    return plan.order.git_files_changed > 0 or plan.order.github_pull_request_number is not None


def _no_change(plan: StepPlan) -> bool:
    """The implementing phase said so, and no follow-up has changed anything since."""
    said = [run.sequence for run in plan.runs if run.status == PhaseRunStatus.NO_CHANGE_NEEDED]
    return bool(said) and not any(
        run.kind == StepKind.FOLLOW_UP and run.status in STEP_DONE and run.end_sha != run.start_sha
        for run in plan.runs
        if run.sequence > said[-1]
    )


def _tests(runs: tuple[PhaseRun, ...]) -> TestNumbers | None:
    """The newest test phase's results."""
    for run in reversed(runs):
        if run.tests_failed is not None:
            listed = (run.test_results or {}).get("tests", [])
            failures = [str(test.get("name", "")) for test in listed if test.get("status") == "failed"]
            return TestNumbers(run.tests_passed or 0, run.tests_failed, failures)
    return None


def _phases(plan: StepPlan) -> list[PhaseSummary]:
    titles = {step.phase: step.title for step in steps_of(plan.order.workflow_type)}
    summaries = []
    for run in plan.runs:
        if run.status not in STEP_DONE or run.kind == StepKind.DELIVERY or run.completed_at is None:
            continue
        title = titles.get(run.phase, run.phase)  # type: ignore[call-overload]  # phases are str enums
        title = "Follow-up" if run.kind == StepKind.FOLLOW_UP else title
        seconds = (run.completed_at - run.started_at).total_seconds()
        summaries.append(PhaseSummary(title, run.commits, run.attempt, seconds))
    return summaries
