"""The sandbox types, as the PRD names them."""

from enum import StrEnum


class SandboxType(StrEnum):
    GIT_BRANCH = "git_branch"
    GIT_WORKTREE = "git_worktree"
    E2B = "e2b"
    DAGGER = "dagger"


UNAVAILABLE = {SandboxType.E2B: "E2B_API_KEY", SandboxType.DAGGER: "DAGGER_SESSION_PORT"}
"""Types this version has no backend for yet, and the setting each will need."""
