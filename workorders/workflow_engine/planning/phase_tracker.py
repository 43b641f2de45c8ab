"""Reads an order's progress from its commits: which phase each belongs to, statistics, evidence.

Pure reading of values that `sandboxes.trusted_git.git` read from the trusted mirror; no process, no database.
Trailers come first. Where an agent dropped them, the commit's position between a step's start and end counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sandboxes.trusted_git.objects import Commit, FileChange, reachable
from workorders.domain.workflows import PLAN_FOLDER, AgentWorkflowPhase

ORDER_TRAILER = "Work-Order"
PHASE_TRAILER = "Work-Order-Phase"
SESSION_TRAILER = "Agent-Session"
OUTCOME_TRAILER = "Work-Order-Outcome"
NO_CHANGE_NEEDED = "no_change_needed"
REWRITTEN_SUBJECT = "chore: keep the history that was pushed before"


@dataclass(frozen=True)
class StepSpan:
    """A step's place in the history: commits reachable from `end_sha` and not from `start_sha`."""

    phase: AgentWorkflowPhase
    start_sha: str
    end_sha: str


@dataclass(frozen=True)
class GitProgress:
    """What git says of an order. `phase_of` maps each own commit's sha to its phase (None: of no phase).

    `commits` are the newest; `commit_count` is the number of all, where those are not. `step_count`: those of the step
    at hand, from its first attempt on.
    """

    commits: tuple[Commit, ...]
    changes: tuple[FileChange, ...]
    phase_of: Mapping[str, AgentWorkflowPhase | None] = field(default_factory=dict)
    commit_count: int | None = None
    step_count: int | None = None

    @property
    def all_commits(self) -> int:
        return len(self.commits) if self.commit_count is None else self.commit_count

    def commits_in_step(self, phase: AgentWorkflowPhase) -> int:
        """Those of the step's own span; where nobody looked for it, those of its phase."""
        return len(self.commits_of(phase)) if self.step_count is None else self.step_count

    @property
    def files_changed(self) -> int:
        return len(self.changes)

    @property
    def lines_added(self) -> int:
        return sum(change.lines_added or 0 for change in self.changes)

    @property
    def lines_removed(self) -> int:
        return sum(change.lines_removed or 0 for change in self.changes)

    @property
    def latest(self) -> Commit | None:
        return self.commits[-1] if self.commits else None

    def commits_of(self, phase: AgentWorkflowPhase) -> tuple[Commit, ...]:
        return tuple(commit for commit in self.commits if self.phase_of.get(commit.sha) is phase)

    def since(self, sha: str) -> tuple[Commit, ...]:
        """The commits that are neither that one nor reachable from it."""
        known = reachable(sha, {commit.sha: commit.parents for commit in self.commits})
        return tuple(commit for commit in self.commits if commit.sha not in known)

    @property
    def current_phase(self) -> AgentWorkflowPhase | None:
        """The phase of the newest commit that has one: how far git says the order has come."""
        for commit in reversed(self.commits):
            if (phase := self.phase_of.get(commit.sha)) is not None:
                return phase
        return None


def trailers_for(
    agent_work_order_id: str, phase: AgentWorkflowPhase, agent_session_id: str
) -> tuple[str, ...]:
    """The lines every commit of a step must carry."""
    return (
        f"{ORDER_TRAILER}: {agent_work_order_id}",
        f"{PHASE_TRAILER}: {phase}",
        f"{SESSION_TRAILER}: {agent_session_id}",
    )


def rewritten_message(agent_work_order_id: str, phase: str, agent_session_id: str) -> str:
    """Of the server's commit that keeps a history an agent rewrote on top of what was there; kept to common rules."""
    lines = [
        REWRITTEN_SUBJECT,
        "",
        "Commits that were on the branch already were amended or dropped.",
        "The files are as the agent left them; the commits before are kept.",
        "",
        f"{ORDER_TRAILER}: {agent_work_order_id}",
        *([f"{PHASE_TRAILER}: {phase}"] if phase else []),
        *([f"{SESSION_TRAILER}: {agent_session_id}"] if agent_session_id else []),
    ]
    return "\n".join(lines) + "\n"


def track(
    commits: Sequence[Commit],
    changes: Sequence[FileChange],
    *,
    agent_work_order_id: str,
    spans: Sequence[StepSpan],
) -> GitProgress:
    """Attribute an order's commits (oldest first, without those merged in from the base branch) to phases."""
    position = _positions(commits, spans)
    phase_of = {
        commit.sha: _phase_by_trailers(commit, agent_work_order_id, position.get(commit.sha))
        for commit in commits
    }
    return GitProgress(tuple(commits), tuple(changes), phase_of)


def _phase_by_trailers(
    commit: Commit, agent_work_order_id: str, position: AgentWorkflowPhase | None
) -> AgentWorkflowPhase | None:
    owner = commit.trailer(ORDER_TRAILER)
    if owner is not None and owner != agent_work_order_id:
        return None  # another order's commit, merged or cherry-picked in
    named = commit.trailer(PHASE_TRAILER)
    if owner is not None and named in _WORKING_PHASES:
        return AgentWorkflowPhase(named)
    return position


_WORKING_PHASES = frozenset(phase.value for phase in AgentWorkflowPhase) - {
    AgentWorkflowPhase.COMPLETED.value
}


def _positions(commits: Sequence[Commit], spans: Iterable[StepSpan]) -> dict[str, AgentWorkflowPhase]:
    """The phase of the first step in whose span a commit appeared."""
    parents = {commit.sha: commit.parents for commit in commits}
    found: dict[str, AgentWorkflowPhase] = {}
    for span in spans:
        before = reachable(span.start_sha, parents)
        for sha in reachable(span.end_sha, parents) - before:
            found.setdefault(sha, span.phase)
    return found


def plan_path(changes: Iterable[FileChange]) -> str | None:
    """The plan among changed paths: a Markdown file below `specs/` that was not deleted."""
    plans = [
        change.path
        for change in changes
        if change.path.startswith(PLAN_FOLDER) and change.path.endswith(".md") and change.status != "D"
    ]
    return min(plans, key=lambda path: (path.count("/"), path)) if plans else None


def changed_outside_plans(changes: Iterable[FileChange]) -> bool:
    return any(not change.path.startswith(PLAN_FOLDER) for change in changes)


def says_no_change_needed(commits: Iterable[Commit]) -> Commit | None:
    """The commit by which an agent states, in git, that nothing has to change."""
    for commit in commits:
        if commit.trailer(OUTCOME_TRAILER) == NO_CHANGE_NEEDED:
            return commit
    return None
