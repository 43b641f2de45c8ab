"""The typed environment: `.env.example` is in step with it, and wrong values fail at start with a hint."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic.fields import FieldInfo

from config import env, secret_files, values

EXAMPLE = env.BASE_DIR / ".env.example"
PASSED_THROUGH = {"ANTHROPIC_DEFAULT_SONNET_MODEL"}
FIELDS = {str(field.alias): field for field in env.Environment.model_fields.values()}


def example() -> dict[str, tuple[str, list[str]]]:
    """Each variable of the example with its value and the comment lines right above it."""
    found: dict[str, tuple[str, list[str]]] = {}
    comments: list[str] = []
    for line in EXAMPLE.read_text().splitlines():
        if match := re.fullmatch(r"#([A-Z][A-Z0-9_]*)=(.*)", line):
            assert match[1] not in found, f"{match[1]} is listed twice"
            found[match[1]] = (match[2], comments)
            comments = []
        elif line.startswith("# ") and not line.startswith("# ---"):
            comments = [*comments, line[2:]]
        else:
            assert not line or line.startswith("# ---"), f"not a comment and no variable: {line}"
            comments = []
    return found


def as_written(field: FieldInfo) -> str:
    default = field.default
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if default == env.BASE_DIR / "var":
        return "var"
    return str(default)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`config.env` with a minimal environment, and nothing remembered before or after."""
    for name in [*FIELDS, *PASSED_THROUGH]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("WORKORDERS_SECRET_KEY", "k" * 50)
    env.current.cache_clear()
    yield env
    env.current.cache_clear()


def test_example_lists_exactly_the_variables_that_are_read() -> None:
    assert set(example()) == set(FIELDS) | PASSED_THROUGH


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_example_shows_the_default_and_explains_it_in_one_line(name: str) -> None:
    value, comments = example()[name]
    assert value == as_written(FIELDS[name])
    assert len(comments) == 1
    assert comments[0].endswith(".")


def test_passed_through_variables_reach_the_agent(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PASSED_THROUGH:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CLAUDE_CODE_ENTRYPOINT", "a developer's own session")
    assert set(fresh.current().provider_variables) == PASSED_THROUGH


def test_defaults_start_and_isolate(fresh: ModuleType) -> None:
    found = fresh.current()
    assert (found.auth, found.isolation, found.workers) == ("required", "bubblewrap", 4)
    assert found.git_base_url == "https://github.com"
    assert found.data_dir == env.BASE_DIR / "var"


def test_empty_means_default(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIELDS:
        if name not in {"WORKORDERS_SECRET_KEY", "HOME", "PATH"}:
            monkeypatch.setenv(name, "")
    assert fresh.current().workers == 4


def test_secrets_are_not_shown(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("WORKORDERS_SECRET_KEY", "GH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
    for name in (*names, "WORKORDERS_WEBHOOK_SECRETS"):
        monkeypatch.setenv(name, "very-secret-value")
    assert "very-secret-value" not in repr(fresh.current())


@pytest.mark.parametrize(
    ("variables", "hint"),
    [
        ({"WORKORDERS_SECRET_KEY": ""}, "make one with"),
        ({"WORKORDERS_WORKERS": "0"}, "WORKORDERS_WORKERS: Input should be greater than or equal to 1"),
        ({"WORKORDERS_WORKERS": "many"}, "WORKORDERS_WORKERS: Input should be a valid integer"),
        ({"WORKORDERS_WORKER_PROCESSES": "1000"}, "less than or equal to 64"),
        ({"WORKORDERS_LEASE_SECONDS": "1"}, "WORKORDERS_LEASE_SECONDS"),
        ({"WORKORDERS_DRAIN_SECONDS": "-1"}, "WORKORDERS_DRAIN_SECONDS"),
        ({"WORKORDERS_DEBUG": "perhaps"}, "WORKORDERS_DEBUG: Input should be a valid boolean"),
        ({"WORKORDERS_AUTH": "off"}, "'required' or 'none'"),
        (
            {"WORKORDERS_AUTH": "none", "WORKORDERS_ALLOWED_HOSTS": "localhost,work.example.org"},
            "WORKORDERS_ALLOWED_HOSTS names work.example.org",
        ),
        ({"WORKORDERS_AUTH": "none", "WORKORDERS_ALLOWED_HOSTS": "*"}, "accepted on loopback only"),
        ({"WORKORDERS_AGENT_COMMAND": "  "}, "leave it out for `claude`"),
        ({"WORKORDERS_AGENT_COMMAND": "claude 'unfinished"}, "No closing quotation: it is split as a shell"),
        ({"WORKORDERS_AGENT_COMMAND": "''"}, "names no program"),
        ({"WORKORDERS_AGENT_READ_PATHS": "/opt:relative/path"}, "whole paths that begin with /"),
        ({"WORKORDERS_AGENT_MODEL": "--help"}, "WORKORDERS_AGENT_MODEL"),
        ({"WORKORDERS_AGENT_ISOLATION": "docker"}, "'bubblewrap', 'none'"),
        ({"WORKORDERS_AGENT_TIMEOUT_SECONDS": "0"}, "WORKORDERS_AGENT_TIMEOUT_SECONDS"),
        ({"WORKORDERS_AGENT_SILENCE_SECONDS": "1e9"}, "WORKORDERS_AGENT_SILENCE_SECONDS"),
        ({"WORKORDERS_AGENT_BUDGET_USD": "-5"}, "greater than 0"),
        ({"WORKORDERS_AGENT_BUDGET_USD": "inf"}, "finite number"),
        ({"WORKORDERS_AGENT_BUDGET_USD": "nan"}, "finite number"),
        ({"WORKORDERS_GITHUB_HOST": "https://github.com"}, "a host name alone"),
        ({"WORKORDERS_GITHUB_HOST": "github.com:443"}, "a host name alone"),
        ({"WORKORDERS_GITHUB_GIT_BASE_URL": "https://"}, "must be https:// and a host name"),
        ({"WORKORDERS_GITHUB_GIT_BASE_URL": "https://a b"}, "must be https:// and a host name"),
        ({"WORKORDERS_GITHUB_GIT_BASE_URL": "https://a/b?c=d"}, "? and # cannot be part"),
        ({"WORKORDERS_GITHUB_GIT_BASE_URL": "https://a:port"}, "not a URL that can be read"),
        ({"WORKORDERS_GITHUB_GIT_BASE_URL": "http://git.example.org"}, "must be https://"),
        ({"WORKORDERS_GITHUB_GIT_BASE_URL": "https://me:pw@git.example.org"}, "variables of their own"),
        ({"ANTHROPIC_BASE_URL": "http://model.example.org"}, "must be https://"),
        ({"WORKORDERS_GATEWAY_PUBLIC_URL": "http://gateway.example.org"}, "must be https://"),
        ({"WORKORDERS_GATEWAY_LISTEN": "8787"}, "an address and a port"),
        ({"WORKORDERS_GATEWAY_LISTEN": "127.0.0.1:x"}, "an address and a port"),
        ({"WORKORDERS_GATEWAY_LISTEN": "0.0.0.0:8787"}, "WORKORDERS_GATEWAY_PUBLIC_URL"),
        (
            {
                "WORKORDERS_GATEWAY_LISTEN": "0.0.0.0:0",
                "WORKORDERS_GATEWAY_PUBLIC_URL": "https://gateway.example",
            },
            "a port of its own",
        ),
        ({"WORKORDERS_MODEL_PRICES": "/nowhere/prices.json"}, "is no file"),
        ({"WORKORDERS_DATA_DIR": "~nobody-of-this-name/var"}, "write the whole path"),
        ({"E2B_API_URL": "garbage"}, "must be https:// and a host name"),
        ({"E2B_SANDBOX_URL": "https://me:pw@sandboxes.example.org"}, "variables of their own"),
        ({"DATABASE_URL": "garbage"}, "must begin with postgres://"),
        ({"DATABASE_URL": "mysql://x/y"}, "must begin with postgres://"),
        ({"DATABASE_URL": "postgres://u:hidden@h:badport/db"}, "not a URL that can be read"),
        ({"DATABASE_URL": "postgres://u:p#hidden@h/db"}, "not a URL that can be read"),
        ({"DATABASE_URL": "postgres://u:1#hidden@h/db"}, "has a # in it"),
        ({"DATABASE_URL": "postgres://u:1?hidden@h/db"}, "names no database"),
        ({"DATABASE_URL": "postgres://u:hidden@h/"}, "names no database"),
        ({"DATABASE_URL": "sqlite://:memory:"}, "not a URL that can be read"),
        ({"WORKORDERS_LOG_LEVEL": "LOUD"}, "'DEBUG', 'INFO'"),
        ({"WORKORDERS_ADMIN_PATH": "no-slash"}, "WORKORDERS_ADMIN_PATH"),
        ({"WORKORDERS_ADMIN_PATH": "/"}, "WORKORDERS_ADMIN_PATH"),
        ({"WORKORDERS_ADMIN_PATH": "<x>/"}, "WORKORDERS_ADMIN_PATH"),
        ({"WORKORDERS_ADMIN_PATH": "api/"}, "is taken"),
        ({"WORKORDERS_HSTS_SECONDS": "-1"}, "WORKORDERS_HSTS_SECONDS"),
        ({"WORKORDERS_HSTS_PRELOAD": "true"}, "WORKORDERS_HSTS_INCLUDE_SUBDOMAINS=true"),
        (
            {
                "WORKORDERS_HSTS_PRELOAD": "true",
                "WORKORDERS_HSTS_INCLUDE_SUBDOMAINS": "true",
                "WORKORDERS_HSTS_SECONDS": "3600",
            },
            "at least 31536000",
        ),
        (
            {"WORKORDERS_AUTH": "none      # on this machine only"},
            "a comment, which belongs on a line of its own",
        ),
        ({"DATABASE_URL": "postgres://u:hidden@h/db "}, "has white space"),
        (
            {"DATABASE_URL": "postgres://u:hidden@h/db # main"},
            "a comment, which belongs on a line of its own",
        ),
        ({"WORKORDERS_LOG_FORMAT": "xml"}, "'console', 'json'"),
    ],
)
def test_wrong_values_fail_with_a_hint(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], hint: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(env.EnvironmentInvalid) as caught:
        fresh.current()
    text = str(caught.value)
    assert hint in text
    assert ".env.example" in text
    assert "hidden" not in text
    for line in text.splitlines():
        if named := re.match(r"  ([A-Z0-9_]+): ", line):
            assert f"(for example {named[1]}=" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://u:p%40%23@h:5432/db?sslmode=require"),
        ("DATABASE_URL", "postgresql:///?service=orders"),
        ("DATABASE_URL", "sqlite:////srv/orders.sqlite3"),
        ("WORKORDERS_AGENT_READ_PATHS", "/opt/tools::/srv/data:"),
        ("WORKORDERS_GITHUB_GIT_BASE_URL", "https://git.example.org:8443/below/"),
        ("WORKORDERS_GITHUB_GIT_BASE_URL", "http://[::1]:3000"),
        ("E2B_API_URL", "http://e2b.internal:3000"),
        ("WORKORDERS_AGENT_BUDGET_USD", "0.01"),
    ],
)
def test_right_values_start(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    fresh.current()


@pytest.mark.parametrize(
    ("variables", "header"),
    [
        ({}, "31536000, False, False"),
        ({"WORKORDERS_HSTS_SECONDS": "60"}, "60, False, False"),
        ({"WORKORDERS_HSTS_INCLUDE_SUBDOMAINS": "true"}, "31536000, True, False"),
        ({"WORKORDERS_HSTS_INCLUDE_SUBDOMAINS": "true", "WORKORDERS_HSTS_PRELOAD": "true"}, "31536000, True, True"),
        ({"WORKORDERS_HSTS_SECONDS": "0", "WORKORDERS_HSTS_INCLUDE_SUBDOMAINS": "true"}, "0, False, False"),
        ({"WORKORDERS_ALLOWED_HOSTS": "localhost"}, "0, False, False"),
    ],
)  # fmt: skip
def test_https_is_promised_for_this_host_alone_unless_told(
    tmp_path: Path, variables: dict[str, str], header: str
) -> None:
    shown = ", ".join(f"settings.SECURE_HSTS_{name}" for name in ("SECONDS", "INCLUDE_SUBDOMAINS", "PRELOAD"))
    ended = subprocess.run(
        [sys.executable, "-c", f"from django.conf import settings; print({shown}, sep=', ')"],
        env={
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "WORKORDERS_SECRET_KEY": "k" * 50,
            "WORKORDERS_DATA_DIR": str(tmp_path),
            "WORKORDERS_ALLOWED_HOSTS": "work-orders.example.org",
            **variables,
        },
        cwd=env.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout == f"{header}\n", ended.stderr


@pytest.mark.parametrize("name", sorted(name for name, field in FIELDS.items() if field.examples))
def test_every_example_would_do(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    [value] = FIELDS[name].examples or []
    monkeypatch.setenv(name, str(EXAMPLE) if name == "WORKORDERS_MODEL_PRICES" else value)  # must be there
    fresh.current()


def test_all_problems_are_told_at_once(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKORDERS_WORKERS", "0")
    monkeypatch.setenv("WORKORDERS_AUTH", "off")
    with pytest.raises(env.EnvironmentInvalid, match=r"(?s)WORKORDERS_AUTH.*WORKORDERS_WORKERS"):
        fresh.current()


@pytest.mark.parametrize(
    ("command", "variables", "hint"),
    [
        ("check", {}, "WORKORDERS_SECRET_KEY is required"),
        ("check", {"WORKORDERS_DATA_DIR": "/etc/passwd"}, "WORKORDERS_DATA_DIR: /etc/passwd cannot be"),
        ("check", {"WORKORDERS_DATA_DIR": "/proc/x"}, "No such file or directory (for example WORKORDERS_DATA_DIR="),
        ("quickstart", {"WORKORDERS_DATA_DIR": "/etc/passwd"}, "it is a file (for example WORKORDERS_DATA_DIR="),
        ("quickstart", {"WORKORDERS_DATA_DIR": "~nobody-of-this-name/x"}, "WORKORDERS_DATA_DIR: begins with a home"),
    ],
)  # fmt: skip
def test_a_wrong_value_stops_the_start_without_a_traceback(
    tmp_path: Path, command: str, variables: dict[str, str], hint: str
) -> None:
    if "WORKORDERS_DATA_DIR" in variables:
        variables = {"WORKORDERS_SECRET_KEY": "k" * 50, **variables}
    ended = subprocess.run(
        [sys.executable, env.BASE_DIR / "manage.py", command],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "WORKORDERS_DATA_DIR": str(tmp_path / "var")}
        | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert hint in ended.stderr
    assert "Traceback" not in ended.stderr


class TestEmbeddedDefaults:
    """What `quickstart` starts with where nothing is set."""

    @pytest.fixture(autouse=True)
    def _bare(self, fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in FIELDS:  # set, so that what the function sets is taken back too
            if name.startswith("WORKORDERS_"):
                monkeypatch.setenv(name, "")
        monkeypatch.setenv("WORKORDERS_DATA_DIR", str(tmp_path / "data"))

    def test_need_no_account_and_stay_on_this_machine(self, fresh: ModuleType, tmp_path: Path) -> None:
        fresh.use_embedded_defaults()
        found = fresh.current()
        assert (found.auth, found.allow_local_repositories) == ("none", True)
        assert set(found.hosts) <= values.LOOPBACK_HOSTS
        assert shlex.split(found.agent_command)[1:] == ["-I", "-S", str(env.REHEARSAL_AGENT)]
        assert found.data_dir == tmp_path / "data"

    def test_keep_their_key_to_themselves(self, fresh: ModuleType, tmp_path: Path) -> None:
        fresh.use_embedded_defaults()
        first = fresh.current().secret_key
        key_file = tmp_path / "data" / "secret_key"
        assert len(first) >= 50
        assert key_file.read_text() == first
        assert key_file.stat().st_mode & 0o077 == 0
        assert key_file.parent.stat().st_mode & 0o077 == 0

    def test_give_way_to_what_is_set(self, fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORKORDERS_AGENT_COMMAND", "claude")
        monkeypatch.setenv("WORKORDERS_LOG_FORMAT", "json")
        fresh.use_embedded_defaults()
        assert (fresh.current().agent_command, fresh.current().log_format) == ("claude", "json")


class TestSecretFiles:
    """`<NAME>_FILE`: the secret comes from a file that only the server's account can read."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        path = tmp_path / "secret"
        path.touch(mode=0o600)
        path.write_text("very-secret-value\n")
        return path

    @pytest.mark.parametrize("name", secret_files.NAMES)
    def test_every_secret_can_come_from_a_file(
        self, fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, secret: Path, name: str
    ) -> None:
        monkeypatch.delenv(name, raising=False)
        if name == "DATABASE_URL":
            secret.write_text("postgres://u:very-secret-value@h/db\n")
        monkeypatch.setenv(f"{name}_FILE", str(secret))
        found = fresh.current()
        fields = {str(field.alias): key for key, field in fresh.Environment.model_fields.items()}
        if name in fields:
            assert getattr(found, fields[name]) == secret.read_text().strip()
        if name.startswith(("ANTHROPIC_", "CLAUDE_")):
            assert found.provider_variables == {name: "very-secret-value"}
        assert "very-secret-value" in {value for _name, value in found.secret_values}

    def test_names_of_all_secret_variables_are_known(self) -> None:
        secret_fields = {name for name, field in FIELDS.items() if field.repr is False}
        assert secret_fields | {"DATABASE_URL"} == set(secret_files.NAMES)

    @pytest.mark.parametrize(
        ("content", "mode", "hint"),
        [
            (b"x", 0o604, "every account can read"),
            (b"x", 0o606, "chmod 600"),
            (b"", 0o600, "holds no secret"),
            (b" \n", 0o600, "holds no secret"),
            (b"a\x00b", 0o600, "holds no secret"),
            (b"\xff\xfe", 0o600, "not text in UTF-8"),
            (b"x" * 70_000, 0o600, "larger than 64 KiB"),
        ],
    )
    def test_files_that_will_not_do(
        self,
        fresh: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        secret: Path,
        content: bytes,
        mode: int,
        hint: str,
    ) -> None:
        secret.write_bytes(content)
        secret.chmod(mode)
        monkeypatch.setenv("GH_TOKEN_FILE", str(secret))
        with pytest.raises(env.EnvironmentInvalid) as caught:
            fresh.current()
        assert "GH_TOKEN_FILE: " in str(caught.value)
        assert hint in str(caught.value)

    def test_what_is_no_file(
        self, fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "fifo", 0o600)
        hints = {"missing": "No such file", ".": "is not a file", "fifo": "is not a file"}
        for name, hint in hints.items():
            monkeypatch.setenv("WORKORDERS_SECRET_KEY", "")
            monkeypatch.setenv("WORKORDERS_SECRET_KEY_FILE", str(tmp_path / name))
            with pytest.raises(env.EnvironmentInvalid) as caught:
                fresh.current()
            assert "WORKORDERS_SECRET_KEY_FILE: " in str(caught.value)
            assert hint in str(caught.value)
            assert "is required" not in str(caught.value)

    def test_one_of_both(self, fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, secret: Path) -> None:
        monkeypatch.setenv("GH_TOKEN", "x")
        monkeypatch.setenv("GH_TOKEN_FILE", str(secret))
        with pytest.raises(env.EnvironmentInvalid, match="GH_TOKEN is set as well"):
            fresh.current()
