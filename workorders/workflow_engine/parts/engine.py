"""What the engine is made of: settings and clients, put together once in `workorders.wiring`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from github_app.issues import GitHubIssueClient
from github_app.pull_requests import GitHubPullRequestClient
from github_app.references import RepositoryReference
from github_app.repositories import GitHubRepositoryClient
from sandboxes.extras.lfs_client import LfsSettings
from sandboxes.processes.host_places import HostPlaces, ProcessorRoom
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.providers import ProviderSettings
from sandboxes.sweep.rules import FILE_LIMIT_BYTES
from sandboxes.trusted_git.git import RemoteRepository, TrustedGit
from workorders.model_gateway.access import ModelAccess
from workorders.workflow_engine.parts.crash_points import CrashPoints
from workorders.workflow_engine.parts.look_ahead import LookAhead


@dataclass(frozen=True)
class EngineSettings:
    """Times in seconds. `share` is how many steps one process runs side by side.

    Below `disk_floor_bytes` of free space in the data folder no agent is started. No file over `push_file_max_bytes`
    is pushed (0: the remote decides), and none above `leftover_file_bytes` committed unasked. `submodules_max_bytes` is
    for all submodules of one checkout. `github_host` is the one host whose repositories are fetched from.
    """

    data_dir: Path
    commands_dir: Path
    share: int
    lease_seconds: float
    drain_seconds: float
    isolation: IsolationSettings
    providers: ProviderSettings
    agent_argv: tuple[str, ...]
    agent_model: str
    agent_timeout_seconds: float
    agent_silence_seconds: float
    model_access: ModelAccess = field(default_factory=ModelAccess)
    agent_budget_usd: Decimal | None = None
    disk_floor_bytes: int = 0
    push_file_max_bytes: int = 0
    github_host: str = "github.com"
    submodules_max_bytes: int = 1024**3
    lfs: LfsSettings = field(default_factory=LfsSettings)
    leftover_file_bytes: int = FILE_LIMIT_BYTES


@dataclass(frozen=True)
class EngineParts:
    """`parse_reference` and `remote_for` turn a stored URL into where git and GitHub find it.

    `starts` bounds how many places are made and agents started at once on this host, which is work for the processor;
    `room` tells whether a new order may begin beside those that were begun.
    `crash_point` is called at the places named in `crash_points.POINTS`.
    """

    settings: EngineSettings
    git: TrustedGit
    repositories: GitHubRepositoryClient
    issues: GitHubIssueClient
    pull_requests: GitHubPullRequestClient
    parse_reference: Callable[[str], RepositoryReference]
    remote_for: Callable[[RepositoryReference], RemoteRepository]
    crash_point: CrashPoints
    look_ahead: LookAhead
    starts: HostPlaces
    room: ProcessorRoom
