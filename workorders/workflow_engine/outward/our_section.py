"""Our part of a pull request's text, between two invisible marks; all around it is a person's, and stays.

Pure. A mark counts where it is a whole line outside of any code block, and a section where its two marks follow each
other. Whatever else is there is a person's, also what was ours once and has lost a mark.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

BEGIN = "<!-- work-order: begin -->"
END = "<!-- work-order: end -->"
DRAFT_NOTE = "> [!NOTE]\n> The tests pass now. Mark this draft as ready for review."
READY_NOTE = (
    "> [!NOTE]\n> This pull request was marked as ready for review before, and is left so. Convert it to a draft, or "
    "ask for a follow-up."
)
PLAN_BEGINS = "<details><summary>Plan ("
MOST_CHARACTERS = 65_000  # GitHub takes 65,536
_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)$")
_MARKS_OF_OURS = re.compile(r"<(?=!--\s*work-order\b)", re.IGNORECASE)


@dataclass(frozen=True)
class _Look:
    """A text as its lines tell: the section's first and last line, where there is one; whether code is left open."""

    first: int | None
    last: int | None
    is_open: bool


def section(parts: list[str]) -> str:
    """The marks with our words between them."""
    return f"{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}"


def without_marks(text: str) -> str:
    """Somebody else's text, in which nothing is taken for a mark of ours."""
    return _MARKS_OF_OURS.sub("<\u200b", text)


def renewed_body(current: str, fresh: str, *, note: str = "") -> str:
    """A pull request's text with our part of it exchanged: what people wrote around it stays.

    Where our part is not whole it is added once, below what is there, or above where that would swallow it.
    `note` comes first in it: what only a person can do, such as marking a draft as ready. The text is unchanged where
    there is no room.
    """
    current = current.replace("\r\n", "\n")  # GitHub's own editor ends lines as Windows does
    ours = _only_ours(fresh)
    if note:
        ours = ours.replace(BEGIN, f"{BEGIN}\n{note}\n", 1)
    for candidate in (ours, without_plan(ours)):
        text = _placed(current, candidate)
        if len(text) <= MOST_CHARACTERS:
            return text
    return current


def without_plan(ours: str) -> str:
    """The section without its last and longest part."""
    found = re.search(rf"^{re.escape(PLAN_BEGINS)}", ours, re.MULTILINE)
    return ours if found is None else f"{ours[: found.start()].rstrip()}\n{END}"


def _only_ours(fresh: str) -> str:
    lines = fresh.split("\n")
    look = _look(lines)
    if look.first is None or look.last is None:
        return fresh
    return "\n".join(lines[look.first : look.last + 1])


def _placed(current: str, ours: str) -> str:
    lines = current.split("\n")
    look = _look(lines)
    if look.first is not None and look.last is not None:
        return "\n".join([*lines[: look.first], ours, *lines[look.last + 1 :]])
    if look.is_open or _hides_what_follows(current):
        return f"{ours}\n\n{current}"
    return f"{current.rstrip()}\n\n{ours}\n".lstrip("\n")


def _look(lines: list[str]) -> _Look:
    """The last mark pair whose marks follow each other directly."""
    fence, marks = "", list[tuple[str, int]]()
    for number, line in enumerate(lines):
        found = _FENCE.match(line)
        if found and not fence:
            fence = found["fence"]
        elif found and found["fence"].startswith(fence) and not found["info"].strip():
            fence = ""
        elif not fence and line.rstrip() in {BEGIN, END}:
            marks.append((line.rstrip(), number))
    for (one, first), (other, last) in reversed(list(pairwise(marks))):
        if (one, other) == (BEGIN, END):
            return _Look(first, last, bool(fence))
    return _Look(None, None, bool(fence))


def _hides_what_follows(text: str) -> bool:
    """A comment, or an element that takes all that follows, was left open."""
    if text.rfind("<!--") > text.rfind("-->"):
        return True
    for name in ("details", "pre", "table", "script", "style", "textarea"):
        opened = len(re.findall(rf"<{name}\b", text, re.IGNORECASE))
        if opened > len(re.findall(rf"</{name}\s*>", text, re.IGNORECASE)):
            return True
    return False
