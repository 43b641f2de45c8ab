"""What `doctor` asks: whether this machine, these settings and this database can run work orders.

The checks do not depend on each other. Those that wait for programs run side by side, so that all of them
together stay within a minute; those of the database run in the caller's thread, on its connection.
"""

import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.checks import WARNING, CheckMessage, run_checks
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from sandboxes.checks import (
    check_agent_in_isolation,
    check_agent_program,
    check_data_folder,
    check_git,
    check_isolation,
    check_submodules_and_lfs,
)
from sandboxes.errors import ExpectedError
from sandboxes.findings import Finding, failed, ok, warning
from sandboxes.kinds import SandboxType
from sandboxes.providers import ProviderSettings
from sandboxes.registry import check_providers
from workorders import wiring
from workorders.management.cluster.gateway import DOWN, gateway_state
from workorders.management.database import AWAY_HINT, does_not_answer
from workorders.management.doctor import installation
from workorders.management.doctor.github import check_github
from workorders.queueing import queue
from workorders.reading import progress, schema

TOTAL_SECONDS = 60.0
_GITHUB_SECONDS = 10.0
_PRICES_GET_OLD_DAYS = 120
# isolation, permissions, SQLite
_ASKED_HERE = frozenset({"workorders.W001", "workorders.W002", "workorders.W010"})

Answer = Finding | list[Finding]


@dataclass(frozen=True)
class Check:
    """One question; `in_background` for those that only wait for programs."""

    name: str
    ask: Callable[[], Answer]
    in_background: bool = False


def checks() -> tuple[Check, ...]:
    """In the order of the report."""
    path, argv = settings.WORKORDERS_PATH, settings.WORKORDERS_AGENT_COMMAND
    isolation = wiring.isolation_settings()
    return (
        Check("git", lambda: check_git(path), in_background=True),
        Check("GitHub", github, in_background=True),
        Check("agent command", lambda: check_agent_program(argv, path), in_background=True),
        Check("model credential", model_credential),
        Check("model gateway", model_gateway),
        Check("isolation", lambda: check_isolation(isolation), in_background=True),
        Check("agent in isolation", lambda: check_agent_in_isolation(argv, isolation), in_background=True),
        Check("account", installation.account),
        Check(
            "data folder",
            lambda: check_data_folder(
                settings.WORKORDERS_DATA_DIR, floor_bytes=settings.WORKORDERS_DISK_FLOOR_BYTES
            ),
        ),
        Check("database", database),
        Check("values", installation.values),
        Check("settings", settings_findings),
        Check("static files", installation.static_files),
        Check("queue", queue_settings),
        Check("submodules and LFS", submodules_and_lfs),
        Check("sandbox types", sandbox_types, in_background=True),
    )


def examine(asked: Iterable[Check] | None = None) -> list[Finding]:
    """All findings, in order. A check that cannot even be asked is a finding of its own."""
    asked = checks() if asked is None else tuple(asked)
    deadline = time.monotonic() + TOTAL_SECONDS
    pool = ThreadPoolExecutor(thread_name_prefix="doctor")
    waiting = {check.name: pool.submit(_ask, check) for check in asked if check.in_background}
    found = {check.name: _ask(check) for check in asked if not check.in_background}
    for name, future in waiting.items():
        found[name] = _await(name, future, deadline)
    pool.shutdown(wait=False, cancel_futures=True)
    return [finding for check in asked for finding in found[check.name]]


def _ask(check: Check) -> list[Finding]:
    try:
        answer = check.ask()
    except Exception as error:  # one broken check must not hide what the others find
        words = f"{type(error).__name__}: {str(error)[:300]}"
        return [
            failed(check.name, f"The check itself failed: {words}", "This may be a defect of Work Orders.")
        ]
    return answer if isinstance(answer, list) else [answer]


def _await(name: str, future: Future[list[Finding]], deadline: float) -> list[Finding]:
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        words = f"No answer within {TOTAL_SECONDS:.0f} s."
        return [failed(name, words, "Something on this machine hangs; try the command by hand.")]


def github() -> list[Finding]:
    """Needed unless the server works on local repositories and nobody has given it a GitHub login."""
    expected = bool(
        settings.GH_TOKEN or settings.GH_CONFIG_DIR or not settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES
    )
    gh = wiring.gh_without_database(timeout_seconds=_GITHUB_SECONDS)
    return check_github(gh, search_path=settings.WORKORDERS_PATH, expected=expected)


def submodules_and_lfs() -> Finding:
    return check_submodules_and_lfs(
        github_host=settings.WORKORDERS_GITHUB_HOST,
        submodules_max_mb=settings.WORKORDERS_SUBMODULES_MAX_BYTES // 1_000_000,
        lfs_max_mb=settings.WORKORDERS_LFS_MAX_BYTES // 1_000_000,
        lfs_hosts=settings.WORKORDERS_LFS_HOSTS,
    )


def model_credential() -> Finding:
    """Whether the gateway will have one; that the model's provider accepts it shows only in a run."""
    upstream = wiring.model_upstream()
    program = Path(settings.WORKORDERS_AGENT_COMMAND[0]).name
    needed = program == "claude"
    if upstream.refusal:
        kind = failed if needed else warning
        name = settings.WORKORDERS_MODEL_OTHER_PROVIDER
        return kind(
            "model credential", f"{name} asks for a provider the model gateway cannot use.", upstream.refusal
        )
    if upstream.has_credential:
        return ok("model credential", f"set, for {upstream.base_url}")
    if not needed:
        return ok("model credential", f"none; whether {program} needs one is not known")
    return failed(
        "model credential",
        "The workers have no credential for the model.",
        "Set ANTHROPIC_API_KEY, or CLAUDE_CODE_OAUTH_TOKEN (`claude setup-token` makes one), for the server.",
    )


def model_gateway() -> list[Finding]:
    """Whether this machine's gateways answer, and the prices they count with can be read."""
    prices = _model_prices()
    if installation.is_database_of_another():
        return [ok("model gateway", "not asked by another account than the server's"), prices]
    try:
        urls = progress.gateways_of(socket.gethostname())
    except (DatabaseError, InterfaceError):
        return [ok("model gateway", "not known while the database does not answer"), prices]
    silent = [url for url in urls if gateway_state(url) == DOWN]
    if silent:
        hint = "The worker's log says why; it is started again by itself. Restart the workers if it stays so."
        return [failed("model gateway", f"No answer from {', '.join(silent)}.", hint), prices]
    words = f"answers at {', '.join(urls)}" if urls else "none runs here now; `serve` or `qcluster` starts it"
    return [ok("model gateway", words), prices]


def _model_prices() -> Finding:
    """An old list is no fault of the machine, but its figures may be wrong and new models are not in it."""
    try:
        table = wiring.model_prices()
    except ExpectedError as error:
        return failed("model prices", str(error), error.advice)
    listed = table.listed
    source = f"{listed.source.package} {listed.source.version}"
    words = f"{len(listed.models)} models by {source}, list prices of {listed.generated}"
    if table.own:
        words += f"; {len(table.own)} of your own in {settings.WORKORDERS_MODEL_PRICES}"
    age = listed.age_days(timezone.now().date())
    if age <= _PRICES_GET_OLD_DAYS:
        return ok("model prices", words)
    hint = "Update Work Orders, or name today's prices in the file of WORKORDERS_MODEL_PRICES (docs/operations.md)."
    return warning("model prices", f"{words}: {age} days old, so costs and budgets may be off.", hint)


def database() -> list[Finding]:
    if installation.is_database_of_another():
        return [
            warning("database", "Not asked by another account than its own.", "Run `doctor` as that account.")
        ]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        version = ".".join(str(part) for part in connection.get_database_version())
        words = f"{settings.WORKORDERS_DATABASE_WORDS} ({connection.display_name} {version}) answers"
        found = [ok("database", words), _migrations()]
        if connection.vendor == "sqlite":
            found.append(_sqlite_version(connection.get_database_version(), version, _journal_mode()))
        found += [_workers(), _accounts()]
    except (DatabaseError, InterfaceError) as error:
        return [failed("database", does_not_answer(error), AWAY_HINT)]
    return found


def _migrations() -> Finding:
    if missing := schema.missing_migrations():
        return failed("migrations", missing, schema.MIGRATE)
    return ok("migrations", "all applied")


def _journal_mode() -> str:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        return str(cursor.fetchone()[0])


def _sqlite_version(version: tuple[int, ...], words: str, journal_mode: str = "wal") -> Finding:
    if journal_mode != "wal":
        return warning(
            "SQLite version",
            f"SQLite {words} runs in journal mode {journal_mode}, so that readers and writers wait for each other.",
            "Put the data folder on a local disk: network file systems cannot do write-ahead logging.",
        )
    if version >= settings.WORKORDERS_SQLITE_SAFE_SINCE:
        return ok("SQLite version", f"{words}, write-ahead logging, without the WAL-reset bug")
    return warning(
        "SQLite version",
        f"SQLite {words} has a rare bug at WAL reset that can corrupt a database (mended in 3.51.3).",
        "`uv sync` brings a safe one on Linux x86-64; else back up often, and prefer Postgres (DATABASE_URL).",
    )


def _workers() -> Finding:
    try:
        alive = progress.live_workers()
    except DatabaseError:
        return ok("workers", "not known before the migrations are applied")
    words = f"{alive} at work now" if alive else "none at work now; `serve` or `qcluster` starts them"
    return ok("workers", words)


def _accounts() -> Finding:
    """Somebody must be able to sign in, where that is asked for."""
    if settings.WORKORDERS_AUTH == "none":
        return ok("sign-in", "nobody signs in; only this machine is served")
    try:
        number = User.objects.filter(is_active=True).count()
    except DatabaseError:
        return ok("sign-in", "not known before the migrations are applied")
    if not number:
        hint = "Make the first one: `uv run manage.py createsuperuser`."
        return warning("sign-in", "People must sign in, and there is no account.", hint)
    return ok("sign-in", f"required; {number} account{'' if number == 1 else 's'}")


def settings_findings() -> list[Finding]:
    """Django's system checks, the product's own included; some ask SQLite what it can do."""
    try:
        messages = run_checks()
    except (DatabaseError, InterfaceError):
        return [ok("settings", "not known while the database does not answer")]
    told = [
        _told(message)
        for message in messages
        if message.level >= WARNING and not message.is_silenced() and message.id not in _ASKED_HERE
    ]
    return told or [ok("settings", "Django's system checks find nothing")]


def _told(message: CheckMessage) -> Finding:
    kind = failed if message.is_serious() else warning
    return kind(f"settings {message.id or ''}".strip(), message.msg, message.hint or "See the documentation.")


def queue_settings() -> Finding:
    times: dict[str, Any] = settings.Q_CLUSTER
    words = (
        f"{settings.WORKORDERS_WORKERS} steps in {queue.supervising_processes()} processes; "
        f"tasks end after {times['timeout']} s, are delivered again after {times['retry']} s"
    )
    if times["retry"] > times["timeout"]:
        return ok("queue", words)
    return failed("queue", words, "retry must be longer than timeout.")


def sandbox_types() -> list[Finding]:
    """Which can be used, and of those that run elsewhere whether their provider answers."""
    providers: ProviderSettings = settings.WORKORDERS_SANDBOX_PROVIDERS
    missing = {kind: setting for kind in SandboxType if (setting := providers.missing_setting(kind))}
    usable = ", ".join(kind for kind in SandboxType if kind not in missing)
    others = "".join(f"; {kind} needs {setting}" for kind, setting in missing.items())
    return [ok("sandbox types", f"{usable}{others}"), *check_providers(providers)]
