"""The server's own commit of what an agent left uncommitted: known by its trailer, the last of its step.

Where it is what the remote or the gate refuses, the agent's commits are delivered without it.
"""

from dataclasses import dataclass

from sandboxes.git_objects import Commit
from sandboxes.sweep import LEFTOVERS, SWEEP_TRAILER, LeftOut, shown
from workorders.workflow_engine.phase_tracker import GitProgress


@dataclass(frozen=True)
class DroppedLeftovers:
    """A commit of leftovers that was not delivered: its sha, the paths it holds, and why not, in words."""

    commit_sha: str
    paths: tuple[str, ...]
    reason: str

    def findings(self) -> tuple[LeftOut, ...]:
        """One for each path."""
        return tuple(LeftOut("leftovers_refused", shown(path), shown(self.reason)) for path in self.paths)


def leftovers_in(progress: GitProgress, head_sha: str) -> Commit | None:
    """The head, where it is a commit of leftovers on top of one other."""
    commit = progress.latest
    if commit is None or commit.sha != head_sha or len(commit.parents) != 1:
        return None
    return commit if commit.trailer(SWEEP_TRAILER) == LEFTOVERS else None
