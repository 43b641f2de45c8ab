"""Text of strangers read line by line: what a unified diff's lines are, and characters that hide others.

The program that colours diffs needs no more than this, and starts often: imports are few on purpose.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNPRINTABLE = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
_HIDDEN = re.compile(f"[{_UNPRINTABLE}{_BIDI}]")
_INVISIBLE = re.compile(f"[{_UNPRINTABLE}{_BIDI}\u200b-\u200d\u2060\ufeff]")
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,\d+)? \+(\d{1,9})(?:,\d+)? @@(.*)", re.DOTALL)


def plain(text: str) -> str:
    """The text without terminal sequences, control, private-use and bidirectional characters. Not escaped."""
    return _HIDDEN.sub("", _ANSI.sub("", text))


def visible(text: str) -> str:
    """The text with every character that hides or reorders others spelled out: what reviewers of code need."""
    return _INVISIBLE.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)


class DiffLine(NamedTuple):
    """`kind`: `+`, `-`, a space, `@` for a hunk's heading, `\\` for git's remarks. Numbers are 0 where absent."""

    kind: str
    text: str
    old: int = 0
    new: int = 0


def read_patch(patch: str) -> list[DiffLine]:
    """The lines from the first hunk on; a patch without one (a changed mode) is shown as it is."""
    return list(lines_of(patch))


def lines_of(patch: str) -> Iterator[DiffLine]:
    """The same one by one."""
    is_without_hunk = True
    old = new = 0
    for raw in patch.removesuffix("\n").split("\n"):
        text = raw.removesuffix("\r")
        if hunk := _HUNK.fullmatch(text):
            old, new, is_without_hunk = int(hunk[1]), int(hunk[2]), False
            yield DiffLine("@", hunk[3].strip())
        elif not old and not new:
            continue
        elif text.startswith("+"):
            yield DiffLine("+", text[1:], new=new)
            new += 1
        elif text.startswith("-"):
            yield DiffLine("-", text[1:], old=old)
            old += 1
        elif text.startswith("\\"):
            yield DiffLine("\\", text[1:].strip())
        else:
            yield DiffLine(" ", text[1:], old, new)
            old, new = old + 1, new + 1
    if is_without_hunk:
        yield from (DiffLine("\\", text) for text in patch.split("\n")[1:] if text)
