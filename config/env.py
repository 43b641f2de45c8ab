"""The typed environment: every variable the server reads, its default and what is wrong with a bad value.

The only module that reads `os.environ`. `config.settings` turns the result into Django settings; everything
else reads `django.conf.settings`. A test keeps `.env.example` in step with the fields here.
"""

import hmac
import os
import re
import secrets
import shlex
import shutil
import sys
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import values
from config.secret_files import NAMES as FILE_NAMES
from config.secret_files import SUFFIX, SecretFileInvalid, read_secret_files
from config.value_shapes import COMMENT, OddValue, odd_values
from config.values import LOOPBACK_HOSTS
from sandboxes.providers import MODEL_HOST, DaggerSettings, E2BSettings, ProviderSettings

BASE_DIR = Path(__file__).resolve().parent.parent
TAKEN_PATHS = frozenset({"account", "api", "repositories", "static", "theme", "webhooks", "work-orders"})
# Where github.com keeps contents of Git LFS: downloads, uploads, and the word that an upload has come.
GITHUB_LFS_HOSTS = "github-cloud.githubusercontent.com,github-cloud.s3.amazonaws.com,lfs.github.com"
SETTINGS_MODULE = "config.settings"
SQLITE_FILE = "workorders.sqlite3"
_PRELOAD_SECONDS = 31_536_000
REHEARSAL_AGENT = BASE_DIR / "workorders" / "agents" / "rehearsal.py"


class EnvironmentInvalid(Exception):
    """A variable has a value the server cannot start with."""


class Environment(BaseSettings):
    """Values as the server uses them; times in seconds, money in US dollars."""

    model_config = SettingsConfigDict(extra="ignore", case_sensitive=True, env_ignore_empty=True, frozen=True)

    database_url: str = Field(
        "",
        alias="DATABASE_URL",
        description="empty: SQLite in the data folder",
        examples=["postgres://user:password@host:5432/workorders"],
    )
    data_dir: Path = Field(BASE_DIR / "var", alias="WORKORDERS_DATA_DIR")
    secret_key: str = Field("", alias="WORKORDERS_SECRET_KEY", repr=False)
    debug: bool = Field(False, alias="WORKORDERS_DEBUG")
    allowed_hosts: str = Field("localhost,127.0.0.1,[::1]", alias="WORKORDERS_ALLOWED_HOSTS")
    auth: Literal["required", "none"] = Field("required", alias="WORKORDERS_AUTH")
    admin_path: str = Field(
        "admin/", alias="WORKORDERS_ADMIN_PATH", pattern=r"^(?:[A-Za-z0-9_-]{1,80}/){1,3}$"
    )
    hsts_seconds: int = Field(31_536_000, alias="WORKORDERS_HSTS_SECONDS", ge=0, le=63_072_000)
    hsts_include_subdomains: bool = Field(False, alias="WORKORDERS_HSTS_INCLUDE_SUBDOMAINS")
    hsts_preload: bool = Field(False, alias="WORKORDERS_HSTS_PRELOAD")
    workers: int = Field(4, alias="WORKORDERS_WORKERS", ge=1, le=1000)
    worker_processes: int = Field(8, alias="WORKORDERS_WORKER_PROCESSES", ge=1, le=64)
    starts_at_once: int = Field(0, alias="WORKORDERS_STARTS_AT_ONCE", ge=0, le=1000)
    lease_seconds: int = Field(30, alias="WORKORDERS_LEASE_SECONDS", ge=3, le=3600)
    drain_seconds: float = Field(5, alias="WORKORDERS_DRAIN_SECONDS", ge=0, le=3600)
    agent_command: str = Field("claude", alias="WORKORDERS_AGENT_COMMAND")
    agent_model: str = Field("sonnet", alias="WORKORDERS_AGENT_MODEL", pattern=r"^[A-Za-z0-9][\w.:\[\]/@-]*$")
    agent_timeout_seconds: int = Field(3600, alias="WORKORDERS_AGENT_TIMEOUT_SECONDS", ge=1, le=86400)
    agent_silence_seconds: int = Field(900, alias="WORKORDERS_AGENT_SILENCE_SECONDS", ge=1, le=86400)
    agent_isolation: Literal["bubblewrap", "none", ""] = Field(
        "", alias="WORKORDERS_AGENT_ISOLATION", examples=["bubblewrap"]
    )
    agent_read_paths: str = Field("", alias="WORKORDERS_AGENT_READ_PATHS", examples=["/opt/tools:/srv/data"])
    agent_processes: int = Field(4096, alias="WORKORDERS_AGENT_PROCESSES", ge=0, le=1_000_000)
    agent_memory_mb: int = Field(0, alias="WORKORDERS_AGENT_MEMORY_MB", ge=0, le=10_000_000)
    agent_budget_usd: float | None = Field(
        None, alias="WORKORDERS_AGENT_BUDGET_USD", gt=0, allow_inf_nan=False, examples=["2.50"]
    )
    sandbox_allowed_hosts: str = Field(
        "", alias="WORKORDERS_SANDBOX_ALLOWED_HOSTS", examples=["registry.npmjs.org,pypi.org"]
    )
    e2b_template: str = Field(
        "work-orders", alias="WORKORDERS_E2B_TEMPLATE", pattern=r"^[A-Za-z0-9][\w./:-]*$"
    )
    dagger_image: str = Field(
        "",
        alias="WORKORDERS_DAGGER_IMAGE",
        pattern=r"^([a-z0-9][\w./:@-]*)?$",
        examples=["registry.example.org/work-orders:1"],
    )
    gateway_listen: str = Field("127.0.0.1:0", alias="WORKORDERS_GATEWAY_LISTEN")
    gateway_public_url: str = Field(
        "", alias="WORKORDERS_GATEWAY_PUBLIC_URL", examples=["https://gateway.example.org"]
    )
    model_prices: Path | None = Field(None, alias="WORKORDERS_MODEL_PRICES", examples=["/etc/prices.json"])
    push_file_max_mb: int = Field(100, alias="WORKORDERS_PUSH_FILE_MAX_MB", ge=0, le=100_000)
    disk_floor_mb: int = Field(1024, alias="WORKORDERS_DISK_FLOOR_MB", ge=0, le=10_000_000)
    submodules_max_mb: int = Field(1024, alias="WORKORDERS_SUBMODULES_MAX_MB", ge=0, le=1_000_000)
    lfs_max_mb: int = Field(1024, alias="WORKORDERS_LFS_MAX_MB", ge=0, le=1_000_000)
    lfs_hosts: str = Field(GITHUB_LFS_HOSTS, alias="WORKORDERS_LFS_HOSTS")
    leftover_file_max_mb: int = Field(10, alias="WORKORDERS_LEFTOVER_FILE_MAX_MB", ge=1, le=100)
    keep_homes_days: int = Field(30, alias="WORKORDERS_KEEP_HOMES_DAYS", ge=0, le=36500)
    keep_mirrors_days: int = Field(90, alias="WORKORDERS_KEEP_MIRRORS_DAYS", ge=0, le=36500)
    keep_logs_days: int = Field(90, alias="WORKORDERS_KEEP_LOGS_DAYS", ge=0, le=36500)
    allow_local_repositories: bool = Field(False, alias="WORKORDERS_ALLOW_LOCAL_REPOSITORIES")
    github_host: str = Field("github.com", alias="WORKORDERS_GITHUB_HOST")
    github_git_base_url: str = Field(
        "", alias="WORKORDERS_GITHUB_GIT_BASE_URL", examples=["https://git.example.org"]
    )
    crash_at: str = Field(
        "", alias="WORKORDERS_CRASH_AT", description="for tests: where workers kill themselves"
    )
    webhook_secrets: str = Field("", alias="WORKORDERS_WEBHOOK_SECRETS", repr=False)
    log_format: Literal["console", "json", ""] = Field("", alias="WORKORDERS_LOG_FORMAT", examples=["json"])
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="WORKORDERS_LOG_LEVEL")

    gh_token: str = Field("", alias="GH_TOKEN", repr=False)
    gh_host: str = Field("", alias="GH_HOST")
    gh_config_dir: str = Field("", alias="GH_CONFIG_DIR")
    anthropic_api_key: str = Field("", alias="ANTHROPIC_API_KEY", repr=False)
    claude_code_oauth_token: str = Field("", alias="CLAUDE_CODE_OAUTH_TOKEN", repr=False)
    anthropic_auth_token: str = Field("", alias="ANTHROPIC_AUTH_TOKEN", repr=False)
    anthropic_base_url: str = Field("", alias="ANTHROPIC_BASE_URL", examples=["https://models.example.org"])
    anthropic_custom_headers: str = Field("", alias="ANTHROPIC_CUSTOM_HEADERS", repr=False)

    e2b_api_key: str = Field("", alias="E2B_API_KEY", repr=False)
    e2b_domain: str = Field("", alias="E2B_DOMAIN", pattern=r"^[a-z0-9.-]*$", examples=["e2b.example.org"])
    e2b_api_url: str = Field("", alias="E2B_API_URL", examples=["https://api.e2b.example.org"])
    e2b_sandbox_url: str = Field("", alias="E2B_SANDBOX_URL", examples=["https://sandbox.e2b.example.org"])

    home: Path = Field(Path("/"), alias="HOME")
    path: str = Field("/usr/local/bin:/usr/bin:/bin", alias="PATH")

    @field_validator("admin_path", mode="after")
    @classmethod
    def _free(cls, value: str) -> str:
        if value.partition("/")[0] in TAKEN_PATHS:
            raise ValueError(f"is taken; choose another than {', '.join(sorted(TAKEN_PATHS))}")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value.upper()

    @field_validator("model_prices", mode="after")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        path = values.absolute(value) if value else None
        if path is not None and not path.is_file():
            raise ValueError(f"{path} is no file; docs/operations.md shows the form of a price table")
        return path

    _database = field_validator("database_url", mode="after")(values.database_url)
    _whole_path = field_validator("data_dir", mode="after")(values.absolute)
    _command = field_validator("agent_command", mode="after")(values.command)
    _folders = field_validator("agent_read_paths", mode="after")(values.folders)
    _host_names = field_validator("sandbox_allowed_hosts", mode="after")(values.host_names)
    _named_hosts = field_validator("lfs_hosts", mode="after")(values.named_hosts)
    _github = field_validator("github_host", mode="after")(values.github_host)
    _listens = field_validator("gateway_listen", mode="after")(values.listening_address)
    _safe = field_validator("github_git_base_url", "anthropic_base_url", "gateway_public_url", mode="after")(
        values.safe_address
    )
    _web = field_validator("e2b_api_url", "e2b_sandbox_url", mode="after")(values.web_address)

    @model_validator(mode="after")
    def _gateway_is_open_on_purpose(self) -> Self:
        host, port = self.gateway_address
        if host in LOOPBACK_HOSTS:
            return self
        if not self.gateway_public_url or not port:
            raise ValueError(
                f"WORKORDERS_GATEWAY_LISTEN={self.gateway_listen} opens the model gateway beyond this machine; that "
                "needs a port of its own, and WORKORDERS_GATEWAY_PUBLIC_URL, the address remote sandboxes use"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.debug and not self.secret_key:
            raise ValueError(
                "WORKORDERS_SECRET_KEY is required unless WORKORDERS_DEBUG=true; make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe(50))'`"
            )
        exposed = [host for host in self.hosts if host not in LOOPBACK_HOSTS]
        if self.auth == "none" and exposed:
            raise ValueError(
                "WORKORDERS_AUTH=none is accepted on loopback only, but WORKORDERS_ALLOWED_HOSTS names "
                f"{', '.join(exposed)}; set WORKORDERS_AUTH=required or remove those hosts"
            )
        if self.hsts_preload and not (self.hsts_include_subdomains and self.hsts_seconds >= _PRELOAD_SECONDS):
            raise ValueError(
                "WORKORDERS_HSTS_PRELOAD=true is for WORKORDERS_HSTS_INCLUDE_SUBDOMAINS=true and "
                f"WORKORDERS_HSTS_SECONDS of at least {_PRELOAD_SECONDS}; browsers' lists take nothing else"
            )
        return self

    @property
    def database_words(self) -> str:
        """Which database it is, without its password."""
        return values.database_words(self.database_url, self.data_dir / SQLITE_FILE)

    @property
    def odd_values(self) -> list[OddValue]:
        """What is accepted, and looks as if something else was meant."""
        names = {str(field.alias) for field in Environment.model_fields.values()} - {"PATH", "HOME"}
        given = {name: value for name, value in {**os.environ, **_from_files()[0]}.items() if name in names}
        return odd_values(given)

    @property
    def starts(self) -> int:
        """How many starts this machine's processors are given at once."""
        return self.starts_at_once or os.cpu_count() or 1

    @property
    def hosts(self) -> list[str]:
        return [host.strip() for host in self.allowed_hosts.split(",") if host.strip()]

    @property
    def isolation(self) -> Literal["bubblewrap", "none"]:
        """Bubblewrap unless told otherwise; only in DEBUG may its absence mean `none`."""
        if self.agent_isolation:
            return self.agent_isolation
        return "none" if self.debug and shutil.which("bwrap", path=self.path) is None else "bubblewrap"

    @property
    def git_base_url(self) -> str:
        return self.github_git_base_url or f"https://{self.github_host}"

    @property
    def read_paths(self) -> list[Path]:
        return [Path(item) for item in self.agent_read_paths.split(":") if item]

    @property
    def gateway_address(self) -> tuple[str, int]:
        host, _, port = self.gateway_listen.rpartition(":")
        return host, int(port)

    @property
    def other_provider(self) -> str:
        """The variable that asks for a provider the model gateway cannot talk to, or ''."""
        asked = (name for name, value in os.environ.items() if name.startswith("CLAUDE_CODE_USE_") and value)
        return next(
            (name for name in asked if os.environ[name].lower() not in {"0", "false", "no", "off"}), ""
        )

    @property
    def provider_variables(self) -> dict[str, str]:
        """Variables that choose a model provider, by the prefixes the Claude Code CLI documents."""
        prefixes = ("ANTHROPIC_", "CLAUDE_CODE_USE_", "CLAUDE_CODE_OAUTH_TOKEN")
        given = {**os.environ, **_from_files()[0]}
        files = {name + SUFFIX for name in FILE_NAMES}
        return {
            name: value for name, value in given.items() if name.startswith(prefixes) and name not in files
        }

    @property
    def model_host(self) -> str:
        """What a sandbox elsewhere must reach: the gateway where it is public, else the model itself."""
        return urlsplit(self.gateway_public_url or self.anthropic_base_url).hostname or MODEL_HOST

    @property
    def providers(self) -> ProviderSettings:
        """Settings of the sandboxes that run elsewhere. Installations are told apart by their secret key."""
        owner = hmac.new(self.secret_key.encode(), b"sandbox owner", sha256).hexdigest()[:24]
        hosts = [self.model_host, *(name for name in self.sandbox_allowed_hosts.split(",") if name)]
        return ProviderSettings(
            owner=owner,
            allowed_hosts=tuple(dict.fromkeys(hosts)),
            e2b=E2BSettings(
                api_key=self.e2b_api_key,
                template=self.e2b_template,
                domain=self.e2b_domain,
                api_url=self.e2b_api_url,
                sandbox_url=self.e2b_sandbox_url,
            ),
            dagger=DaggerSettings(image=self.dagger_image),
        )

    @property
    def secret_values(self) -> list[tuple[str, str]]:
        """Names and values that must be in no log, page or commit."""
        found = [(name, str(getattr(self, field))) for field, name in _SECRETS.items()]
        given = {**os.environ, **_from_files()[0]}
        found += [(name, value) for name, value in given.items() if _SECRET_NAME.search(name)]
        found += [("webhook secret", item.strip()) for item in self.webhook_secrets.split(",")]
        headers = [line.partition(":")[2].strip() for line in self.anthropic_custom_headers.splitlines()]
        found += [
            ("model's header", value) for value in headers if len(value) >= 16
        ]  # shorter: hardly a secret
        password = (urlsplit(self.database_url).password or "") if "://" in self.database_url else ""
        found += [("database password", form) for form in (password, unquote(password))]
        return [(name, value) for name, value in dict.fromkeys(found) if value]


_SECRETS = {
    "secret_key": "WORKORDERS_SECRET_KEY",  # nosec B105  # a name, as those below
    "gh_token": "GH_TOKEN",  # nosec B105  # a name
    "anthropic_api_key": "ANTHROPIC_API_KEY",
    "claude_code_oauth_token": "CLAUDE_CODE_OAUTH_TOKEN",  # nosec B105  # a name
    "anthropic_auth_token": "ANTHROPIC_AUTH_TOKEN",  # nosec B105  # a name
    "anthropic_custom_headers": "ANTHROPIC_CUSTOM_HEADERS",
}
# By the names that programs give to secrets: other providers' keys, E2B's, Dagger's.
_SECRET_NAME = re.compile(r"(?:_|^)(?:API_KEY|TOKEN|SECRET|PASSWORD|SECRET_KEY|ACCESS_KEY|AUTH_TOKEN)$")


def _from_files() -> tuple[dict[str, str], list[SecretFileInvalid]]:
    return read_secret_files(os.environ)


@lru_cache(maxsize=1)
def current() -> Environment:
    """The environment of this process, read once. Raises `EnvironmentInvalid` with a line for each problem."""
    found, problems = _from_files()
    lines = [f"  {problem}" for problem in problems]
    try:
        environment = Environment(**found)  # type: ignore[arg-type]  # every secret is a text
    except ValidationError as error:
        named = {name for name in FILE_NAMES for problem in problems if str(problem).startswith(name)}
        lines += [
            line for line in map(_line, error.errors()) if not any(f" {name} is" in line for name in named)
        ]
    if lines:
        raise _invalid(lines)
    return environment


def make_data_folder(folder: Path) -> None:
    """Raises `EnvironmentInvalid` where it cannot be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise _data_folder_refused(f"{folder} cannot be the data folder: {reason}") from error


def _data_folder_refused(reason: str) -> EnvironmentInvalid:
    name = "WORKORDERS_DATA_DIR"
    return _invalid([f"  {name}: {reason}{_example(name)}"])


def _invalid(lines: list[str]) -> EnvironmentInvalid:
    text = "The environment has values the server cannot start with:\n" + "\n".join(lines)
    return EnvironmentInvalid(text + "\nSee .env.example for every variable.")


def _line(problem: Any) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else ""  # none: the variables do not go together
    is_pattern = problem["type"] == "string_pattern_mismatch"
    words = "is not written as it must be" if is_pattern else problem["msg"].removeprefix("Value error, ")
    if name and COMMENT.search(str(problem["input"])):
        words += "; it holds a comment, which belongs on a line of its own"
    return f"  {name}: {words}{_example(name)}" if name else f"  {words}"


def _example(name: str) -> str:
    """A value that would do, in brackets; secrets have none."""
    field = next(field for field in Environment.model_fields.values() if field.alias == name)
    shown = field.examples[0] if field.examples else field.default
    text = "" if shown is None else str(shown).lower() if isinstance(shown, bool) else str(shown)
    return f" (for example {name}={text})" if text else ""


def point_django_at_settings() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS_MODULE)


def settings_module() -> str:
    """The settings that were asked for; Django writes what `--settings` names into the environment."""
    return os.environ.get("DJANGO_SETTINGS_MODULE", SETTINGS_MODULE)


def named_data_folder() -> Path:
    """Before the environment as a whole is read. Raises `EnvironmentInvalid`."""
    try:
        return values.absolute(Path(os.environ.get("WORKORDERS_DATA_DIR") or BASE_DIR / "var"))
    except ValueError as error:
        raise _data_folder_refused(str(error)) from error


def use_embedded_defaults() -> None:
    """Defaults for `quickstart`: no account, no network, this machine only. What is set already wins.

    Set in this process's environment, so that the server and the workers it starts inherit them.
    Raises `EnvironmentInvalid`.
    """
    try:
        secret_key = _kept_secret_key(named_data_folder())
    except (OSError, ValueError) as error:
        raise _data_folder_refused(str(error)) from error
    defaults = {
        "WORKORDERS_SECRET_KEY": secret_key,
        "WORKORDERS_AUTH": "none",
        "WORKORDERS_ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]",
        "WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true",
        "WORKORDERS_LOG_FORMAT": "console",
        "WORKORDERS_AGENT_COMMAND": shlex.join([sys.executable, "-I", "-S", str(REHEARSAL_AGENT)]),
        "WORKORDERS_AGENT_ISOLATION": "bubblewrap" if shutil.which("bwrap") else "none",
    }
    for name, value in defaults.items():
        if not (os.environ.get(name) or os.environ.get(name + SUFFIX)):
            os.environ[name] = value


def _kept_secret_key(data_dir: Path) -> str:
    """The data folder's own, made where there is none."""
    make_data_folder(data_dir)
    file = data_dir / "secret_key"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(50))
    return file.read_text()
