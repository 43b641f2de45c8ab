"""The server's own commits on top of an agent's: known by trailer or subject, the last of their step.

Where the one of leftovers is what the remote or the gate refuses, the agent's commits are delivered without it. The
others cannot be left out; they are offered once more in the agent's own words, which a rule about messages let pass.
"""

from dataclasses import dataclass

from sandboxes.sweep.rules import GITLINKS, LEFTOVERS, SWEEP_TRAILER, LeftOut, shown
from sandboxes.trusted_git.objects import Commit
from workorders.workflow_engine.planning.phase_tracker import REWRITTEN_SUBJECT, GitProgress


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


_HINTS = {
    GITLINKS: "takes out links to repositories that .gitmodules does not name. Commit no such link.",
    "": "keeps what was pushed and then amended or dropped. Leave pushed commits as they are, and add new ones.",
}


def hint_of(progress: GitProgress) -> str:
    """What an agent must know of the server's own newest commit, where that is what was refused; '' where it is not."""
    last = progress.latest
    if last is None or not _cannot_be_left_out(last):
        return ""
    return f"(The newest commit is the server's own: it {_HINTS[last.trailer(SWEEP_TRAILER) or '']})"


def in_agents_words(progress: GitProgress, head_sha: str) -> str:
    """A message for the head, where it is the server's and cannot be left out: as the agent wrote its own newest."""
    last = progress.latest
    if last is None or last.sha != head_sha or not _cannot_be_left_out(last):
        return ""
    own = (
        it for it in reversed(progress.commits[:-1]) if not _is_servers(it) and progress.phase_of.get(it.sha)
    )
    return next((commit.message for commit in own), "")


def _cannot_be_left_out(commit: Commit) -> bool:
    return commit.subject == REWRITTEN_SUBJECT or commit.trailer(SWEEP_TRAILER) == GITLINKS


def _is_servers(commit: Commit) -> bool:
    return commit.subject == REWRITTEN_SUBJECT or commit.trailer(SWEEP_TRAILER) is not None
