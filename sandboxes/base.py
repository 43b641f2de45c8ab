"""The Sandbox Protocol: what every place to work can do, and the values that cross its border.

Knows nothing of work orders, GitHub or Django. One contract suite (`tests/contracts/`) runs against every
backend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sandboxes.extras.placed import Extras
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.processes.run import ExitReason, ProcessControl
from sandboxes.providers import ProviderSettings
from sandboxes.sweep.rules import FILE_LIMIT_BYTES, Exported, LeftOut

# Of git and of Claude Code: what starts programs, or tells an agent what to do.
SETTINGS_IN_HOME = (
    *(
        ".gitconfig",
        ".config/git",
        ".claude/settings.json",
        ".claude/settings.local.json",
        ".claude/CLAUDE.md",
    ),
    *(
        f".claude/{name}"
        for name in ("agents", "commands", "hooks", "output-styles", "plugins", "rules", "skills")
    ),
)


@dataclass(frozen=True)
class SandboxSpec:
    """Everything a backend needs to make one place to work.

    `sandbox_identifier` is unique to the order (`git-branch-wo-abc12345`). `start_sha` is the commit to work
    on top of, already in `mirror_path`; `base_sha` the base branch's commit the order started from.
    `trailers` are the lines a commit made in the sandbox must carry. `attempt` is the claim's fencing token: it
    grows, and a lower one than the place has seen may touch nothing there any more. `extras` are what `setup` puts
    into the checkout beside the commit's own files. `leftover_file_bytes` is the most a single file may have that is
    committed unasked.
    """

    sandbox_identifier: str
    repository_key: str
    git_branch_name: str
    base_branch: str
    base_sha: str
    start_sha: str
    mirror_path: Path
    data_dir: Path
    trailers: tuple[str, ...]
    isolation: IsolationSettings
    attempt: int = 0
    committer_name: str = "Work Orders agent"
    committer_email: str = "agent@work-orders.invalid"
    providers: ProviderSettings = field(default_factory=ProviderSettings)
    extras: Extras = field(default_factory=Extras)
    leftover_file_bytes: int = FILE_LIMIT_BYTES


@dataclass(frozen=True)
class SandboxCommand:
    """A command and how long it may take. `environment` is all it sees beside PATH and HOME.

    `secrets` are more variables for the process, kept apart so that no backend logs or stores them.
    `program_folders` are paths of this host the program needs: shown to a local sandbox; one elsewhere finds the
    program by its name, and gets those of the command line's files that are among them.
    """

    argv: tuple[str, ...]
    timeout_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: bytes = b""
    silence_seconds: float | None = None
    output_limit_bytes: int = 1024 * 1024
    program_folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class CommandExecutionResult:
    """The one exit of a command. `stderr` is its tail; `stdout` is empty where a callback consumed it."""

    exit_code: int
    reason: ExitReason
    stdout: bytes
    stderr: bytes
    truncated: bool
    duration_seconds: float

    @property
    def ok(self) -> bool:
        return self.reason is ExitReason.EXITED and self.exit_code == 0


@dataclass(frozen=True)
class SandboxState:
    """What the sandbox says of itself, unverified. `change_marker` differs once HEAD has moved.

    `provider_id`, `started_at` and `expires_at` are known of sandboxes that run elsewhere.
    """

    exists: bool
    change_marker: str = ""
    provider_id: str = ""
    started_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Remains:
    """What an earlier attempt left in a place: work since `start_sha` that may be in no git.

    `left_out` says in words what of it is known not to be; then no other try will bring it there.
    """

    start_sha: str
    left_out: str = ""


@dataclass(frozen=True)
class SweepScope:
    """What a sweep for leftovers may touch; `isolation` is for commands in folders an agent could write.

    Look first and ask afterwards: what is seen before `active_identifiers()` (sandboxes of orders that are not
    finished, on any host) or `identifiers_at_work_here()` (those a step on this host holds now) is called, and is
    not among them, belongs to nobody. The other way round a place made in between would be taken for a leftover.
    `may_remove` is asked of a place that belongs to nobody; False: it stays where it is, or has been set aside.
    """

    data_dir: Path
    isolation: IsolationSettings
    providers: ProviderSettings
    active_identifiers: Callable[[], frozenset[str]]
    identifiers_at_work_here: Callable[[], frozenset[str]]
    may_remove: Callable[[str], bool]
    dry_run: bool = False


class OrphanSweeper(Protocol):
    """A module's `sweep_orphans`: ends and removes what no live order owns, and names each thing in words.

    With `dry_run` it only names them. Safe at any time, on any number of hosts at once. May raise `SandboxError`.
    """

    def __call__(self, scope: SweepScope) -> tuple[str, ...]: ...


class AgentSandbox(Protocol):
    """A place to work for one attempt of one step.

    Every method may raise `SandboxError` (or a subclass): the place could not be made, has vanished, or the
    backend did not answer. `execute_command` raises `ProgramMissing` for a program that cannot be started;
    a command's own failure is a result, not an exception. Not thread-safe, but `get_current_state` and
    `export_bundle` may be called from another thread while `execute_command` runs.
    """

    sandbox_identifier: str
    shares_host: bool
    """Whether loopback inside is this host's loopback, and paths inside are this host's paths."""
    left_out: tuple[LeftOut, ...]
    """What the last export with leftovers did not put in the bundle; the trusted side adds what it took out again."""
    last_export: Exported
    """What the last export said of itself."""
    lfs_limit_bytes: int | None
    """How much of Git LFS's contents `setup` takes at most; None: there is no limit of its own."""
    unplaced: tuple[str, ...]
    """Paths of the extras' submodules that the last `setup` could not fill."""

    @property
    def handle(self) -> str:
        """Text by which another process, on another host too where the place is elsewhere, can `attach`.

        Empty where the backend cannot be attached to, or before there is a place.
        """
        ...

    @property
    def workspace(self) -> str:
        """The checkout's absolute path, as seen inside the sandbox."""
        ...

    def setup(self) -> None:
        """Make a fresh checkout of `start_sha` on the order's branch; safe to call again after any crash.

        What was in the place before is gone: `reclaim` it first.
        """
        ...

    def attach(self, handle: str) -> bool:
        """Continue in the place that an earlier step left at `start_sha`; False where it is not usable."""
        ...

    def execute_command(
        self,
        command: SandboxCommand,
        *,
        control: ProcessControl | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> CommandExecutionResult:
        """Run one command in the workspace; returns once nothing of it is left running."""
        ...

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file below the workspace or the agent's HOME, inside the sandbox (`path` may start `~/`)."""
        ...

    def export_bundle(self, destination: Path, *, limit_bytes: int, leftovers_message: str = "") -> bool:
        """Put a bundle of the branch's commits after `start_sha` at `destination`; False when there are none.

        With `leftovers_message`, what is uncommitted in the workspace is committed first under that message as far as
        the sweep's rules allow (`sandboxes.sweep.rules`), and commits that follow from the branch but were made beside
        it are brought to it. The bundle's one ref is `refs/heads/<git_branch_name>`. Nothing in it is trusted yet. What
        was left out is told by `left_out`; the commits are in the bundle all the same.
        """
        ...

    def export_lfs(self, destination: Path, *, limit_bytes: int) -> bool:
        """Put an untrusted tar archive of the LFS contents made in here at `destination`; False: there are none."""
        ...

    def reclaim(self, handle: str) -> Remains | None:
        """Take over what another attempt, or this one, left here and nobody has taken; None where nothing is.

        `handle` as for `attach`. Nothing runs in the place any more when it returns, and `export_bundle` is of the
        commits after the `start_sha` of what it returns.
        """
        ...

    def mark_taken(self) -> None:
        """Note on the trusted side that all of the work in here, but for that in `left_out`, is in git elsewhere."""
        ...

    def set_aside(self) -> str:
        """Move the place as it is to where nobody removes it; its path there, '' where that cannot be done."""
        ...

    def mark_idle(self, head_sha: str) -> None:
        """Note on the trusted side that a step ended here at `head_sha`, so that the next may `attach`."""
        ...

    def get_current_state(self) -> SandboxState:
        """Cheap while a command runs, when it is asked every few seconds."""
        ...

    def holds_session(self, session_id: str) -> bool | None:
        """Whether the agent's HOME has the transcript of that session, so that it can be resumed. Never raises.

        None where the HOME is here without any transcript: that agent keeps its sessions in a way of its own.
        """
        ...

    def cleanup(self) -> None:
        """Remove the place and everything that runs in it; safe to call twice, keeps the agent's HOME."""
        ...
