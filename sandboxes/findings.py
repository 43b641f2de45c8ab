"""What a check of the installation found: a name, a mark, a sentence, and a hint where something is to be done.

Shared by the checks of every package and printed by `manage.py doctor`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """`FAILED`: the main job cannot run. `WARNING`: it can, but somebody should know."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis; `hint` says what to do and is empty where all is well."""

    name: str
    mark: Mark
    message: str
    hint: str = ""


def ok(name: str, message: str) -> Finding:
    return Finding(name, Mark.OK, message)


def warning(name: str, message: str, hint: str) -> Finding:
    return Finding(name, Mark.WARNING, message, hint)


def failed(name: str, message: str, hint: str) -> Finding:
    return Finding(name, Mark.FAILED, message, hint)
