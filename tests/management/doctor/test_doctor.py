"""`doctor` and the system checks, over real programs that work, lie, hang or are missing."""

import json
import os
import shlex
import stat
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from config.env import BASE_DIR, REHEARSAL_AGENT
from config.value_shapes import odd_values
from github_app.gh import GhCli, GhSettings
from sandboxes import checks as sandbox_checks
from sandboxes.findings import Finding, Mark, ok
from sandboxes.processes.isolation import IsolationSettings
from tests.fakes.github import FakeGitHub
from tests.support import require_program
from workorders.management.doctor import diagnosis, installation
from workorders.management.doctor.diagnosis import Check, examine
from workorders.management.doctor.github import check_github
from workorders.model_gateway.prices import load_prices
from workorders.models import WorkerProcess
from workorders.workflow_engine.claims.workers import record_beat

TOKEN = "ghp_thisIsTheTokenOfTheTests0123456789"
SYSTEM_PATH = os.environ["PATH"]


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a shell script and returns the PATH it is first on."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def write(name: str, script: str) -> str:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return f"{folder}:/usr/bin:/bin"

    return write


def only(found: list[Finding], name: str) -> Finding:
    matching = [finding for finding in found if finding.name == name]
    assert len(matching) == 1, found
    return matching[0]


def stop_clock(patch: pytest.MonkeyPatch, day: date) -> None:
    """At noon of that day."""
    patch.setattr(timezone, "now", lambda: datetime.combine(day, clock_time(12), UTC))


class TestGit:
    def test_the_real_one(self) -> None:
        assert sandbox_checks.check_git(SYSTEM_PATH).mark is Mark.OK

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("echo git version 2.30.2", "too old"),
            ("echo git version 1.99.0", "too old"),
            ("echo hello", "does not tell its version"),
            ("exit 3", "does not tell its version"),
        ],
    )
    def test_unusable_ones(self, program: Callable[[str, str], str], script: str, words: str) -> None:
        found = sandbox_checks.check_git(program("git", script))
        assert found.mark is Mark.FAILED
        assert words in found.message
        assert "2.38" in found.hint

    def test_missing(self, tmp_path: Path) -> None:
        found = sandbox_checks.check_git(str(tmp_path))
        assert (found.mark, "apt-get install git" in found.hint) == (Mark.FAILED, True)


class TestIsolation:
    def test_the_real_one_works_here(self) -> None:
        require_program("bwrap")
        assert sandbox_checks.check_isolation(IsolationSettings("bubblewrap")).mark is Mark.OK

    def test_none_is_a_warning(self) -> None:
        found = sandbox_checks.check_isolation(IsolationSettings("none"))
        assert (found.mark, "bubblewrap" in found.hint) == (Mark.WARNING, True)

    def test_missing(self, tmp_path: Path) -> None:
        found = sandbox_checks.check_isolation(IsolationSettings("bubblewrap", search_path=str(tmp_path)))
        assert (found.mark, "apt-get install bubblewrap" in found.hint) == (Mark.FAILED, True)

    def test_forbidden_namespaces_are_named(self, program: Callable[[str, str], str]) -> None:
        words = "bwrap: No permissions to create new namespace"
        path = program("bwrap", f"echo {shlex.quote(words)} >&2; exit 1")
        found = sandbox_checks.check_isolation(IsolationSettings("bubblewrap", search_path=path))
        assert found.mark is Mark.FAILED
        assert words in found.message
        assert "user namespaces" in found.hint.lower()

    @pytest.mark.parametrize("uid", [0, 1000])
    def test_kernel_switches_are_named_to_ordinary_accounts(
        self, monkeypatch: pytest.MonkeyPatch, uid: int
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        monkeypatch.setattr(sandbox_checks, "_kernel_switch", lambda name: "1" if "apparmor" in name else "")
        hint = sandbox_checks._namespace_hint()
        assert ("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in hint) is (uid != 0)


class TestAgent:
    def test_the_rehearsal_agent_starts_in_and_outside_isolation(self) -> None:
        require_program("bwrap")
        argv = (sys.executable, "-I", "-S", str(REHEARSAL_AGENT))
        isolation = IsolationSettings("bubblewrap", search_path=SYSTEM_PATH)
        assert sandbox_checks.check_agent_program(argv, SYSTEM_PATH).mark is Mark.OK
        assert sandbox_checks.check_agent_in_isolation(argv, isolation).mark is Mark.OK

    def test_claude_starts_in_and_outside_isolation(self) -> None:
        require_program("bwrap")
        require_program("claude")
        isolation = IsolationSettings("bubblewrap", search_path=SYSTEM_PATH)
        found = sandbox_checks.check_agent_program(("claude",), SYSTEM_PATH)
        assert found.mark is Mark.OK, found
        assert "Claude Code" in found.message
        assert sandbox_checks.check_agent_in_isolation(("claude",), isolation).mark is Mark.OK

    def test_missing_says_how_to_get_it(self, tmp_path: Path) -> None:
        found = sandbox_checks.check_agent_program(("claude",), str(tmp_path))
        assert (found.mark, "npm install -g @anthropic-ai/claude-code" in found.hint) == (Mark.FAILED, True)
        other = sandbox_checks.check_agent_program(("my-agent",), str(tmp_path))
        assert "WORKORDERS_AGENT_COMMAND" in other.hint

    def test_sees_nothing_of_the_servers_environment(
        self, program: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GH_TOKEN", TOKEN)
        path = program(
            "agent", "env | cut -d= -f1 | sort | tr '\\n' ' '; echo; test ! -e \"$HOME/.gitconfig\""
        )
        found = sandbox_checks.check_agent_program(("agent",), path)
        assert found.mark is Mark.OK
        assert "HOME" in found.message
        assert "GH_TOKEN" not in found.message

    def test_one_that_hangs_is_ended(
        self, program: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sandbox_checks, "AGENT_SECONDS", 0.3)
        path = program("agent", "sleep 30")
        started = time.monotonic()
        found = sandbox_checks.check_agent_program(("agent",), path)
        assert (found.mark, "did not end" in found.message) == (Mark.FAILED, True)
        assert time.monotonic() - started < 10

    @pytest.mark.parametrize(
        ("name", "code", "mark"),
        [("claude", 1, Mark.FAILED), ("agent", 127, Mark.FAILED), ("agent", 1, Mark.WARNING)],
    )
    def test_one_that_fails_is_quoted(
        self, program: Callable[[str, str], str], name: str, code: int, mark: Mark
    ) -> None:
        path = program(name, f"echo 'its native binary is not installed' >&2; exit {code}")
        found = sandbox_checks.check_agent_program((name,), path)
        assert (found.mark, "native binary" in found.message) == (mark, True)

    def test_script_that_does_not_exist(self, tmp_path: Path) -> None:
        found = sandbox_checks.check_agent_program((sys.executable, str(tmp_path / "agent.py")), SYSTEM_PATH)
        assert (found.mark, "does not exist" in found.message) == (Mark.FAILED, True)

    @pytest.mark.parametrize("argv", [("/nowhere/agent",), (sys.executable, "/nowhere/agent.py")])
    def test_a_missing_one_is_not_tried_in_isolation(self, argv: tuple[str, ...]) -> None:
        found = sandbox_checks.check_agent_in_isolation(argv, IsolationSettings("bubblewrap"))
        assert (found.mark, found.message.startswith(f"Not tried: {argv[-1]}")) == (Mark.WARNING, True)

    def test_one_that_cannot_start_is_no_defect(self, tmp_path: Path) -> None:
        require_program("bwrap")
        agent = tmp_path / "agent"
        agent.write_text("#!/nowhere/interpreter\n")
        agent.chmod(0o755)
        found = sandbox_checks.check_agent_in_isolation((str(agent),), IsolationSettings("bubblewrap"))
        assert (found.mark, "does not start inside" in found.message) == (Mark.FAILED, True)

    def test_one_without_a_version_is_no_matter_of_isolation(self, tmp_path: Path) -> None:
        require_program("bwrap")
        script = tmp_path / "agent.py"
        script.write_text("raise SystemExit(1)\n")
        isolation = IsolationSettings("bubblewrap", search_path=SYSTEM_PATH)
        found = sandbox_checks.check_agent_in_isolation((sys.executable, str(script)), isolation)
        assert found.mark is Mark.OK

    def test_one_that_isolation_hides_is_named(self, tmp_path: Path) -> None:
        require_program("bwrap")
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "part").write_text("")
        agent = tmp_path / "bin" / "agent"
        agent.parent.mkdir()
        elsewhere = BASE_DIR / "manage.py"
        agent.write_text(f"#!/bin/sh\ncat {elsewhere} >/dev/null && echo version 1\n")
        agent.chmod(0o755)
        isolation = IsolationSettings("bubblewrap", search_path="/usr/bin:/bin")
        assert sandbox_checks.check_agent_program((str(agent),), "/usr/bin:/bin").mark is Mark.OK
        found = sandbox_checks.check_agent_in_isolation((str(agent),), isolation)
        assert found.mark is Mark.FAILED
        assert "WORKORDERS_AGENT_READ_PATHS" in found.hint
        helped = replace(isolation, read_paths=(BASE_DIR,))
        assert sandbox_checks.check_agent_in_isolation((str(agent),), helped).mark is Mark.OK

    @pytest.mark.parametrize(
        ("command", "given", "other", "mark"),
        [
            (("claude",), {}, "", Mark.FAILED),
            (("/opt/tools/claude",), {}, "", Mark.FAILED),
            (("claude",), {"api_key": "k"}, "", Mark.OK),
            (("claude",), {"oauth_token": "k"}, "", Mark.OK),
            (("claude",), {"api_key": "k"}, "CLAUDE_CODE_USE_BEDROCK", Mark.FAILED),
            (("python", "agent.py"), {}, "CLAUDE_CODE_USE_BEDROCK", Mark.WARNING),
            (("python", "agent.py"), {}, "", Mark.OK),
        ],
    )
    def test_model_credential(
        self, settings: LazySettings, command: tuple[str, ...], given: dict[str, str], other: str, mark: Mark
    ) -> None:
        settings.WORKORDERS_AGENT_COMMAND = command
        settings.WORKORDERS_MODEL_CREDENTIALS = given
        settings.WORKORDERS_MODEL_CUSTOM_HEADERS = ""
        settings.WORKORDERS_MODEL_OTHER_PROVIDER = other
        found = diagnosis.model_credential()
        assert found.mark is mark
        assert not other or "LiteLLM" in found.hint

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        ("days", "mark"), [(-1, Mark.OK), (0, Mark.OK), (120, Mark.OK), (121, Mark.WARNING)]
    )
    def test_the_age_of_the_price_list(
        self, settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, mark: Mark
    ) -> None:
        """Told to who runs the server, and by a clock of the test: an old checkout is no failure of its tests."""
        settings.WORKORDERS_MODEL_PRICES = tmp_path / "own.json"
        settings.WORKORDERS_MODEL_PRICES.write_text('{"models": {"mine": {"input": 1, "output": 2}}}')
        made = load_prices().listed.generated
        stop_clock(monkeypatch, made + timedelta(days=days))
        found = only(diagnosis.model_gateway(), "model prices")
        assert found.mark is mark
        for words in ("genai-prices", str(made), "1 of your own", "own.json"):
            assert words in found.message
        assert ("121 days old" in found.message) is (mark is Mark.WARNING)
        assert ("WORKORDERS_MODEL_PRICES" in found.hint) is (mark is Mark.WARNING)

    @pytest.mark.django_db
    def test_model_gateway(
        self, settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            stop_clock(patch, load_prices().listed.generated)
            assert [finding.mark for finding in diagnosis.model_gateway()] == [Mark.OK, Mark.OK]
        record_beat(
            "me", share=1, running=0, started_at=timezone.now(), gateway=("http://127.0.0.1:9", "down")
        )
        settings.WORKORDERS_MODEL_PRICES = tmp_path / "missing.json"
        gateway, prices = diagnosis.model_gateway()
        assert (gateway.mark, prices.mark) == (Mark.FAILED, Mark.FAILED)
        assert "127.0.0.1:9" in gateway.message


def test_what_is_done_with_submodules_and_lfs(settings: LazySettings) -> None:
    found = diagnosis.submodules_and_lfs()
    assert found.mark is Mark.OK
    assert "submodules on github.com, up to 1024 MB" in found.message
    assert (
        "Git LFS of the repository's own endpoint, up to 1024 MB; contents also from github-cloud."
        in found.message
    )
    settings.WORKORDERS_SUBMODULES_MAX_BYTES = settings.WORKORDERS_LFS_MAX_BYTES = 0
    words = diagnosis.submodules_and_lfs().message
    assert "no submodule (WORKORDERS_SUBMODULES_MAX_MB=0); no Git LFS (WORKORDERS_LFS_MAX_MB=0)" in words


class TestGitHub:
    @pytest.fixture
    def gh(self, tmp_path: Path) -> GhSettings:
        require_program("gh")
        return GhSettings(
            host="github.com", token=TOKEN, home=tmp_path, search_path=SYSTEM_PATH, timeout_seconds=5
        )

    def test_a_good_token(self, gh: GhSettings) -> None:
        with FakeGitHub() as fake:
            fake.add_token(TOKEN)
            client = GhCli(replace(gh, config_dir=fake.gh_config_dir))
            found = check_github(client, search_path=SYSTEM_PATH, expected=True)
        assert {finding.mark for finding in found} == {Mark.OK}
        assert "logged in as" in only(found, "GitHub login").message

    @pytest.mark.parametrize(("expected", "mark"), [(True, Mark.FAILED), (False, Mark.WARNING)])
    def test_a_bad_token(self, gh: GhSettings, expected: bool, mark: Mark) -> None:
        with FakeGitHub() as fake:
            client = GhCli(replace(gh, config_dir=fake.gh_config_dir))
            found = only(check_github(client, search_path=SYSTEM_PATH, expected=expected), "GitHub login")
        assert (found.mark, "GH_TOKEN" in found.hint) == (mark, True)
        assert TOKEN not in found.message

    @pytest.mark.parametrize(("expected", "mark"), [(True, Mark.FAILED), (False, Mark.WARNING)])
    def test_missing_program(self, tmp_path: Path, gh: GhSettings, expected: bool, mark: Mark) -> None:
        found = check_github(GhCli(gh), search_path=str(tmp_path), expected=expected)
        assert [(finding.name, finding.mark) for finding in found] == [("gh", mark)]
        assert "https://cli.github.com" in found[0].hint

    @pytest.mark.parametrize(
        ("local", "token", "mark"), [(True, "", Mark.WARNING), (True, "t", Mark.FAILED), (False, "", Mark.FAILED)]
    )  # fmt: skip
    def test_is_required_unless_only_local_repositories_are_meant(
        self, settings: LazySettings, tmp_path: Path, local: bool, token: str, mark: Mark
    ) -> None:
        settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES = local
        settings.GH_TOKEN = token
        settings.WORKORDERS_PATH = str(tmp_path)
        assert {finding.mark for finding in diagnosis.github()} == {mark}


class TestDataFolder:
    def test_is_made_private(self, tmp_path: Path) -> None:
        found = sandbox_checks.check_data_folder(tmp_path / "a" / "var")
        assert only(found, "data folder").mark is Mark.OK
        assert only(found, "data folder permissions").mark is Mark.OK
        assert stat.S_IMODE((tmp_path / "a" / "var").stat().st_mode) == 0o700
        assert list((tmp_path / "a" / "var").iterdir()) == []

    def test_open_to_others(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o750)
        found = only(sandbox_checks.check_data_folder(tmp_path), "data folder permissions")
        assert (found.mark, f"chmod 700 {tmp_path}" in found.hint) == (Mark.WARNING, True)

    def test_not_writable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        found = sandbox_checks.check_data_folder(tmp_path / "file" / "var")
        assert [finding.mark for finding in found] == [Mark.FAILED]
        assert "WORKORDERS_DATA_DIR" in found[0].hint

    @pytest.mark.parametrize(
        ("free", "mark"), [(1, Mark.FAILED), (1024**3, Mark.WARNING), (100 * 1024**3, Mark.OK)]
    )
    def test_free_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, mark: Mark) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(free, 0, free))
        assert only(sandbox_checks.check_data_folder(tmp_path), "disk space").mark is mark


class TestInstallation:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_whose_files_are_whose(self, settings: LazySettings, tmp_path: Path) -> None:
        settings.WORKORDERS_DATA_DIR = tmp_path
        assert [finding.mark for finding in installation.account()] == [Mark.OK]
        for name in ("backups", "logs/agent_work_orders/2026-01-01"):
            (tmp_path / name).mkdir(parents=True)
        os.chown(tmp_path / "backups", 12345, 12345)
        os.chown(tmp_path / "logs" / "agent_work_orders" / "2026-01-01", 12345, 12345)
        found = only(installation.account(), "data folder owners")
        assert found.mark is Mark.FAILED
        assert "backups, logs/agent_work_orders/2026-01-01 do not belong to root" in found.message
        assert found.hint == f"Give them back: chown -R root: {tmp_path}"
        os.chown(tmp_path, 12345, 12345)
        found = only(installation.account(), "account")
        assert (found.mark, "belongs to 12345" in found.message) == (Mark.FAILED, True)
        assert [finding.mark for finding in diagnosis.database()] == [Mark.WARNING]

    def test_values_that_look_wrong(self, settings: LazySettings) -> None:
        settings.WORKORDERS_ODD_VALUES = []
        assert [finding.mark for finding in installation.values()] == [Mark.OK]
        settings.WORKORDERS_ODD_VALUES = odd_values({"WORKORDERS_SECRET_KEY": "abc", "GH_TOKEN": "hunter2"})
        assert [(finding.name, finding.mark) for finding in installation.values()] == [
            ("GH_TOKEN", Mark.WARNING),
            ("WORKORDERS_SECRET_KEY", Mark.FAILED),
        ]

    def test_static_files_that_nobody_collected(
        self, settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.STATIC_ROOT = tmp_path / "none"
        assert installation.static_files().mark is Mark.OK  # `serve` does it
        monkeypatch.setattr(os, "access", lambda *_: False)
        found = installation.static_files()
        assert (found.mark, "collectstatic --noinput" in found.hint) == (Mark.WARNING, True)


@pytest.mark.django_db
class TestDatabase:
    def test_answers_and_is_migrated(self) -> None:
        found = diagnosis.database()
        assert only(found, "database").mark is Mark.OK
        assert only(found, "migrations").mark is Mark.OK

    def test_missing_migrations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        planned = "django.db.migrations.executor.MigrationExecutor.migration_plan"
        monkeypatch.setattr(planned, lambda *_: [("one", False)])
        found = only(diagnosis.database(), "migrations")
        assert (found.mark, "manage.py migrate" in found.hint) == (Mark.FAILED, True)

    def test_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def away() -> None:
            raise OperationalError("connection refused\nIs the server running?")

        monkeypatch.setattr(connection, "cursor", away)
        found = diagnosis.database()
        assert [finding.mark for finding in found] == [Mark.FAILED]
        assert "DATABASE_URL" in found[0].hint
        assert "Is the server" not in found[0].message

    @pytest.mark.parametrize(
        ("version", "mark"), [((3, 40, 1), Mark.WARNING), ((3, 51, 2), Mark.WARNING), ((3, 51, 3), Mark.OK)]
    )
    def test_sqlite_version(self, version: tuple[int, ...], mark: Mark) -> None:
        assert diagnosis._sqlite_version(version, "it").mark is mark

    def test_workers_are_counted_and_never_a_failure(self) -> None:
        assert only(diagnosis.database(), "workers").message.startswith("none at work")
        now = timezone.now()
        WorkerProcess.objects.create(
            name="host:1:1", host="host", version="0", share=2, started_at=now, last_beat_at=now
        )
        assert only(diagnosis.database(), "workers").message.startswith("1 at work")

    def test_somebody_can_sign_in(self, settings: LazySettings) -> None:
        assert only(diagnosis.database(), "sign-in").mark is Mark.OK
        settings.WORKORDERS_AUTH = "required"
        found = only(diagnosis.database(), "sign-in")
        assert found.mark is Mark.WARNING
        assert "createsuperuser" in found.hint
        User.objects.create_user("ann")
        assert "1 account" in only(diagnosis.database(), "sign-in").message


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "identifier"),
        [
            ({"WORKORDERS_AUTH": "none", "LOOPBACK_ONLY": False}, "workorders.E001"),
            ({"WORKORDERS_AGENT_ISOLATION": "none", "DEBUG": False}, "workorders.W001"),
            ({"WORKORDERS_AGENT_READ_PATHS": (BASE_DIR, Path("/nowhere"))}, "workorders.W005"),
            ({"WORKORDERS_LEASE_SECONDS": 3}, "workorders.W003"),
            ({"WORKORDERS_AGENT_SILENCE_SECONDS": 7200}, "workorders.W004"),
            ({"Q_CLUSTER": {"retry": 60, "timeout": 60}}, "workorders.E002"),
        ],
    )
    def test_each_is_told_with_a_hint(
        self, settings: LazySettings, changes: dict[str, Any], identifier: str
    ) -> None:
        settings.WORKORDERS_AGENT_ISOLATION = "bubblewrap"
        before = {message.id for message in run_checks(tags=["workorders"])}
        for name, value in changes.items():
            setattr(settings, name, value)
        found = {message.id: message for message in run_checks(tags=["workorders"])}
        assert set(found) - before == {identifier}
        assert found[identifier].hint

    def test_open_data_folder(self, settings: LazySettings, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        settings.WORKORDERS_DATA_DIR = tmp_path
        assert "workorders.W002" in {message.id for message in run_checks(tags=["workorders"])}

    def test_missing_data_folder_is_no_problem(self, settings: LazySettings, tmp_path: Path) -> None:
        settings.WORKORDERS_DATA_DIR = tmp_path / "none"
        assert "workorders.W002" not in {message.id for message in run_checks(tags=["workorders"])}

    def test_are_not_known_without_a_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def away() -> None:
            raise OperationalError("unable to open database file")

        monkeypatch.setattr(diagnosis, "run_checks", away)
        [found] = diagnosis.settings_findings()
        assert (found.mark, "not known" in found.message) == (Mark.OK, True)

    @pytest.mark.parametrize(("changes", "mark"), [({}, Mark.OK), ({"retry": 10}, Mark.FAILED)])
    def test_queue(self, settings: LazySettings, changes: dict[str, int], mark: Mark) -> None:
        settings.Q_CLUSTER = {**settings.Q_CLUSTER, **changes}
        assert diagnosis.queue_settings().mark is mark

    def test_sandbox_types_and_what_keeps_the_others(self) -> None:
        (found,) = diagnosis.sandbox_types()
        assert found.mark is Mark.OK
        assert "e2b needs E2B_API_KEY" in found.message


class TestExamination:
    def test_keeps_the_order_and_goes_on_after_a_broken_check(self) -> None:
        def broken() -> Finding:
            raise LookupError("oops")

        found = examine(
            [
                Check("slow", lambda: ok("slow", "fine"), in_background=True),
                Check("broken", broken),
                Check("last", lambda: [ok("last", "fine"), ok("really last", "fine")]),
            ]
        )
        assert [finding.name for finding in found] == ["slow", "broken", "last", "really last"]
        assert (found[1].mark, "LookupError: oops" in found[1].message) == (Mark.FAILED, True)

    def test_does_not_wait_for_one_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(diagnosis, "TOTAL_SECONDS", 0.1)
        found = examine([Check("hangs", lambda: time.sleep(1) or ok("hangs", ""), in_background=True)])  # type: ignore[func-returns-value]  # sleep's None leads on to `ok`
        assert (found[0].mark, "No answer" in found[0].message) == (Mark.FAILED, True)

    @pytest.mark.parametrize(("mark", "code"), [(Mark.OK, None), (Mark.WARNING, None), (Mark.FAILED, 1)])
    def test_exit_code_and_json(self, monkeypatch: pytest.MonkeyPatch, mark: Mark, code: int | None) -> None:
        finding = Finding("thing", mark, "what is", "what to do" if mark is not Mark.OK else "")
        monkeypatch.setattr("workorders.management.commands.doctor.examine", lambda: [finding])
        for arguments in ([], ["--json"]):
            out = StringIO()
            if code is None:
                call_command("doctor", *arguments, stdout=out)
            else:
                with pytest.raises(SystemExit) as ended:
                    call_command("doctor", *arguments, stdout=out)
                assert ended.value.code == code
        report = json.loads(out.getvalue())
        assert report == {
            "ok": code is None,
            "findings": [{"name": "thing", "mark": mark, "message": "what is", "hint": finding.hint}],
        }

    def test_prints_a_sign_for_each_and_a_hint_below(self, monkeypatch: pytest.MonkeyPatch) -> None:
        findings = [
            ok("a", "fine"),
            Finding("bb", Mark.WARNING, "hm", "look"),
            Finding("c", Mark.FAILED, "no", "do"),
        ]
        monkeypatch.setattr("workorders.management.commands.doctor.examine", lambda: findings)
        out = StringIO()
        with pytest.raises(SystemExit):
            call_command("doctor", stdout=out)
        lines = out.getvalue().splitlines()
        assert lines[:5] == ["✓ a   fine", "! bb  hm", "      → look", "✗ c   no", "      → do"]
        assert "1 to put right" in lines[-1]


def run_manage(tmp_path: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, BASE_DIR / "manage.py", *arguments],
        env={"PATH": SYSTEM_PATH, "HOME": str(tmp_path), "WORKORDERS_DATA_DIR": str(tmp_path / "var"), **variables},
        capture_output=True,
        text=True,
        timeout=90,
    )  # fmt: skip


def test_the_real_command(tmp_path: Path) -> None:
    for name in ("git", "bwrap", "gh"):
        require_program(name)
    with FakeGitHub() as github:
        github.add_token(TOKEN)
        variables = {
            "WORKORDERS_SECRET_KEY": "k" * 50,
            "WORKORDERS_AGENT_COMMAND": shlex.join([sys.executable, str(REHEARSAL_AGENT)]),
            "GH_TOKEN": TOKEN,
            "GH_CONFIG_DIR": str(github.gh_config_dir),
        }
        before = run_manage(tmp_path, "doctor", "--json", **variables)
        run_manage(tmp_path, "migrate", **variables)
        after = run_manage(tmp_path, "doctor", **variables)
    assert before.returncode == 1, before.stderr
    failures = [item["name"] for item in json.loads(before.stdout)["findings"] if item["mark"] == "failed"]
    assert failures == ["migrations"]
    assert after.returncode == 0, after.stdout + after.stderr
    assert "Work orders can run here." in after.stdout


def test_deployment_check_is_clean_in_production(tmp_path: Path) -> None:
    ended = run_manage(
        tmp_path,
        *("check", "--deploy", "--fail-level", "WARNING"),
        WORKORDERS_SECRET_KEY="aZ3-k9_" * 10,
        WORKORDERS_ALLOWED_HOSTS="example.org",
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no issues" in ended.stdout
