"""Finds what a merge that nobody finished leaves in a text, in a unified diff. Pure.

Whole conflicts count only: `<<<<<<< `, `=======` and `>>>>>>> ` in this order, each at a line's start. A line of equal
signs alone is a heading in many texts. Nor does a file count whose old version has such lines: it is about them.
"""

from collections.abc import Sequence

from sandboxes.sweep.rules import LeftOut, shown
from sandboxes.trusted_git.objects import FileChange

_START, _MIDDLE, _END = "<<<<<<< ", "=======", ">>>>>>> "


def conflicts_in(patch: str) -> int:
    """How many whole conflicts a patch adds to one file; 0 where the file had such lines before."""
    wanted, found = _START, 0
    for line in patch.split("\n"):
        sign, text = line[:1], line[1:].rstrip("\r")
        if sign in {"-", " "} and text.startswith((_START, _END)):
            return 0
        if sign != "+":
            continue
        if text.startswith(_START):
            wanted = _MIDDLE
        elif wanted == _MIDDLE and text == _MIDDLE:
            wanted = _END
        elif wanted == _END and text.startswith(_END):
            wanted, found = _START, found + 1
    return found


def conflict_markers(changes: Sequence[FileChange], patches: Sequence[str]) -> tuple[LeftOut, ...]:
    """A finding for each file that got whole conflicts; `patches` in the order of `changes`, maybe fewer."""
    found = []
    for change, patch in zip(changes, patches, strict=False):
        if count := conflicts_in(patch):
            detail = "1 conflict" if count == 1 else f"{count} conflicts"
            found.append(LeftOut("conflict_markers", shown(change.path), detail))
    return tuple(found)
