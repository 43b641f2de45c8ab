"""The sandbox types, as the PRD names them."""

from enum import StrEnum


class SandboxType(StrEnum):
    GIT_BRANCH = "git_branch"
    GIT_WORKTREE = "git_worktree"
    E2B = "e2b"
    DAGGER = "dagger"


ON_THIS_HOST = frozenset({SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE})


class SandboxCondition(StrEnum):
    """Where a sandbox that runs elsewhere stands, as the workers last left it."""

    RUNNING = "running"
    IDLE = "idle"
    REMOVED = "removed"
