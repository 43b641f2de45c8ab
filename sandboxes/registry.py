"""Which backend serves which sandbox type; a backend is imported on first use."""

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from sandboxes.base import AgentSandbox, OrphanSweeper, SandboxSpec, SweepScope
from sandboxes.errors import SandboxError, SandboxUnavailable
from sandboxes.findings import Finding, failed
from sandboxes.kinds import SandboxType
from sandboxes.providers import ProviderSettings

BACKENDS: dict[SandboxType, str] = {
    SandboxType.GIT_BRANCH: "sandboxes.local.git_branch:GitBranchSandbox",
    SandboxType.GIT_WORKTREE: "sandboxes.local.git_worktree:GitWorktreeSandbox",
    SandboxType.E2B: "sandboxes.remote.e2b:E2BSandbox",
    SandboxType.DAGGER: "sandboxes.remote.dagger:DaggerSandbox",
}

# What is on this host, of any backend.
SWEEPERS: tuple[str, ...] = ("sandboxes.local.leftovers:sweep_orphans",)
REMOTE_SWEEPERS: dict[SandboxType, str] = {SandboxType.E2B: "sandboxes.remote.e2b:sweep_orphans"}
CHECKS: dict[SandboxType, str] = {
    SandboxType.E2B: "sandboxes.remote.e2b:check",
    SandboxType.DAGGER: "sandboxes.remote.dagger:check",
}
_SDK_HINT = "Install it: `uv sync --no-dev --extra {kind}`."
logger = logging.getLogger(__name__)


def create_sandbox(sandbox_type: SandboxType, spec: SandboxSpec) -> AgentSandbox:
    """The backend for one order's place to work; nothing is made yet. Raises `SandboxUnavailable`."""
    target = BACKENDS.get(sandbox_type)
    if target is None or spec.providers.missing_setting(sandbox_type):
        raise SandboxUnavailable(f"The sandbox type {sandbox_type} is not available on this server.")
    return cast(Callable[[SandboxSpec], AgentSandbox], _named(target))(spec)


def sweep_orphans(scope: SweepScope, sweepers: Sequence[str] | None = None) -> tuple[str, ...]:
    """What no live order owns, ended and removed by each backend; one that fails does not stop the others."""
    found: list[str] = []
    for target in _sweepers(scope) if sweepers is None else sweepers:
        try:
            found += cast(OrphanSweeper, _named(target))(scope)
        except SandboxError as error:
            logger.warning("sandbox_sweep_failed: %s: %s", target, error)
    return tuple(found)


def check_providers(providers: ProviderSettings) -> list[Finding]:
    """What each configured provider says to being asked; within the backend's own time-outs."""
    checks = {kind: target for kind, target in CHECKS.items() if not providers.missing_setting(kind)}
    found: list[Finding] = []
    for kind, target in checks.items():
        try:
            found += cast(Callable[[ProviderSettings], list[Finding]], _named(target))(providers)
        except ImportError as error:
            found.append(
                failed(kind, f"Its SDK is not installed ({error.name}).", _SDK_HINT.format(kind=kind))
            )
        except SandboxError as error:
            found.append(failed(kind, str(error), error.advice))
    return found


def _sweepers(scope: SweepScope) -> list[str]:
    """Providers that are configured only: nothing else is imported, and nothing can be there."""
    configured = (kind for kind in REMOTE_SWEEPERS if not scope.providers.missing_setting(kind))
    return [*SWEEPERS, *(REMOTE_SWEEPERS[kind] for kind in configured)]


def _named(target: str) -> object:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
