"""Commands end with what to do where the database has not the tables they need, or does not answer."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError
from django.db import OperationalError
from django.db.migrations.executor import MigrationExecutor

from config.env import BASE_DIR
from tests.e2e.conftest import fresh_postgres
from workorders.management.database import DatabaseCommand

# `doctor` tells it among its findings, `quickstart` migrates, `backup` comes before the migration of an upgrade,
# and whoever starts `model_gateway` has asked.
WITHOUT = {"backup", "doctor", "model_gateway", "quickstart"}
COMMANDS = {name for name, app in get_commands().items() if app == "workorders"}
ORDER = "wo-aaaaaaaa"
NO_TABLES = "CommandError: The database has no tables yet. Run `uv run manage.py migrate`.\n"


def test_every_command_that_needs_the_tables_asks_for_them() -> None:
    commands = {name: load_command_class("workorders", name) for name in COMMANDS}
    asking = {
        name
        for name, command in commands.items()
        if isinstance(command, DatabaseCommand) and command.requires_migrations_checks
    }
    assert asking == COMMANDS - WITHOUT


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments", [("serve",), ("qcluster",), ("list_work_orders",), ("prune",), ("cancel_work_order", ORDER)]
)
@pytest.mark.parametrize(("missing", "words"), [(1, "1 migration is not"), (3, "3 migrations are not")])
def test_a_database_behind_the_code(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], missing: int, words: str
) -> None:
    monkeypatch.setattr(MigrationExecutor, "migration_plan", lambda *_: ["one"] * missing)
    with pytest.raises(
        CommandError, match=rf"^{words} applied to the database\. Run `uv run manage\.py migrate`"
    ):
        call_command(*arguments, stdout=StringIO())


@pytest.mark.django_db
@pytest.mark.parametrize("checked", [True, False])
def test_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Django's checks ask SQLite what it can do, and so may meet it first."""

    def away(*_arguments: object) -> None:
        raise OperationalError("unable to connect\nIs it running?")

    place = (
        "django.core.management.base.checks.run_checks"
        if checked
        else "workorders.reading.schema.MigrationExecutor"
    )
    monkeypatch.setattr(place, lambda *_, **__: away())
    with pytest.raises(CommandError, match=r"does not answer: unable to connect\nCheck DATABASE_URL"):
        call_command("list_work_orders", skip_checks=not checked)


@pytest.mark.django_db
def test_the_question_costs_little(django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(4):  # two for the list itself: rows and their number
        call_command("list_work_orders", stdout=StringIO())


def manage(folder: Path, *arguments: str, database_url: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, BASE_DIR / "manage.py", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "WORKORDERS_SECRET_KEY": "k" * 50,
            "WORKORDERS_DATA_DIR": str(folder / "data"),
            "DATABASE_URL": database_url,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [("serve", "--port=1"), ("qcluster",), ("show_work_order", ORDER)])
def test_an_empty_sqlite(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = manage(tmp_path, *arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", NO_TABLES)


def test_an_empty_postgres(tmp_path: Path, postgres_url: str) -> None:
    with fresh_postgres(postgres_url) as url:
        ended = manage(tmp_path, "serve", "--port=1", database_url=url)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", NO_TABLES)
