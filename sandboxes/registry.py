"""Which backend serves which sandbox type; a backend is imported on first use."""

from collections.abc import Callable
from importlib import import_module
from typing import cast

from sandboxes.base import AgentSandbox, SandboxSpec
from sandboxes.errors import SandboxUnavailable
from sandboxes.kinds import SandboxType

BACKENDS: dict[SandboxType, str] = {
    SandboxType.GIT_BRANCH: "sandboxes.backends.git_branch:GitBranchSandbox",
    SandboxType.GIT_WORKTREE: "sandboxes.backends.git_worktree:GitWorktreeSandbox",
}


def create_sandbox(sandbox_type: SandboxType, spec: SandboxSpec) -> AgentSandbox:
    """The backend for one order's place to work; nothing is made yet. Raises `SandboxUnavailable`."""
    target = BACKENDS.get(sandbox_type)
    if target is None:
        raise SandboxUnavailable(f"The sandbox type {sandbox_type} is not available on this server.")
    module, _, name = target.partition(":")
    factory = cast(Callable[[SandboxSpec], AgentSandbox], getattr(import_module(module), name))
    return factory(spec)
