"""The last step: the remote has the commits, the pull request exists, the issue knows. Looks, then says so.

What is published, and how one of everything is kept, is `github_delivery`'s; here is what is said in it and what
the order's outcome is.
"""

from collections.abc import Sequence
from dataclasses import replace

from github_app.references import RepositoryReference
from github_app.types import GitHubPullRequest
from sandboxes.errors import BranchMoved, PushRejected
from sandboxes.sweep.rules import LeftOut, merged
from sandboxes.trusted_git.git import RemoteRepository
from sandboxes.trusted_git.mirror import RepositoryMirror, StartingPoint
from sandboxes.trusted_git.objects import Commit
from workorders.domain.states import STEP_DONE, AgentWorkOrderOutcome, PhaseRunStatus
from workorders.domain.workflows import StepKind, steps_of
from workorders.models import PhaseRun
from workorders.reading.left_out import of_delivery
from workorders.workflow_engine.outward.github_delivery import GitHubDelivery
from workorders.workflow_engine.outward.pull_request_template import find_template
from workorders.workflow_engine.outward.pull_request_text import (
    PhaseSummary,
    PullRequestFacts,
    TestNumbers,
    issue_comment,
    pull_request_body,
    pull_request_title,
)
from workorders.workflow_engine.place.branch_line import BranchLine, Start
from workorders.workflow_engine.place.salvage import kept_ref
from workorders.workflow_engine.place.upstream import Upstream
from workorders.workflow_engine.planning.phase_tracker import says_no_change_needed, track
from workorders.workflow_engine.planning.step_plan import StepPlan
from workorders.workflow_engine.record.claimed_step import ClaimedStep

_READY = "The pull request is marked as ready for review, but is not ready to merge"
_MAKE_IT_A_DRAFT = "Convert it to a draft on GitHub, or ask for a follow-up that mends it."


class Delivery:
    """Delivers one order."""

    def __init__(self, step: ClaimedStep, github: GitHubDelivery) -> None:
        self._step = step
        self._parts = step.parts
        self._github = github

    def deliver(
        self, plan: StepPlan, mirror: RepositoryMirror, remote: RemoteRepository
    ) -> AgentWorkOrderOutcome:
        """The order's outcome, once everything that makes it true was seen. Raises `ExpectedError`s.

        An order that changed nothing gets no pull request, which could show nothing; its issue hears why.
        """
        order = plan.order
        reference = self._parts.parse_reference(plan.repository.repository_url)
        tests = _tests(plan.runs)
        upstream = Upstream(self._step, reference, mirror, remote)
        seen = self._parts.look_ahead.take(order, remote)
        if reference.is_local:
            refs = seen or self._parts.git.remote_refs(remote, [order.git_branch_name])
            found = refs.branches.get(order.git_branch_name, "")
            if found != order.head_sha:
                self._meet(upstream, mirror, remote)
            return _outcome(plan, reference, tests)
        point = upstream.refresh(seen)  # another host may have worked so far
        if point.base_branch != order.base_branch:
            order.base_branch = point.base_branch
            self._step.journal.update_order(base_branch=point.base_branch)
        is_there = point.branch_sha == order.head_sha or self._meet(upstream, mirror, remote, point)
        facts = self._facts(plan, mirror, tests)
        tests = facts.tests
        self._step.control.check()
        shown = self._pull_request(upstream, facts, tests, is_there=is_there)
        outcome = _outcome(plan, reference, tests)
        if shown is not None:
            self._warn_of_ready(shown, facts)
        if order.github_issue_number:
            comment = issue_comment(
                pull_request_url=shown.pull_request_url if shown else "",
                outcome=outcome,
                tests=tests,
                reason=facts.no_change_reason,
                is_unfinished=facts.is_unfinished,
                is_draft=shown is not None and shown.is_draft,
            )
            self._github.comment(order.github_issue_number, comment)
        if is_there:
            self._look_once_more(upstream, mirror, remote)
        return outcome

    def _pull_request(
        self, upstream: Upstream, facts: PullRequestFacts, tests: TestNumbers | None, *, is_there: bool
    ) -> GitHubPullRequest | None:
        """As it is in the end; None where there is none: then there is nothing to review."""
        plan, before = self._step.plan, upstream.pull_request
        past = before is not None and before.state == "merged" and before.head_sha != plan.order.head_sha
        if before is not None and (not is_there or (past and not plan.has_news)):
            self._step.log.info(
                "github_pull_request_found",
                pull_request_url=before.pull_request_url,
                pull_request_number=before.pull_request_number,
                state=before.state,
                draft=before.is_draft,
            )
            return before
        if not is_there or not _has_something_to_review(plan):
            return None
        return self._github.pull_request(
            title=pull_request_title(facts),
            body=pull_request_body(facts),
            draft=facts.is_no_more_than_a_draft,
            tests_pass=_pass(tests),
            after=before.pull_request_number if before is not None and past else None,
        )

    def _warn_of_ready(self, shown: GitHubPullRequest, facts: PullRequestFacts) -> None:
        """A person marked it as ready before, or the repository has no drafts: that is left so, and said."""
        if not facts.is_no_more_than_a_draft or shown.is_draft or shown.state != "open":
            return
        failing = facts.tests is not None and facts.tests.failed
        why = facts.tests.failing if failing and facts.tests else "something was left unfinished"
        self._step.journal.note_warning(f"{_READY} ({why}). {_MAKE_IT_A_DRAFT}", "")
        self._step.log.warning(
            "github_pull_request_not_a_draft", pull_request_url=shown.pull_request_url, reason=why
        )

    def _meet(
        self,
        upstream: Upstream,
        mirror: RepositoryMirror,
        remote: RemoteRepository,
        point: StartingPoint | None = None,
    ) -> bool:
        """The remote branch is not where we left it; whether it is there in the end, with the order's work.

        Deleted: it stays away where nothing is to be delivered, and else comes back. Moved by somebody else: the step
        fails and says so; after a retry it is delivered as it is. Nothing is pushed over it.
        """
        order, plan = self._step.plan.order, self._step.plan
        point = point or upstream.refresh()
        line = BranchLine(self._parts.git, mirror.path, upstream.record(), point)
        found = point.branch_sha or ""
        if not found:
            if not plan.has_news or line.is_merged:
                return False
            self._restore(mirror, remote)
            return True
        if plan.failed_before != PushRejected.category:
            raise BranchMoved(
                f"Somebody else moved {order.git_branch_name} on the remote to {found[:12]}; nothing there was "
                "overwritten.",
                advice="Retry to deliver the branch as it is on the remote now, or put it back first. What was made "
                f"here stays in the server's copy of the repository as {order.head_sha[:12]}.",
            )
        self._follow(mirror, line.start(), point)
        return True

    def _restore(self, mirror: RepositoryMirror, remote: RemoteRepository) -> None:
        order = self._step.plan.order
        if not self._parts.git.has_commit(mirror.path, order.head_sha):
            raise PushRejected(
                f"The remote branch {order.git_branch_name} is gone, and this worker's machine does not have the "
                f"inspected commit {order.head_sha[:12]}.",
                advice="Restore the branch on the remote, then retry.",
            )
        mirror.push(remote, sha=order.head_sha, git_branch_name=order.git_branch_name, seen="")
        self._step.log.warning(
            "git_branch_restored", git_branch_name=order.git_branch_name, git_commit_sha=order.head_sha
        )

    def _follow(self, mirror: RepositoryMirror, start: Start, point: StartingPoint) -> None:
        """What the remote has is the order's work from now on."""
        order, plan, git, path = self._step.plan.order, self._step.plan, self._parts.git, mirror.path
        head, before = point.branch_sha or "", order.head_sha
        order.base_sha, order.head_sha = start.base_sha, head
        commits = git.commits(path, base=start.base_sha, head=head, without=(point.base_sha,))
        base = git.merge_base(path, point.base_sha, head) or start.base_sha
        changes, patches = git.difference(path, base=base, head=head)
        progress = track(commits, changes, agent_work_order_id=order.agent_work_order_id, spans=plan.spans)
        order.git_files_changed = progress.files_changed
        order.git_lines_added, order.git_lines_removed = progress.lines_added, progress.lines_removed
        mirror.keep(kept_ref(order.agent_work_order_id), head)
        self._step.journal.record_statistics(plan.phase, progress, patches)
        self._step.journal.update_order(head_sha=head, base_sha=start.base_sha)
        self._step.log.warning(
            "git_branch_followed",
            git_branch_name=order.git_branch_name,
            how=start.met,
            found_sha=head,
            expected_sha=before,
            start_sha=head,
            base_branch=point.base_branch,
        )

    def _look_once_more(self, upstream: Upstream, mirror: RepositoryMirror, remote: RemoteRepository) -> None:
        """Merged and deleted, or moved, while it was delivered: a person's doing, which the pull request shows."""
        order = self._step.plan.order
        refs = self._parts.git.remote_refs(remote, [order.git_branch_name])
        found = refs.branches.get(order.git_branch_name, "")
        if found == order.head_sha:
            return
        if not found:
            self._step.log.warning(
                "git_branch_gone", git_branch_name=order.git_branch_name, expected_sha=order.head_sha
            )
            return
        point = upstream.refresh()
        if point.branch_sha:
            line = BranchLine(self._parts.git, mirror.path, upstream.record(), point)
            self._follow(mirror, line.start(), point)

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
            tests=_dated(tests, plan, commits),
            commit_subjects=[commit.subject for commit in commits],
            files_changed=order.git_files_changed,
            lines_added=order.git_lines_added,
            lines_removed=order.git_lines_removed,
            no_change_reason=unchanged.message if unchanged else "",
            template=find_template(git, mirror.path, order.base_sha),
            left_out=self._left_out(plan, mirror),
        )

    def _left_out(self, plan: StepPlan, mirror: RepositoryMirror) -> tuple[LeftOut, ...]:
        """What is not in the pull request, but for what a later step has committed after all."""
        last, earlier = of_delivery(plan.runs)
        if any(item.path for item in earlier):
            head = plan.order.head_sha
            listed = self._parts.git.run(
                *("ls-tree", "-z", "--name-only", head, "--", *(item.path for item in earlier if item.path)),
                git_dir=mirror.path,
            )
            there = set(listed.stdout.decode("utf-8", "replace").split("\0"))
            earlier = tuple(item for item in earlier if item.path.rstrip("/") not in there)
        return merged(last, earlier)


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


def _pass(tests: TestNumbers | None) -> bool | None:
    """Whether the tests of what is delivered pass, as far as is known."""
    if tests is None or (tests.stale_sha and not tests.failed):
        return None
    return not tests.failed


def _dated(tests: TestNumbers | None, plan: StepPlan, commits: Sequence[Commit]) -> TestNumbers | None:
    """Which commit they are of, where what is delivered is another, such as after somebody's push."""
    order, tested = plan.order, plan.tested_sha
    if tests is None or tested in {"", order.head_sha} or order.head_sha == order.tested_sha:
        return tests
    shas = [commit.sha for commit in commits]
    since = len(shas) - 1 - shas.index(tested) if tested in shas else None
    return replace(tests, stale_sha=tested, commits_since=since)


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
