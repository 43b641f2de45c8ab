"""The composition root: puts clients and settings together; the only place that knows all of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from github_app.errors import GhNotLoggedIn, GitHubAnswerInvalid
from github_app.gh import GhCli, GhSettings
from github_app.issues import GitHubIssueClient
from github_app.pull_requests import GitHubPullRequestClient
from github_app.references import ReferenceInvalid, RepositoryReference, parse_repository_reference
from github_app.repositories import GitHubRepositoryClient, require_push
from github_app.types import GitHubIssue, GitHubRepository
from sandboxes.errors import ExpectedError
from sandboxes.extras.lfs_client import LfsSettings
from sandboxes.processes.host_places import HostPlaces, ProcessorRoom
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from workorders.domain.errors import RepositoryRefused
from workorders.model_gateway.access import ModelAccess
from workorders.model_gateway.prices import PriceTable, load_prices
from workorders.model_gateway.upstream import (
    OFFICIAL_URL,
    OTHER_PROVIDER_HINT,
    Upstream,
    parse_custom_headers,
)
from workorders.repositories.github_limits import Database, SharedRateLimit
from workorders.text import redaction
from workorders.workflow_engine.parts.crash_points import parse_crash_points
from workorders.workflow_engine.parts.engine import EngineParts, EngineSettings
from workorders.workflow_engine.parts.look_ahead import LookAhead
from workorders.workflow_engine.place import salvage
from workorders.workflow_engine.upkeep.retention import Retention

VERIFY_SECONDS = 15.0
OPEN_ISSUES = 50
LOOK_AGAIN_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)  # GitHub's lists may be seconds old


def gh_cli(*, timeout_seconds: float = 20.0, database: Database | None = None) -> GhCli:
    """`database` runs the shared rate limit's queries where the caller's thread has no connection of its own."""
    gate = SharedRateLimit(settings.WORKORDERS_GITHUB_HOST, settings.GH_TOKEN, database)
    return GhCli(gh_settings(timeout_seconds), gate)


def gh_without_database(*, timeout_seconds: float) -> GhCli:
    """For the doctor, which must also speak where there are no tables yet."""
    return GhCli(gh_settings(timeout_seconds))


def gh_settings(timeout_seconds: float) -> GhSettings:
    return GhSettings(
        host=settings.WORKORDERS_GITHUB_HOST,
        token=settings.GH_TOKEN,
        home=settings.WORKORDERS_HOME,
        search_path=settings.WORKORDERS_PATH,
        config_dir=Path(settings.GH_CONFIG_DIR) if settings.GH_CONFIG_DIR else None,
        timeout_seconds=timeout_seconds,
        redact=redaction.redact,
    )


def trusted_git(*, network_seconds: float = 600.0) -> TrustedGit:
    return TrustedGit(
        GitSettings(
            search_path=settings.WORKORDERS_PATH,
            network_seconds=network_seconds,
            allow_local=settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES,
        )
    )


def isolation_settings() -> IsolationSettings:
    return IsolationSettings(
        mode=settings.WORKORDERS_AGENT_ISOLATION,
        read_paths=settings.WORKORDERS_AGENT_READ_PATHS,
        search_path=settings.WORKORDERS_PATH,
        processes=settings.WORKORDERS_AGENT_PROCESSES,
        memory_bytes=settings.WORKORDERS_AGENT_MEMORY_MB * 1024 * 1024,
    )


def lfs_settings() -> LfsSettings:
    return LfsSettings(hosts=settings.WORKORDERS_LFS_HOSTS, max_bytes=settings.WORKORDERS_LFS_MAX_BYTES)


def reference_of(repository_url: str) -> RepositoryReference:
    """A stored URL; it was accepted once, but the settings may have changed since. Raises `RepositoryRefused`."""
    try:
        return parse_repository_reference(
            repository_url,
            github_host=settings.WORKORDERS_GITHUB_HOST,
            allow_local=settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES,
        )
    except ReferenceInvalid as error:
        raise RepositoryRefused(str(error)) from error


def model_access() -> ModelAccess:
    return ModelAccess(
        loopback_url=settings.WORKORDERS_GATEWAY_URL,
        public_url=settings.WORKORDERS_GATEWAY_PUBLIC_URL,
        provider_variables=settings.WORKORDERS_AGENT_PROVIDER_VARIABLES,
    )


def model_upstream() -> Upstream:
    """The model's API with the real credential: for the gateway's own process."""
    other = settings.WORKORDERS_MODEL_OTHER_PROVIDER
    return Upstream(
        base_url=settings.WORKORDERS_MODEL_BASE_URL or OFFICIAL_URL,
        **settings.WORKORDERS_MODEL_CREDENTIALS,
        custom_headers=parse_custom_headers(settings.WORKORDERS_MODEL_CUSTOM_HEADERS),
        refusal=OTHER_PROVIDER_HINT.format(name=other) if other else "",
    )


def model_prices() -> PriceTable:
    """Raises `PricesInvalid`."""
    return load_prices(settings.WORKORDERS_MODEL_PRICES)


@lru_cache(maxsize=1)
def _known_login_token() -> str:
    token = gh_cli().auth_token()
    if not token:
        raise GhNotLoggedIn("There is no GH_TOKEN and no login of gh, so nothing can be pushed.")
    redaction.register(("gh's login", token))
    return token


def _login_token() -> str:
    """The token of `gh auth login`, for pushes where GH_TOKEN is not set; remembered once there is one."""
    try:
        return _known_login_token()
    except GhNotLoggedIn:  # a public repository can still be read; a push will say what is missing
        return ""


def remote_for(reference: RepositoryReference) -> RemoteRepository:
    url = reference.clone_url(settings.WORKORDERS_GITHUB_GIT_BASE_URL)
    if reference.is_local:
        return RemoteRepository(url)
    return RemoteRepository(url, token=settings.GH_TOKEN or _login_token())


def engine_parts(*, share: int | None = None, database: Database | None = None) -> EngineParts:
    """`share` defaults to all of the server's steps, for a process that works alone."""
    gh, git = gh_cli(database=database), trusted_git()
    return EngineParts(
        settings=EngineSettings(
            data_dir=settings.WORKORDERS_DATA_DIR,
            commands_dir=settings.WORKORDERS_COMMANDS_DIR,
            share=settings.WORKORDERS_WORKERS if share is None else share,
            lease_seconds=settings.WORKORDERS_LEASE_SECONDS,
            drain_seconds=settings.WORKORDERS_DRAIN_SECONDS,
            isolation=isolation_settings(),
            providers=settings.WORKORDERS_SANDBOX_PROVIDERS,
            agent_argv=settings.WORKORDERS_AGENT_COMMAND,
            agent_model=settings.WORKORDERS_AGENT_MODEL,
            agent_timeout_seconds=settings.WORKORDERS_AGENT_TIMEOUT_SECONDS,
            agent_silence_seconds=settings.WORKORDERS_AGENT_SILENCE_SECONDS,
            model_access=model_access(),
            agent_budget_usd=_decimal(settings.WORKORDERS_AGENT_BUDGET_USD),
            disk_floor_bytes=settings.WORKORDERS_DISK_FLOOR_BYTES,
            push_file_max_bytes=settings.WORKORDERS_PUSH_FILE_MAX_BYTES,
            github_host=settings.WORKORDERS_GITHUB_HOST,
            submodules_max_bytes=settings.WORKORDERS_SUBMODULES_MAX_BYTES,
            lfs=lfs_settings(),
            leftover_file_bytes=settings.WORKORDERS_LEFTOVER_FILE_MAX_BYTES,
        ),
        git=git,
        repositories=GitHubRepositoryClient(gh),
        issues=GitHubIssueClient(gh, LOOK_AGAIN_SECONDS),
        pull_requests=GitHubPullRequestClient(gh, LOOK_AGAIN_SECONDS),
        parse_reference=reference_of,
        remote_for=remote_for,
        crash_point=parse_crash_points(settings.WORKORDERS_CRASH_AT),
        look_ahead=LookAhead(git),
        starts=HostPlaces(
            settings.WORKORDERS_DATA_DIR / "locks" / "starts", settings.WORKORDERS_STARTS_AT_ONCE
        ),
        room=ProcessorRoom(settings.WORKORDERS_DATA_DIR / "run" / "last-begun"),
    )


def retention() -> Retention:
    return Retention(
        homes_days=settings.WORKORDERS_KEEP_HOMES_DAYS,
        mirrors_days=settings.WORKORDERS_KEEP_MIRRORS_DAYS,
        logs_days=settings.WORKORDERS_KEEP_LOGS_DAYS,
    )


def may_remove_sandbox(sandbox_identifier: str, is_stopped: Callable[[], bool] = lambda: False) -> bool:
    """Asked before a place that no live order owns is removed: what was left in it is brought into git first."""
    return salvage.may_remove(engine_parts(), sandbox_identifier, is_stopped)


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def verify_repository(
    reference: RepositoryReference, *, github_id: int | None = None, name_is_lost: bool = False
) -> GitHubRepository:
    """What GitHub, or the folder, says of a repository now; at most `VERIFY_SECONDS`. Raises `ExpectedError`.

    `github_id` and `name_is_lost` as `GitHubRepositoryClient.verify_repository_access` takes them.
    """
    if not reference.is_local:
        client = GitHubRepositoryClient(gh_cli(timeout_seconds=VERIFY_SECONDS))
        return client.verify_repository_access(reference, github_id=github_id, name_is_lost=name_is_lost)
    git = trusted_git(network_seconds=VERIFY_SECONDS)
    default_branch, _refs = git.default_branch_refs(remote_for(reference), [])
    return GitHubRepository(
        repository_owner="",
        repository_name=reference.name,
        repository_url=reference.repository_url,
        default_branch=default_branch,
        is_accessible=True,
        access_verified_at=datetime.now(UTC),
        can_push=True,
        is_private=True,
        web_url="",
    )


def examine_repository(
    repository_url: str, *, lost_id: int | None = None
) -> tuple[GitHubRepository | None, str, bool]:
    """What was found, what a person must do before orders can work on the repository (else empty), and whether
    there was no answer, which says nothing of the repository.

    `lost_id`: the one of this id is meant, whose name another one has.
    """
    found = None
    try:
        reference = reference_of(repository_url)
        if lost_id is None:
            found = verify_repository(reference)
        else:
            found = verify_repository(reference, github_id=lost_id, name_is_lost=True)
        require_push(found)
    except ExpectedError as error:
        return found, in_words(error), error.retryable
    return found, "", False


def in_words(error: ExpectedError) -> str:
    """For a person who asked for a question to GitHub, which nobody repeats but they."""
    said = str(error).rstrip(" .")
    if isinstance(error, GitHubAnswerInvalid):
        return f"{said}. Try again in a moment. {error.advice}"
    return f"{said}. {_again(error) if error.retryable else error.advice}".strip()


def _again(error: ExpectedError) -> str:
    seconds = getattr(error, "retry_after_seconds", None)
    if seconds is None:
        return "Try again in a moment."
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    return f"Try again at {at:%H:%M} UTC." if seconds >= 60 else f"Try again in {max(1, round(seconds))} s."


def open_issues(repository_url: str) -> tuple[GitHubIssue, ...]:
    """The repository's newest open issues; a local folder has none. Raises `ExpectedError`."""
    reference = reference_of(repository_url)
    if reference.is_local:
        return ()
    gh = gh_cli(timeout_seconds=VERIFY_SECONDS)
    return GitHubIssueClient(gh).list_open_issues(reference, limit=OPEN_ISSUES)
