"""Django's SQLite backend, on the newer of two SQLites where Python's own is not safe.

SQLite before 3.51.3 can corrupt a database when its write-ahead log is reset while another process writes
(https://sqlite.org/wal.html#walresetbug), and that is how this server uses it all day. Python brings whatever the
system has; the `pysqlite3` wheels carry a current SQLite. Python's own is kept where it is safe, or where there
is no wheel: then `manage.py check` and `doctor` say so (`workorders.W010`).

Must be the first to import Django's backend in a process; it is, since Django loads it by the setting's name.
"""

import datetime
import decimal
import re
import sqlite3
import sys
from contextlib import closing
from functools import lru_cache
from importlib import import_module
from typing import Any

from django.conf import settings

_OWN = sqlite3.dbapi2
try:
    from pysqlite3 import dbapi2 as _wheel
except ImportError:
    _wheel = _OWN
CHOSEN: Any = _OWN if _OWN.sqlite_version_info >= settings.WORKORDERS_SQLITE_SAFE_SINCE else _wheel

if "django.db.backends.sqlite3.base" not in sys.modules:
    sqlite3.dbapi2 = CHOSEN  # what Django's module takes as its driver
    try:
        import_module("django.db.backends.sqlite3.base")
    finally:
        sqlite3.dbapi2 = _OWN

from django.db.backends.sqlite3 import base  # noqa: E402  # only now, on the chosen driver

if CHOSEN is not _OWN:  # schema changes ask Python's own module how a default is written down
    sqlite3.register_adapter(decimal.Decimal, str)
    sqlite3.register_adapter(datetime.date, base.adapt_date)
    sqlite3.register_adapter(datetime.datetime, base.adapt_datetime)

_LIMITS = {
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: "MAX_VARIABLE_NUMBER",
    sqlite3.SQLITE_LIMIT_COLUMN: "MAX_COLUMN",
}


class Connection(CHOSEN.Connection):  # type: ignore[misc]  # which of two classes is known at run time only
    """With what Django asks of a connection and `pysqlite3` leaves out."""

    def getlimit(self, category: int) -> int:
        if hasattr(super(), "getlimit"):
            return int(super().getlimit(category))
        return _compiled_limit(category)


@lru_cache
def _compiled_limit(category: int) -> int:
    """Django asks at every insert of several rows, and a library does not change."""
    with closing(CHOSEN.connect(":memory:")) as connection:
        options = "\n".join(row[0] for row in connection.execute("PRAGMA compile_options"))
    found = re.search(rf"^{_LIMITS[category]}=(\d+)$", options, re.MULTILINE)
    return int(found[1]) if found else 999


@lru_cache(maxsize=1000)
def _with_question_marks(query: str) -> str:
    return str(base.FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%"))


class Cursor(base.SQLiteCursorWrapper):
    """Rewrites the places of parameters once for each text of a query, where Django does it for each run."""

    def convert_query(self, query: str, *, param_names: Any = None) -> str:
        if param_names is None:
            return _with_question_marks(query)
        return str(super().convert_query(query, param_names=param_names))


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        return super().get_new_connection({"factory": Connection, **conn_params})

    def create_cursor(self, name: str | None = None) -> Any:  # noqa: ARG002  # for databases with named cursors
        return self.connection.cursor(factory=Cursor)
