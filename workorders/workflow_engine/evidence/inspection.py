"""What git shows after a step: progress, and the evidence its phase must have left. Only reads the mirror."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sandboxes.errors import PushTooLarge
from sandboxes.processes.concurrency import both
from sandboxes.sweep.conflict_markers import conflict_markers
from sandboxes.sweep.rules import LeftOut
from sandboxes.trusted_git.git import MOST_COMMITS, TrustedGit
from sandboxes.trusted_git.objects import Commit, Difference, FileChange
from workorders.domain.errors import EvidenceMissing
from workorders.domain.states import PhaseRunStatus
from workorders.domain.workflows import TEST_RESULTS_FILE, Evidence, StepKind
from workorders.workflow_engine.evidence.leftover_commit import DroppedLeftovers
from workorders.workflow_engine.place.workplace import Place
from workorders.workflow_engine.planning import phase_tracker
from workorders.workflow_engine.planning.phase_tracker import GitProgress, StepSpan
from workorders.workflow_engine.planning.step_plan import StepPlan
from workorders.workflow_engine.results_file.results import AgentTestResults, parse_test_results

_RESULTS_LIMIT = 4 * 1024 * 1024
_PLAN_LIMIT = 200_000
_NOT_TESTED = (
    f"The testing phase committed no {TEST_RESULTS_FILE}: write it from what the tests say now, and commit it, with "
    "`git commit --allow-empty` where nothing in it changed."
)
_NOT_TESTED_AGAIN = (
    f"The tests were to be run again for what changed since, and no commit says that they were: commit "
    f"{TEST_RESULTS_FILE} anew, with `git commit --allow-empty` where nothing in it changed."
)


@dataclass(frozen=True)
class Inspection:
    """A step's accepted head with the evidence found; `status` is `succeeded` or `no_change_needed`.

    `dropped`: leftovers that the server had committed on top of it, and that were refused.
    """

    head_sha: str
    progress: GitProgress
    status: PhaseRunStatus = PhaseRunStatus.SUCCEEDED
    plan_path: str = ""
    plan_text: str = ""
    patches: tuple[str, ...] = ()
    test_results: AgentTestResults | None = None
    dropped: DroppedLeftovers | None = None


class Inspector:
    """Inspects one step's commits in the trusted mirror."""

    def __init__(self, git: TrustedGit, plan: StepPlan, place: Place) -> None:
        self._git = git
        self._plan = plan
        self._place = place
        self._path = place.mirror.path
        self._seen: dict[tuple[str, str], Difference] = {}

    def progress(self, head_sha: str, *, at_end: bool = False) -> GitProgress:
        """All of the order's own commits, attributed to phases, and its changes as a pull request shows them.

        `at_end` also reads ahead what `evidence` will ask for.
        """

        def changes() -> tuple[FileChange, ...]:
            base_sha = self._compared_with(head_sha)
            self._compare((base_sha, self._since) if at_end else (base_sha,), head_sha)
            return self._changes(base_sha, head_sha)

        commits, changed = both(lambda: self._commits(head_sha), changes)
        spans = (*self._plan.spans, StepSpan(self._plan.phase, self._place.start_sha, head_sha))
        order_id = self._plan.order.agent_work_order_id
        found = phase_tracker.track(commits, changed, agent_work_order_id=order_id, spans=spans)
        return self._counted(found, head_sha)

    def _counted(self, progress: GitProgress, head_sha: str) -> GitProgress:
        """With the numbers of commits: of the order, and of this step from its first attempt on."""
        if len(progress.commits) < MOST_COMMITS:
            own = [commit for commit in progress.since(self._since) if progress.phase_of.get(commit.sha)]
            return replace(progress, step_count=len(own))
        place = self._place

        def count(*without: str) -> int:
            return self._git.count_commits(self._path, head=head_sha, base=place.base_sha, without=without)

        return replace(
            progress,
            commit_count=count(place.upstream_sha),
            step_count=count(place.upstream_sha, self._since),
        )

    @cached_property
    def _since(self) -> str:
        """Where the phase began, maybe in an earlier attempt, if that is still in the branch's history."""
        began, start = self._plan.phase_start_sha, self._place.start_sha
        if began and began != start and not self._git.is_ancestor(self._path, began, start):
            return start
        return began or start

    def _commits(self, head_sha: str) -> tuple[Commit, ...]:
        place = self._place
        try:
            return self._git.commits(
                self._path, head=head_sha, base=place.base_sha, without=(place.upstream_sha,)
            )
        except PushTooLarge as error:
            raise PushTooLarge(str(error), retryable=True) from error  # the agent may do with less

    def _compared_with(self, head_sha: str) -> str:
        """Where the branch last met the base branch: what a pull request compares with."""
        place = self._place
        if (
            place.upstream_sha == place.base_sha
        ):  # the base branch stands still, and the order descends from it
            return place.base_sha
        return self._git.merge_base(self._path, place.upstream_sha, head_sha) or place.base_sha

    def _compare(self, bases: Sequence[str], head_sha: str) -> None:
        new = [base for base in dict.fromkeys(bases) if (base, head_sha) not in self._seen]
        if new:
            found = self._git.differences(self._path, bases=new, head=head_sha)
            self._seen.update({(base, head_sha): found for base, found in zip(new, found, strict=True)})

    def _difference(self, base_sha: str, head_sha: str) -> Difference:
        self._compare((base_sha,), head_sha)
        return self._seen[base_sha, head_sha]

    def _changes(self, base_sha: str, head_sha: str) -> tuple[FileChange, ...]:
        return self._difference(base_sha, head_sha)[0]

    def compared_with(self, head_sha: str) -> str:
        """What a pull request for that head compares with."""
        return self._compared_with(head_sha)

    def conflicts(self, head_sha: str) -> tuple[LeftOut, ...]:
        """Files of the pull request that hold whole conflicts as git leaves them, and did not before."""
        return conflict_markers(*self._difference(self._compared_with(head_sha), head_sha))

    def with_patches(self, found: Inspection) -> Inspection:
        """The same with the diffs of `found.progress.changes`, in their order."""
        base = self._compared_with(found.head_sha)
        return replace(found, patches=self._difference(base, found.head_sha)[1])

    def evidence(self, progress: GitProgress, head_sha: str) -> Inspection:
        """What the phase had to leave, found in git. Raises `EvidenceMissing`."""
        found = Inspection(head_sha, progress)
        if self._plan.step is None:  # a follow-up prompt may be a question that changes nothing
            return found
        since = self._since
        own = progress.commits_of(self._plan.phase)
        match self._plan.step.evidence:
            case Evidence.PLAN_FILE:
                plan_path = phase_tracker.plan_path(self._changes(since, head_sha))
                if plan_path is None:
                    raise EvidenceMissing(
                        "The planning phase left no plan: no file specs/*.md was committed."
                    )
                text = (self._read(since, head_sha, plan_path, _PLAN_LIMIT) or b"").decode("utf-8", "replace")
                return replace(found, plan_path=plan_path, plan_text=text)
            case Evidence.TEST_RESULTS:
                new = {commit.sha for commit in progress.since(since)} if self._plan.tests_again else None
                tested = any(new is None or commit.sha in new for commit in own)
                changed = new is None and bool(self._changes(since, head_sha))
                if not tested and not changed and not self._has_results_of(progress, head_sha):
                    raise EvidenceMissing(_NOT_TESTED if new is None else _NOT_TESTED_AGAIN)
                return replace(found, test_results=self._test_results(since, head_sha))
            case Evidence.CHANGE_OUTSIDE_PLANS:
                if phase_tracker.changed_outside_plans(self._changes(since, head_sha)):
                    return found
                if phase_tracker.says_no_change_needed(own):
                    return replace(found, status=PhaseRunStatus.NO_CHANGE_NEEDED)
                raise EvidenceMissing("The implementing phase committed no change outside specs/.")

    def _has_results_of(self, progress: GitProgress, head_sha: str) -> bool:
        """Whether results that an earlier step of the order committed are of the very files at the head.

        As where the agent that made a change ran the tests as well: then the tests after it find nothing to commit.
        """
        since = self._plan.tested_sha if self._plan.tests_again else self._place.base_sha
        if not self._git.has_commit(self._path, since):
            return False
        sha = self._git.last_commit_of(self._path, TEST_RESULTS_FILE, head=head_sha, without=since)
        if progress.phase_of.get(sha) is None:  # a person's, or nobody's
            return False
        return sha == head_sha or not self._git.changes(self._path, base=sha, head=head_sha)

    def is_as_tested(self, head_sha: str) -> bool:
        """Whether a follow-up's end holds the very files that were tested last, as where only a message changed."""
        tested, plan = self._plan.tested_sha, self._plan
        if plan.kind is not StepKind.FOLLOW_UP or not tested or head_sha == tested:
            return False
        if not self._git.has_commit(self._path, tested):
            return False
        return not self._git.changes(self._path, base=tested, head=head_sha)

    def _read(self, since: str, head_sha: str, path: str, limit_bytes: int) -> bytes | None:
        """A regular file at the head; where it changed, the diff at hand already names its blob."""
        for change in self._changes(since, head_sha):
            if change.path == path and change.is_regular_file:
                return self._git.read_blob(self._path, change.blob, limit_bytes=limit_bytes)
        return self._git.read_file(self._path, head_sha, path, limit_bytes=limit_bytes)

    def _test_results(self, since: str, head_sha: str) -> AgentTestResults:
        data = self._read(since, head_sha, TEST_RESULTS_FILE, _RESULTS_LIMIT)
        if data is None:
            raise EvidenceMissing(f"The testing phase left no {TEST_RESULTS_FILE}.")
        try:
            return parse_test_results(data)
        except ValueError as error:
            raise EvidenceMissing(f"{TEST_RESULTS_FILE} is not valid: {error}") from error

    def adoptable(self) -> Inspection | None:
        """The result of this step, where an earlier worker brought it into git but did not live to record it."""
        planned, start_sha = self._plan.planned_sha, self._place.start_sha
        if not planned or not self._git.has_commit(self._path, planned):
            return None
        if not self._git.is_ancestor(self._path, planned, start_sha):
            return None
        try:
            return self.evidence(self.progress(start_sha), start_sha)
        except EvidenceMissing:
            return None
