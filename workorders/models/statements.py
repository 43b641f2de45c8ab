"""Composes the SQL of the statements that every step runs, once for a process.

Django composes a query anew each time. That costs more than the database's own work: about half of a worker's processor
time was measured. The rows are chosen by equalities. Values go through their fields, as in Django's own queries: they
are adapted to the database, and redacted where the column is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import connection, models
from django.db.transaction import TransactionManagementError
from django.utils import timezone

type _Field = models.Field[Any, Any]
type _Values = Mapping[str, Any]
type _Shape = tuple[tuple[str, bool], ...]  # columns, and whether each must have no value


class Grown(NamedTuple):
    """A number in `changes` that is added to what the column has."""

    by: int | Decimal


def update(model: type[models.Model], changes: _Values, where: _Values) -> int:
    """Change the rows that `where` chooses; returns how many. `where` gives each column its value, None for NULL."""
    grown = tuple(name for name, value in changes.items() if isinstance(value, Grown))
    statement = _update(connection.vendor, model, tuple(changes), grown, _shape(where))
    values = [value.by if isinstance(value, Grown) else value for value in changes.values()]
    return _run(statement, [*values, *_given(where)])


def delete(model: type[models.Model], where: _Values) -> int:
    """Remove the rows that `where` chooses; returns how many. Nothing cascades: no table may refer to this one."""
    return _run(_delete(connection.vendor, model, _shape(where)), _given(where))


def insert(model: type[models.Model], values: _Values) -> int:
    """Add a row; returns its key. Columns that are not named get their default."""
    statement = _insert(connection.vendor, model, tuple(values), returning=True)
    with connection.cursor() as cursor:
        cursor.execute(statement.sql, statement.prepare(list(values.values())))
        key: int = cursor.fetchone()[0]
        return key


def insert_all(model: type[models.Model], rows: Sequence[_Values]) -> None:
    """Add rows, all of which name the same columns in the same order."""
    if not rows:
        return
    statement = _insert(connection.vendor, model, tuple(rows[0]), returning=False)
    with connection.cursor() as cursor:
        cursor.executemany(statement.sql, [statement.prepare(list(row.values())) for row in rows])


class _Statement(NamedTuple):
    """SQL with its places: `given` adapt the caller's values, in order; `more` make the values of the places behind."""

    sql: str
    given: tuple[Callable[[Any], Any], ...]
    more: tuple[Callable[[], Any], ...] = ()

    def prepare(self, values: Sequence[Any]) -> list[Any]:
        found = [adapt(value) for adapt, value in zip(self.given, values, strict=True)]
        found += [make() for make in self.more]
        return found


def _run(statement: _Statement, values: Sequence[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement.sql, statement.prepare(values))
        count: int = cursor.rowcount
        return count


def _field(model: type[models.Model], name: str) -> _Field:
    field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    if not isinstance(field, models.Field) or not field.concrete:
        raise TypeError(f"{model.__name__}.{name} is no column")
    return field


def _quoted(field: _Field) -> str:
    return connection.ops.quote_name(str(field.column))


def _adapter(field: _Field) -> Callable[[Any], Any]:
    return lambda value: field.get_db_prep_save(value, connection)


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _shape(where: _Values) -> _Shape:
    return tuple((name, value is None) for name, value in where.items())


def _given(where: _Values) -> list[Any]:
    return [value for value in where.values() if value is not None]


def _where(model: type[models.Model], where: _Shape) -> tuple[str, list[_Field]]:
    """The condition, and the columns that it compares with a value."""
    fields = [(_field(model, name), is_null) for name, is_null in where]
    table = _table(model)
    text = " AND ".join(
        f"{table}.{_quoted(field)} {'IS NULL' if is_null else '= %s'}" for field, is_null in fields
    )
    return text, [field for field, is_null in fields if not is_null]


@lru_cache(maxsize=500)
def _update(
    _vendor: str,
    model: type[models.Model],
    columns: tuple[str, ...],
    grown: tuple[str, ...],
    where: _Shape,
) -> _Statement:
    changed = [_field(model, name) for name in columns]
    condition, known = _where(model, where)
    sets = ", ".join(
        f"{_quoted(field)} = {f'{_quoted(field)} + ' if name in grown else ''}%s"
        for name, field in zip(columns, changed, strict=True)
    )
    sql = f"UPDATE {_table(model)} SET {sets} WHERE {condition}"  # noqa: S608  # nosec B608  # names of columns only
    return _Statement(sql, tuple(map(_adapter, [*changed, *known])))


@lru_cache(maxsize=500)
def _delete(_vendor: str, model: type[models.Model], where: _Shape) -> _Statement:
    condition, known = _where(model, where)
    sql = f"DELETE FROM {_table(model)} WHERE {condition}"  # noqa: S608  # nosec B608  # likewise
    return _Statement(sql, tuple(map(_adapter, known)))


@lru_cache(maxsize=500)
def _insert(
    _vendor: str, model: type[models.Model], columns: tuple[str, ...], *, returning: bool
) -> _Statement:
    given = [_field(model, name) for name in columns]
    rest = [field for field in model._meta.concrete_fields if field not in given and _has_default_here(field)]
    names = ", ".join(map(_quoted, [*given, *rest]))
    places = ", ".join(["%s"] * (len(given) + len(rest)))
    sql = f"INSERT INTO {_table(model)} ({names}) VALUES ({places})"  # noqa: S608  # nosec B608  # likewise
    if returning:
        sql += f" RETURNING {_quoted(_field(model, 'pk'))}"
    return _Statement(sql, tuple(map(_adapter, given)), tuple(map(_default, rest)))


def _has_default_here(field: _Field) -> bool:
    """Not the key, which the database gives, nor what only the database has a default for."""
    return not field.primary_key and (field.has_default() or not field.has_db_default())


def _default(field: _Field) -> Callable[[], Any]:
    adapt = _adapter(field)
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return lambda: adapt(timezone.now())
    if callable(field.default) and field.has_default():
        return lambda: adapt(field.get_default())
    fixed = adapt(field.get_default())
    return lambda: fixed


def objects[Row: models.Model](
    model: type[Row],
    where: _Values,
    *columns: str,
    related: str = "",
    order: str = "",
    lock: bool = False,
) -> list[Row]:
    """Read the rows as objects: all columns or those named, and the object that the column `related` refers to."""
    read = _in_table_order(model, columns)  # so `from_db` takes them
    reading = _reading(connection.vendor, model, read, related, order, lock, _shape(where))
    names, others = reading.names, reading.others
    found = []
    for row in reading.fetch(_given(where)):
        item = model.from_db(connection.alias, names, row[: len(names)])
        if reading.related is not None:
            other = reading.related.from_db(connection.alias, others, row[len(names) :])
            setattr(item, related, other)
        found.append(item)
    return found


def values(
    model: type[models.Model],
    where: _Values,
    *columns: str,
    order: str = "",
    lock: bool = False,
    limit: int = 0,
) -> list[tuple[Any, ...]]:
    """Read the named columns of the rows, in the order they are named."""
    reading = _reading(connection.vendor, model, columns, "", order, lock, _shape(where), limit)
    return [tuple(row) for row in reading.fetch(_given(where))]


@lru_cache(maxsize=500)
def _in_table_order(model: type[models.Model], columns: tuple[str, ...]) -> tuple[str, ...]:
    fields = list(model._meta.concrete_fields)
    return tuple(sorted(columns, key=lambda name: fields.index(_field(model, name))))


type _Converters = tuple[tuple[int, Any, tuple[Callable[[Any, Any, Any], Any], ...]], ...]


class _Reading(NamedTuple):
    """`converters` make a column's value of what the database gave, at its place in the row."""

    statement: _Statement
    names: tuple[str, ...]
    related: type[models.Model] | None
    others: tuple[str, ...]
    converters: _Converters
    locks: bool

    def fetch(self, given: Sequence[Any]) -> list[Sequence[Any]]:
        if self.locks and not connection.in_atomic_block:
            raise TransactionManagementError("A row is locked inside a transaction only.")
        with connection.cursor() as cursor:
            cursor.execute(self.statement.sql, self.statement.prepare(given))
            rows = cursor.fetchall()
        return [self._converted(list(row)) for row in rows] if self.converters else rows

    def _converted(self, row: list[Any]) -> list[Any]:
        for place, expression, converters in self.converters:
            for convert in converters:
                row[place] = convert(row[place], expression, connection)
        return row


@lru_cache(maxsize=500)
def _reading(
    _vendor: str,
    model: type[models.Model],
    columns: tuple[str, ...],
    related: str,
    order: str,
    lock: bool,  # a part of the key
    where: _Shape,
    limit: int = 0,
) -> _Reading:
    own = [_field(model, name) for name in columns] or list(model._meta.concrete_fields)
    condition, known = _where(model, where)
    other = _related_model(model, related)
    others = list(other._meta.concrete_fields) if other is not None else []
    read = [*own, *others]
    chosen = ", ".join(f"{_table(field.model)}.{_quoted(field)}" for field in read)
    join = _join(model, related, other) if other is not None else ""
    sql = f"SELECT {chosen} FROM {_table(model)}{join} WHERE {condition}"  # noqa: S608  # nosec B608  # likewise
    return _Reading(
        _Statement(sql + _ending(model, order, limit, lock=lock), tuple(map(_adapter, known))),
        tuple(str(field.attname) for field in own),
        other,
        tuple(str(field.attname) for field in others),
        tuple(_converters(read)),
        lock,
    )


def _related_model(model: type[models.Model], name: str) -> type[models.Model] | None:
    """That of the object which a column refers to; None where no column is named."""
    if not name:
        return None
    other = model._meta.get_field(name).related_model
    assert isinstance(other, type)
    assert issubclass(other, models.Model)
    return other


def _ending(model: type[models.Model], order: str, limit: int, *, lock: bool) -> str:
    """What stands behind the condition; `order` begins with a minus sign where the greatest comes first."""
    text = ""
    if order:
        text += f" ORDER BY {_table(model)}.{_quoted(_field(model, order.removeprefix('-')))}"
        text += " DESC" if order.startswith("-") else ""
    if limit:
        text += f" LIMIT {limit:d}"
    if lock and connection.features.has_select_for_update:
        text += f" FOR UPDATE OF {_table(model)}"
    return text


def _join(model: type[models.Model], name: str, other: type[models.Model]) -> str:
    key = f"{_table(other)}.{_quoted(_field(other, 'pk'))}"
    return f" INNER JOIN {_table(other)} ON {_table(model)}.{_quoted(_field(model, name))} = {key}"


def _converters(read: Sequence[_Field]) -> Iterator[tuple[int, Any, tuple[Any, ...]]]:
    for place, field in enumerate(read):
        expression = field.get_col(field.model._meta.db_table)
        found = (*connection.ops.get_db_converters(expression), *expression.get_db_converters(connection))
        if found:
            yield place, expression, found
