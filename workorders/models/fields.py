"""Text columns that keep no secret: whatever is written to one, by whichever query, is redacted on its way.

For the schema they are Django's own fields, so that a column becomes one of these without a migration.
"""

from typing import TYPE_CHECKING, Any

from django.db import models

from workorders.text.redaction import redact, redact_value

if TYPE_CHECKING:  # the types are Django's own, which its mypy plugin knows
    RedactedTextField = models.TextField
    RedactedCharField = models.CharField
    RedactedJSONField = models.JSONField
else:

    class RedactedTextField(models.TextField):
        def deconstruct(self):
            return _as_djangos(super().deconstruct())

        def get_prep_value(self, value):
            return _redacted(super().get_prep_value(value))

    class RedactedCharField(models.CharField):
        def deconstruct(self):
            return _as_djangos(super().deconstruct())

        def get_prep_value(self, value):
            return _redacted(super().get_prep_value(value), self.max_length)

    class RedactedJSONField(models.JSONField):
        def deconstruct(self):
            return _as_djangos(super().deconstruct())

        def get_db_prep_value(self, value, connection, prepared=False):
            return super().get_db_prep_value(redact_value(value), connection, prepared)


type _Deconstructed = tuple[str, str, list[Any], dict[str, Any]]


def _as_djangos(parts: _Deconstructed) -> _Deconstructed:
    name, path, arguments, options = parts
    return name, f"django.db.models.{path.rsplit('.Redacted', 1)[1]}", arguments, options


def _redacted(value: Any, longest: int | None = None) -> Any:
    """Values that are no text (an expression, None) pass; a mark must not make a text too long for its column."""
    if not isinstance(value, str):
        return value
    clean = redact(value)
    return clean if clean == value else clean[:longest]
