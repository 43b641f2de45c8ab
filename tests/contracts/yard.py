"""Where sandboxes of any kind are made and tried: the folder, the kinds, and what an agent does in one."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest

from sandboxes.base import AgentSandbox, CommandExecutionResult, SandboxCommand, SandboxSpec
from sandboxes.kinds import SandboxType
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.providers import ProviderSettings
from sandboxes.registry import create_sandbox
from sandboxes.trusted_git.git import TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror

Isolation = Literal["bubblewrap", "none", "machine"]
KEY = "github.com--acme--shop"
LIMIT = 10 * 1024 * 1024
COMBINATIONS: tuple[tuple[SandboxType, Isolation], ...] = (
    (SandboxType.GIT_BRANCH, "bubblewrap"),
    (SandboxType.GIT_BRANCH, "none"),
    (SandboxType.GIT_WORKTREE, "bubblewrap"),
    (SandboxType.GIT_WORKTREE, "none"),
    (SandboxType.E2B, "machine"),
    (SandboxType.DAGGER, "machine"),
)
LOCAL = tuple(combination for combination in COMBINATIONS if combination[1] != "machine")
ISOLATED = tuple(combination for combination in COMBINATIONS if combination[1] == "bubblewrap")
EVERYWHERE = pytest.mark.parametrize("yard", COMBINATIONS, indirect=True, ids="-".join)
LOCALLY = pytest.mark.parametrize("yard", LOCAL, indirect=True, ids="-".join)
ATTACHABLE = pytest.mark.parametrize(
    "yard", [item for item in COMBINATIONS if item[0] != SandboxType.DAGGER], indirect=True, ids="-".join
)
ONE_OF_EACH = pytest.mark.parametrize(
    "yard", [*ISOLATED, (SandboxType.E2B, "machine")], indirect=True, ids="-".join
)
"""For what the script inside does, whatever there is around it."""
WHERE_ISOLATED = pytest.mark.parametrize("yard", ISOLATED, indirect=True, ids=lambda item: item[0])


@dataclass
class Yard:
    """A data folder with a mirror, in which sandboxes of one kind are made; all are removed at the end."""

    sandbox_type: SandboxType
    isolation: Isolation
    data_dir: Path
    mirror: RepositoryMirror
    git: TrustedGit
    shas: dict[str, str]
    providers: ProviderSettings = field(default_factory=ProviderSettings)
    made: list[AgentSandbox] = field(default_factory=list)

    @property
    def isolated(self) -> bool:
        return self.isolation != "none"

    @property
    def local(self) -> bool:
        return self.isolation != "machine"

    @property
    def base(self) -> str:
        return self.shas["base"]

    def spec(self, name: str = "wo-00000001", *, start: str = "") -> SandboxSpec:
        kind = self.sandbox_type.replace("_", "-")
        return SandboxSpec(
            sandbox_identifier=f"{kind}-{name}",
            repository_key=KEY,
            git_branch_name=f"agent/{name}",
            base_branch="main",
            base_sha=self.base,
            start_sha=start or self.base,
            mirror_path=self.mirror.path,
            data_dir=self.data_dir,
            trailers=(f"Work-Order: {name}", "Work-Order-Phase: planning", "Agent-Session: s-1"),
            isolation=IsolationSettings("none" if self.isolation == "machine" else self.isolation),
            providers=self.providers,
        )

    def make(
        self, name: str = "wo-00000001", *, start: str = "", spec: SandboxSpec | None = None
    ) -> AgentSandbox:
        sandbox = create_sandbox(self.sandbox_type, spec or self.spec(name, start=start))
        self.made.append(sandbox)
        return sandbox

    def ready(self, name: str = "wo-00000001") -> AgentSandbox:
        sandbox = self.make(name)
        sandbox.setup()
        return sandbox

    def take(self, sandbox: AgentSandbox, name: str = "wo-00000001", *, leftovers: str = "") -> str | None:
        """Export and accept, as the engine does; the head now in the mirror."""
        bundle = self.data_dir / "outbox" / f"{uuid4().hex}.bundle"
        if not sandbox.export_bundle(bundle, limit_bytes=LIMIT, leftovers_message=leftovers):
            return None
        return self.mirror.accept_bundle(
            bundle,
            git_branch_name=f"agent/{name}",
            descends_from=self.base,
            keep_as=f"refs/work-orders/{name}",
        )


def sh(
    sandbox: AgentSandbox, script: str, *arguments: str, seconds: float = 20, **rest: str
) -> CommandExecutionResult:
    """What an agent does: a shell script in the workspace."""
    command = SandboxCommand(
        argv=("sh", "-c", script, "sh", *arguments), timeout_seconds=seconds, environment=rest
    )
    return sandbox.execute_command(command)


def said(sandbox: AgentSandbox, script: str, *arguments: str) -> str:
    result = sh(sandbox, script, *arguments)
    assert result.ok, result.stderr
    return result.stdout.decode().strip()


def commit(sandbox: AgentSandbox, name: str = "work.txt") -> str:
    script = 'echo "$1" > "$1" && git add -- "$1" && git commit --quiet -m "Add $1" && git rev-parse HEAD'
    return said(sandbox, script, name)


def tree_of(path: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content, to compare before and after."""
    return {
        str(entry.relative_to(path)): entry.read_bytes()
        if entry.is_file() and not entry.is_symlink()
        else None
        for entry in path.rglob("*")
    }


def processes_with(token: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if token.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def none_left(sandbox: AgentSandbox, token: str, *, seconds: float = 2.0) -> bool:
    """On this host, where stand-ins run too; and asked inside, where the machine is really elsewhere."""
    deadline = time.monotonic() + seconds
    while processes_with(token) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not sandbox.shares_host:
        script = 'for file in /proc/[0-9]*/cmdline; do tr "\\0" " " < "$file"; done 2> /dev/null; true'
        assert token not in said(sandbox, script)
    return processes_with(token) == []
