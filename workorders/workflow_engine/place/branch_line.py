"""Where an order's next step starts, and what somebody else did to its branch meanwhile. Writes no row.

What the remote has is an ancestor of every start, so that each push is a fast-forward of what was seen: nothing of a
person's is overwritten, whatever they did. The table of all cases is in docs/order-life.md.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from github_app.types import GitHubPullRequest
from sandboxes.errors import BranchMoved
from sandboxes.trusted_git.git import TrustedGit
from sandboxes.trusted_git.mirror import StartingPoint


class Met(StrEnum):
    """How the order's branch was found on the remote, by what this server pushed there."""

    AS_LEFT = "as_left"
    FORWARDED = "forwarded"  # somebody's commits on top of ours, or a branch of that name before our first
    REWRITTEN = "rewritten"  # rebased, amended, squashed: not all of ours is in it any more
    MOVED_BACK = "moved_back"  # to an earlier commit: somebody dropped the later ones
    DELETED = "deleted"  # it comes back with the next commits
    MERGED = "merged"  # the base branch has the work; the next commits are a new line on top of it


FOLLOWED = frozenset({Met.FORWARDED, Met.REWRITTEN, Met.MOVED_BACK})
# What is logged, and how loudly.
FOUND_EVENTS: dict[Met, tuple[str, str]] = {
    Met.FORWARDED: ("git_branch_followed", "info"),
    Met.REWRITTEN: ("git_branch_followed", "warning"),
    Met.MOVED_BACK: ("git_branch_followed", "warning"),
    Met.DELETED: ("git_branch_missed", "warning"),
    Met.MERGED: ("git_branch_renewed", "info"),
}
# What the agent is told of it.
NOTES: dict[Met, str] = {
    Met.AS_LEFT: "",
    Met.FORWARDED: "Somebody else added commits to this branch since your last step; it is at {branch_sha} now. "
    "Build on them, and do not undo them.",
    Met.REWRITTEN: "Somebody else rewrote this branch since your last step; it is at {branch_sha} now, and commits "
    "you remember may be gone or changed. Build on what is there, and do not bring back what is not.",
    Met.MOVED_BACK: "Somebody else took this branch back to an earlier commit since your last step; it is at "
    "{branch_sha} now. Build on what is there, and do not bring back what was dropped.",
    Met.DELETED: "",
    Met.MERGED: "The work so far was merged: you are on a fresh line on top of {base_branch}, which has it.",
}


@dataclass(frozen=True)
class BranchRecord:
    """What rows and GitHub say of an order's branch. Shas are full, '' where there is none.

    `pushed` are commits that the remote certainly had from us, `sent` those that it may have as well. `delivered`: a
    delivery came to its end before; `has_news`: something was pushed since. `kept_ref` is where this host's mirror
    keeps the order's newest commits. `is_settled`: the last step ended well, so that nothing of it is unpushed.
    """

    git_branch_name: str
    base_sha: str
    head_sha: str
    kept_ref: str
    pushed: tuple[str, ...]
    sent: frozenset[str]
    pull_request: GitHubPullRequest | None
    delivered: bool
    has_news: bool
    is_settled: bool
    merge_message: str = ""


@dataclass(frozen=True)
class Start:
    """`published_sha`: what needs no push, being there, or in the base branch; a step that ends there pushes nothing.

    `base_sha` is where the order's line leaves the base branch. `aside_sha` are commits of ours that this line has not
    and that no remote need have; '' where there are none.
    """

    start_sha: str
    published_sha: str
    base_sha: str
    met: Met
    aside_sha: str = ""


class BranchLine:
    """Reads one order's branch in the trusted mirror, once `point` was fetched."""

    def __init__(self, git: TrustedGit, path: Path, record: BranchRecord, point: StartingPoint) -> None:
        self._git = git
        self._path = path
        self._record = record
        self._tip = point.base_sha
        self._remote = point.branch_sha or ""
        self._base = record.base_sha or point.base_sha

    def start(self) -> Start:
        """Raises `BranchMoved` where nobody can say how to go on without losing somebody's commits."""
        head = self._record.head_sha
        if not (self._remote or head or self._record.sent or self._record.base_sha):
            return Start(self._base, self._base, self._base, Met.AS_LEFT)  # nobody has worked yet
        if self.is_merged:
            return self._anew()
        if not self._remote:
            return self._without_branch()
        if head == self._remote and self._record.is_settled:
            return Start(head, head, self._base, Met.AS_LEFT)
        met = self._met()
        if met is Met.AS_LEFT:
            return self._from(self._remote, self._base, met)
        return self._from(self._remote, self._left_base(), met)

    @cached_property
    def is_merged(self) -> bool:
        """Whether all that the branch has, or last had, was delivered and is in the base branch by now."""
        record, last = self._record, self._remote or self._record.head_sha
        if not record.delivered or not last:
            return False
        pull_request = record.pull_request
        if pull_request is not None and pull_request.state == "merged":
            if self._was_taken_back(pull_request.merge_commit_sha, last):
                return False
            if last == pull_request.head_sha or self._is_ancestor(last, pull_request.head_sha):
                return True
            if (
                not self._remote and not record.has_news
            ):  # squashed with somebody's commits that never came here
                return True
        if self._tip == self._base or last == self._base:
            return False
        if self._is_ancestor(last, self._tip):
            # or somebody put the branch to where the base branch is, and ours is in neither
            merged = pull_request is not None and pull_request.state == "merged"
            return merged or self._is_in_base(record.head_sha)
        # squashed by hand, where no pull request says so; with the branch there, what it has is somebody's to decide
        gone = not self._remote and not record.has_news and last in self._here
        return gone and self._git.adds_nothing(self._path, onto=self._tip, head=last)

    def _was_taken_back(self, merge_sha: str, last: str) -> bool:
        """Whether the base branch was rewritten since, and has the work in no shape any more.

        A commit that reverts it is another matter: that is on the base branch's own line.
        """
        if not merge_sha or self._is_ancestor(merge_sha, self._tip) or self._is_ancestor(last, self._tip):
            return False
        if not self._git.merge_base(self._path, self._tip, last):  # nothing of ours can be built on there
            return False
        return not self._is_in_base(last)

    def _is_in_base(self, sha: str) -> bool:
        """Whether the base branch has all of it, as it was or in other commits."""
        if not sha or self._is_ancestor(sha, self._tip):
            return True
        return self._git.has_commit(self._path, sha) and self._git.adds_nothing(
            self._path, onto=self._tip, head=sha
        )

    def _met(self) -> Met:
        head, found = self._record.head_sha, self._remote
        if head == found:
            return Met.AS_LEFT
        forward = not head or self._is_ancestor(head, found)
        ours = found in self._record.sent or found == self._here.get(self._record.kept_ref)
        if forward and ours:
            return Met.AS_LEFT  # our own push, whose end nobody lived to record
        if forward:
            return Met.FORWARDED
        return Met.MOVED_BACK if self._is_ancestor(found, head) else Met.REWRITTEN

    def _left_base(self) -> str:
        """Where what somebody made of the branch left the base branch."""
        if self._record.head_sha and self._is_ancestor(self._base, self._remote):
            return self._base
        if found := self._git.merge_base(self._path, self._tip, self._remote):
            return found
        raise BranchMoved(
            f"Somebody else moved {self._record.git_branch_name} on the remote to {self._remote[:12]}, which has no "
            "history in common with the base branch.",
            advice="Put the branch back, or delete it, on the remote, then retry. Nothing there was overwritten.",
        )

    def _without_branch(self) -> Start:
        head = self._record.head_sha
        if not head:  # nothing was ever pushed
            return self._from(self._base, self._base, Met.AS_LEFT)
        if head not in self._here:
            raise BranchMoved(
                f"Somebody else deleted {self._record.git_branch_name} on the remote, and this worker's machine does "
                "not have its commits.",
                advice="Restore the branch (GitHub's page of its pull request has a button for that), then retry.",
            )
        return self._from(head, self._base, Met.DELETED)

    def _anew(self) -> Start:
        tip = self._tip
        if self._remote and not self._is_ancestor(self._remote, tip):
            # squashed or rebased, and the branch is still there: descending from both, nothing of it is pushed over
            tip = self._git.join(
                self._path, onto=tip, past=self._remote, message=self._record.merge_message or "Go on"
            )
        return self._from(tip, tip, Met.MERGED)

    def _from(self, published: str, base: str, met: Met) -> Start:
        kept = self._here.get(self._record.kept_ref, "")
        start = kept if self._is_unpushed(kept, published) else published
        aside = ""
        if met is not Met.AS_LEFT and kept and kept != start and not self._is_ancestor(kept, start):
            aside = kept
        return Start(start, published, base, met, aside)

    def _is_unpushed(self, kept: str, published: str) -> bool:
        """Whether they are new on top of that. What the remote once had, and has no more, a person dropped."""
        if not kept or kept == published or not self._is_ancestor(published, kept):
            return False
        once = [sha for sha in self._pushed if sha in self._here and sha != published]
        if not once or not (dropped := self._git.new_shas(self._path, once, without=published)):
            return True
        return not dropped & self._git.new_shas(self._path, [kept], without=published)

    @property
    def _pushed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sha for sha in (self._record.head_sha, *self._record.pushed) if sha))

    @cached_property
    def _here(self) -> dict[str, str]:
        return self._git.known_commits(self._path, [*self._pushed, self._record.kept_ref])

    def _is_ancestor(self, ancestor: str, descendant: str) -> bool:
        return bool(ancestor and descendant) and self._git.is_ancestor(self._path, ancestor, descendant)
