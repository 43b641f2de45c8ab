"""The embedded database: which SQLite runs, how it is opened, and that Django works on it as on Python's own."""

import sqlite3
from datetime import date, datetime
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connection, models

from tests.factories import make_order
from workorders import checks
from workorders.models import AgentWorkOrder

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


def pragma(name: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        return cursor.fetchone()[0]


def test_the_sqlite_that_runs_does_not_have_the_bug_at_wal_reset() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT sqlite_version()")
        running = tuple(int(part) for part in cursor.fetchone()[0].split("."))
    assert running >= settings.WORKORDERS_SQLITE_SAFE_SINCE
    assert running == connection.get_database_version()
    assert not list(checks._sqlite())


def test_an_unsafe_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "get_database_version", lambda: (3, 40, 1))
    [message] = checks._sqlite()
    assert message.id == "workorders.W010"
    assert "3.40.1" in message.msg


def test_every_connection_is_opened_as_the_queue_needs_it() -> None:
    expected = {
        "journal_mode": "wal",
        "synchronous": 1,  # NORMAL
        "temp_store": 2,  # MEMORY
        "foreign_keys": 1,
        "cache_size": -16000,
        "mmap_size": 134217728,
        "busy_timeout": 20_000,
    }
    assert {name: pragma(name) for name in expected} == expected
    assert connection.transaction_mode == "IMMEDIATE"  # type: ignore[attr-defined]  # SQLite's wrapper has it


def test_limits_come_from_the_library() -> None:
    connection.ensure_connection()
    assert (connection.features.max_query_params or 0) >= 32_766
    assert connection.connection.getlimit(sqlite3.SQLITE_LIMIT_COLUMN) >= 2000
    many = list(range(40_000))
    assert AgentWorkOrder.objects.filter(pk__in=many).count() == 0


def test_values_and_errors_are_djangos() -> None:
    order = make_order(cost_usd=Decimal("1.250000"))
    found = AgentWorkOrder.objects.get(pk=order.pk)
    assert found.cost_usd == Decimal("1.25")
    assert found.created_at.utcoffset() is not None
    assert AgentWorkOrder.objects.filter(created_at__date=found.created_at.date()).exists()
    with pytest.raises(models.ProtectedError):
        order.repository.delete()


def test_schema_changes_write_defaults_down() -> None:
    quote = connection.schema_editor().quote_value
    assert quote(Decimal("1.5")) == "'1.5'"
    assert quote(date(2026, 1, 2)) == "'2026-01-02'"
    assert quote(datetime(2026, 1, 2, 3, 4)) == "'2026-01-02 03:04:00'"
