"""No command ends in a traceback for what its user did: it says what happened and what to do, and is no success."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from django.core.management import get_commands

from config import command_line
from tests.command_runs import Ended, run_all
from tests.e2e.harness import ROOT, SQLITE_FILE, _migrated_database
from tests.support_postgres import private_postgres

AWAY = "postgres://somebody:s3cretWord@127.0.0.1:1/orders"
UNKNOWN = ("wo-aaaaaaaa", "wo-ü")
IDS = ("wo-aaaaaaaa", "x", "", "../../etc/passwd", "wo-ü", "wo-" + "a" * 5000, "wo-AAAAAAAA", "%s%n")
ON_ONE_ORDER = ("cancel_work_order", "continue_work_order", "retry_work_order", "show_work_order")
SHA = ("--sha", "0" * 40)
WITH_IDS = [
    *[(command, identifier) for command in ON_ONE_ORDER for identifier in UNKNOWN],
    *[("show_work_order", identifier) for identifier in IDS],
    *[("approve_work_order", identifier, *SHA) for identifier in UNKNOWN],
    *[("prune", "--discard-work", identifier) for identifier in UNKNOWN],
    *[("revoke_api_key", identifier) for identifier in IDS],
    *[("create_api_key", "--user", identifier, "--name", "x") for identifier in UNKNOWN],
    *[("changepassword", identifier) for identifier in UNKNOWN],
]
CREATE = ("create_work_order", "--repository", "acme/widgets", "--prompt", "x")
WRONG = [
    ("nosuch",),
    ("cancel_work_order",),
    ("cancel_work_order", "--nosuch", "wo-aaaaaaaa"),
    ("approve_work_order", "wo-aaaaaaaa"),
    ("create_work_order", "--repository", "::", "--prompt", "x"),
    ("create_work_order", "--repository", "", "--prompt", "x"),
    ("create_work_order", "--repository", "/nowhere", "--prompt", "x"),
    *[(*CREATE, option, value) for option, value in (
        ("--workflow", "nosuch"), ("--sandbox", "nosuch"), ("--sandbox", "e2b"), ("--issue", "x"),
        ("--issue", "9" * 5000), ("--base-branch", "..\\"), ("--model", "--"), ("--model", "a b"),
    )],
    *[(*CREATE, "--wait-timeout", value) for value in ("nan", "inf", "-1", "x", "1e400")],
    ("list_work_orders", "--status", "nosuch"),
    ("list_work_orders", "--limit", "0"),
    ("list_work_orders", "--limit", "9" * 5000),
    ("list_work_orders", "--repository", "::"),
    ("create_api_key", "--user", "ada", "--name", "x", "--days", "x"),
    ("create_api_key", "--user", "ada", "--name", "x", "--days", "-1"),
    ("create_api_key", "--user", "ada", "--name", "x", "--days", "9" * 400),
    ("create_api_key", "--user", "ada", "--name", "x", "--scope", "all"),
    ("backup", "/proc/nowhere/x"),
    ("backup", "/"),
    ("backup", ""),
    ("backup", "x" * 300),
    ("backup", "/etc/passwd/x"),
    *[("backup", "--keep", value) for value in ("0", "-1", "x")],
    *[("serve", "--port", value) for value in ("0", "70000", "x", "-1")],
    *[("serve", "--port", "1", "--host", value) for value in ("a..b", "x" * 70 + ".y", "256.1.1.1", "::g")],
    *[("qcluster", "--workers", value) for value in ("0", "x", "100000")],
    *[("model_gateway", "--fd", value) for value in ("99", "-1", "x", "9" * 30, "2")],
    ("model_gateway",),
    ("doctor", "--nosuch"),
    ("recover_work_orders", "nosuch"),
    ("list_api_keys", "nosuch"),
    ("quickstart", "--port", "0"),
    ("migrate", "nosuch"),
    ("migrate", "workorders", "9999"),
    ("migrate", "--database", "nosuch"),
    ("loaddata", "nosuch"),
    ("loaddata", "broken.json"),
    ("loaddata", "foreign.json"),
    ("dumpdata", "nosuch"),
    ("createsuperuser", "--noinput"),
    ("check", "nosuch"),
    ("check", "--tag", "nosuch"),
    ("sqlmigrate", "workorders", "9999"),
    ("collectstatic", "--nosuch"),
]  # fmt: skip
ASKING_THE_DATABASE = [
    ("list_work_orders",),
    ("list_api_keys",),
    ("show_work_order", "wo-aaaaaaaa"),
    ("cancel_work_order", "wo-aaaaaaaa"),
    CREATE,
    ("create_api_key", "--user", "ada", "--name", "x"),
    ("revoke_api_key", "wok_aaaaaaaa"),
    ("prune",),
    ("recover_work_orders",),
    ("serve", "--port", "1"),
    ("qcluster",),
    ("createsuperuser", "--noinput", "--username", "ada", "--email", "a@b.org"),
    ("changepassword", "ada"),
    ("axes_reset_username", "ada"),
    ("clearsessions",),
    ("dumpdata", "auth"),
]


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "WORKORDERS_SECRET_KEY": "aZ3-k9_" * 10,
        "WORKORDERS_DATA_DIR": str(folder / "data"),
        **more,
    }


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """A folder with a data folder in it whose database is ready."""
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy(_migrated_database(), tmp_path / "data" / SQLITE_FILE)
    return tmp_path


def told_off(ended: Ended) -> bool:
    """In words, and not as a success; argparse says its own usage first."""
    words = [line for line in ended.err.splitlines() if not line.startswith("Database: ")]
    is_short = len(words) <= 4 or words[0].startswith("usage: ")
    return ended.code not in (0, 99) and "Traceback" not in ended.err and bool(words) and is_short


def test_what_its_user_did(migrated: Path) -> None:
    (migrated / "broken.json").write_text("[{")
    (migrated / "foreign.json").write_text('[{"model": "workorders.apikey", "pk": 1, "fields": {"user": 9}}]')
    ended = run_all([*WITH_IDS, *WRONG], environment(migrated), migrated)
    assert [one for one in ended if not told_off(one)] == []
    named = {one.argv[0] for one in ended}
    assert {name for name, app in get_commands().items() if app == "workorders"} <= named


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    lines = [*ASKING_THE_DATABASE, ("migrate",), ("showmigrations",), ("backup",), ("flush", "--noinput")]
    ended = run_all(lines, environment(tmp_path, DATABASE_URL=AWAY), tmp_path)
    assert [one for one in ended if not told_off(one)] == []
    assert not [one for one in ended if "s3cretWord" in one.out + one.err]
    said = {one.argv[0]: one.err for one in ended}
    assert "does not answer" in said["migrate"]
    assert "Check DATABASE_URL" in said["createsuperuser"]


@pytest.mark.parametrize("part", ["password", "role", "name"])
def test_a_database_that_refuses(tmp_path: Path, postgres_url: str, part: str) -> None:
    with private_postgres() as server:
        if part == "password":
            server.demand_passwords()
        url = {
            "password": server.url.replace("workorders@", "workorders:wr0ngWord@"),
            "role": server.url.replace("workorders@", "nobody@"),
            "name": f"{server.url}x",
        }[part]
        lines = [
            ("migrate",),
            ("createsuperuser", "--noinput", "--username", "ada", "--email", "a@b.org"),
            ("backup",),
        ]
        ended = run_all([*lines, ("list_work_orders",)], environment(tmp_path, DATABASE_URL=url), tmp_path)
    assert [one for one in ended if not told_off(one)] == []
    assert not [one for one in ended if "wr0ngWord" in one.err]


def test_a_database_without_tables(tmp_path: Path) -> None:
    ended = run_all(ASKING_THE_DATABASE, environment(tmp_path), tmp_path)
    assert [one for one in ended if not told_off(one)] == []
    assert {one.argv[0] for one in ended if "manage.py migrate" not in one.err} == {"dumpdata"}


@pytest.mark.parametrize("content", [b"no database at all" * 300, b""])
def test_a_database_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / SQLITE_FILE).write_bytes(content)
    ended = run_all(
        [("list_work_orders",), ("createsuperuser", "--noinput")], environment(tmp_path), tmp_path
    )
    assert [one for one in ended if not told_off(one)] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_data_folder_that_cannot_be_written(migrated: Path) -> None:
    own, folder = 12345, migrated / "data"
    temporary = Path(tempfile.gettempdir())
    for way in (migrated, *(way for way in migrated.parents if temporary in way.parents)):
        way.chmod(0o755)
    for path in (folder, folder / SQLITE_FILE):
        os.chown(path, own, own)
    folder.chmod(0o500)
    lines = [
        ("backup",),
        CREATE,
        ("prune",),
        ("migrate",),
        ("recover_work_orders",),
        ("quickstart", "--port", "1"),
    ]
    ended = run_all(lines, environment(migrated), migrated, uid=own)
    assert [one for one in ended if not told_off(one)] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("is_root", [True, False])
def test_a_data_folder_of_another_account(migrated: Path, is_root: bool) -> None:
    folder = migrated / "data"
    temporary = Path(tempfile.gettempdir())
    for way in (migrated, *(way for way in migrated.parents if temporary in way.parents)):
        way.chmod(0o755)
    for path in (folder, folder / SQLITE_FILE):
        os.chown(path, 12345, 12345)
    lines = [
        ("backup",),
        CREATE,
        ("prune",),
        ("migrate",),
        ("list_work_orders",),
        ("quickstart",),
        ("serve",),
    ]
    ended = run_all(lines, environment(migrated), migrated, uid=0 if is_root else 23456)
    assert [one for one in ended if not told_off(one)] == []
    assert not [one for one in ended if "belongs to 12345" not in one.err]
    assert [path.name for path in folder.rglob("*")] == [SQLITE_FILE]
    helps = run_all([("backup", "--help"), ("check",), ("version",)], environment(migrated), migrated)
    assert [one.code for one in helps] == [0, 0, 0]


def test_what_changes_something_says_where(migrated: Path) -> None:
    lines = [
        ("createsuperuser", "--noinput", "--username", "ada", "--email", "a@b.org"),
        ("create_api_key", "--user", "ada", "--name", "x", "--json"),
        ("list_api_keys", "--json"),
        ("backup", "--help"),
    ]
    user, key, keys, helped = run_all(lines, environment(migrated), migrated)
    where = f"Database: SQLite {migrated}/data/{SQLITE_FILE}. Data folder: {migrated}/data.\n"
    assert (user.code, user.err.startswith(where)) == (0, True)
    assert (key.code, key.err.startswith(where), next(iter(json.loads(key.out)))) == (0, True, "key")
    assert (keys.code, keys.err) == (0, "")
    assert (helped.code, helped.err) == (0, "")


def test_each_command_of_ours_is_known_to_change_something_or_not() -> None:
    reading = {"show_work_order", "list_work_orders", "list_api_keys", "doctor", "model_gateway"}
    ours = {name for name, app in get_commands().items() if app == "workorders"}
    assert ours - reading - command_line.SERVING == ours & command_line.CHANGING


def test_what_commands_make_is_for_their_account_only(tmp_path: Path) -> None:
    lines = [
        ("migrate", "-v0"),
        ("backup",),
        ("createsuperuser", "--noinput", "--username", "ada", "--email", "a@b.org"),
        ("list_work_orders",),
        (*CREATE[:2], str(ROOT), "--prompt", "x"),
        ("prune",),
        ("dumpdata", "auth", "--output", str(tmp_path / "data" / "export.json")),
    ]
    more = {"WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true"}
    before = os.umask(0o022)
    try:
        ended = run_all(lines, environment(tmp_path, **more), tmp_path)
    finally:
        os.umask(before)
    assert [one for one in ended if one.code] == []
    made = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert len(made) > 5
    assert [path for path in made if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("{} | true", "Nobody reads the output"),
        ("{} >&-", "could not be written"),
        ("{} >/dev/full", "No space left"),
        ("{} 2>&- >/dev/full", ""),
        ("{} <&- >&- 2>&-", ""),
    ],
)
def test_an_output_that_is_closed(migrated: Path, shell: str, words: str) -> None:
    command = f"{sys.executable} {ROOT / 'manage.py'} list_work_orders"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell.format(command)],
        env=environment(migrated),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
    assert words in ended.stderr


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.0])
@pytest.mark.parametrize(
    "arguments", [("backup",), ("createsuperuser",), (*CREATE, "--wait"), ("serve", "--port=0")]
)
def test_ctrl_c_at_any_moment(migrated: Path, arguments: tuple[str, ...], seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env=environment(migrated),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in out + err
    assert process.returncode in {0, 1, 2, 130}


def test_ctrl_c_that_is_swallowed_ends_a_command_all_the_same() -> None:
    """Python ignores what is raised in a callback, such as one of a weak reference."""
    program = (
        "import signal, time\n"
        "from config import command_line\n"
        "command_line._GOODBYE_SECONDS = 1\n"
        "signal.signal(signal.SIGINT, command_line._interrupt)\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
        "time.sleep(30)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "Interrupted.\n")


def test_an_argument_that_is_no_text(migrated: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "show_work_order", b"wo-\xff"],
        env=environment(migrated),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (1, "An argument is not text in UTF-8; type it again.\n")


def test_settings_that_are_not_there(migrated: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "check", "--settings=nosuch"],
        env=environment(migrated),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("There are no settings 'nosuch'.")
