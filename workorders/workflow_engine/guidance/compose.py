"""Puts a repository's guidance together for one step: what is near to its work, within a bound in bytes. Pure.

Whatever does not fit, or was refused, is named in the text, so that the agent can read it for itself, and in the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from workorders.agents.base import clean_text
from workorders.workflow_engine.guidance import text as guidance_text
from workorders.workflow_engine.guidance.files import BaseGuidance, Document, Place, Refused

GUIDANCE_BYTES = 64_000  # all of it stays below what one argument of a command line may hold
_NOTES_BYTES = 4_000  # of these, for what is only named
_RESERVED_BYTES = 4_000  # what a file may count on, however large those before it are
_FARTHER_BYTES = 12_000  # guidance for other parts of the repository is shown as long as all of it is short
_LEAST_BYTES = 400
_MOST_NEAR = 40
_MOST_FARTHER = 20
_MOST_NOTES = 50
_INTRODUCTION = (
    "The repository's own guidance for agents, as its base commit {sha} has it. Paths are relative to the repository's "
    "root. Where two texts disagree, the one nearer to the file in question counts."
)


@dataclass(frozen=True)
class Guidance:
    """`text` is for the agent; the lists are for the log, in words. `size`: bytes of all files shown, uncut."""

    text: str = field(default="", repr=False)
    files: tuple[str, ...] = ()
    size: int = 0
    cut: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def is_worth_a_line(self) -> bool:
        return bool(self.files or self.named or self.refused)


def near_places(base: BaseGuidance, named: frozenset[str]) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Of the nested guidance: what is to be read, all that is near and some of the rest; and what is only named."""
    near = [place for place in base.nested if guidance_text.is_about(place.scope, named)][-_MOST_NEAR:]
    others = [place for place in base.nested if place not in near]
    read = others if len(others) <= _MOST_FARTHER else []
    return (*near, *read), tuple(place for place in others if place not in read)


def compose(
    base: BaseGuidance,
    nested: BaseGuidance,
    *,
    base_sha: str,
    named: frozenset[str],
    unread: Sequence[Place] = (),
    limit: int = GUIDANCE_BYTES,
) -> Guidance:
    """What this step's agent is told, of the whole repository and of `nested`, which was read for this step.

    `named` are the paths that the request names or the branch has changed, with the folders above each.
    """
    known = {document.text for document in base.general}
    scoped = [document for document in (*nested.scoped, *base.scoped) if document.text not in known]
    near = [document for document in scoped if guidance_text.is_about(document.scope, named)]
    farther = [document for document in scoped if document not in near]
    if sum(len(document.text.encode()) for document in farther) <= _FARTHER_BYTES:
        also, farther = farther, []
    else:
        also = []
    refused = (*base.refused, *nested.refused)
    shown = [*base.general, *near, *also]
    if not (shown or farther or unread or refused):
        return Guidance()
    room = limit - _NOTES_BYTES - len(_INTRODUCTION)
    of_near = _within(near, room // 2)  # before the general guidance, which may be without end
    of_all = _within(base.general, room - _size(of_near))
    parts = [*of_all, *of_near, *_within(also, room - _size(of_near) - _size(of_all))]
    without_room = [document for document, part in zip(shown, parts, strict=True) if not part]
    left_out = [
        *(f"{_name(document)}{_about(document.scope)}" for document in (*without_room, *farther)),
        *(f"{_clean(place.path)}{_about(place.scope)}" for place in unread),
    ]
    notes = _notes(left_out, refused, listed=base.listed)
    text = "\n\n".join([_INTRODUCTION.format(sha=base_sha[:12]), *filter(None, parts), *notes])
    return Guidance(
        text=text,
        files=tuple(_title(document) for document, part in zip(shown, parts, strict=True) if part),
        size=sum(document.size for document, part in zip(shown, parts, strict=True) if part),
        cut=tuple(
            f"{_name(document)}: {document.size} bytes"
            for document, part in zip(shown, parts, strict=True)
            if _is_cut(document, part)
        ),
        named=tuple(left_out),
        refused=tuple(clean_text(str(item), 300) for item in refused),
    )


def with_references(command_text: str, base: BaseGuidance, *, limit: int = GUIDANCE_BYTES) -> str:
    """A command's text, followed by the files it imports; the program itself then finds nothing more to import."""
    parts = [part for part in _within(base.general, limit) if part]
    return guidance_text.without_marks("\n\n".join([command_text, *parts]))


def names_of(base: BaseGuidance) -> list[str]:
    return [_name(document) for document in base.general]


def _within(documents: Sequence[Document], limit: int) -> list[str]:
    """Each document's section, '' for one that has no room; early ones get more, and every one a little."""
    heads = [f"Contents of {_title(document)}:\n\n" for document in documents]
    sizes = [
        len(head.encode()) + len(document.text.encode())
        for head, document in zip(heads, documents, strict=True)
    ]
    reserved = [min(size, _RESERVED_BYTES) for size in sizes]
    while reserved and sum(reserved) > limit // 2:
        reserved = [size // 2 for size in reserved]
    later = sum(reserved)
    parts = []
    for head, document, size, kept in zip(heads, documents, sizes, reserved, strict=True):
        later -= kept
        room = limit - later
        if size <= room:
            part = head + document.text
        elif room < _LEAST_BYTES + len(head.encode()):
            part = ""
        else:
            part = head + _cut(document, room - len(head.encode()))
        limit -= len(part.encode())
        parts.append(part)
    return parts


def _is_cut(document: Document, part: str) -> bool:
    return bool(part) and not part.endswith(document.text)


def _size(parts: Sequence[str]) -> int:
    return sum(len(part.encode()) for part in parts)


def _cut(document: Document, room: int) -> str:
    """As much as fits, up to the end of a line, and what is missing."""
    mark = f"\n[… cut here: {_name(document)} has {document.size} bytes; read the rest of it in the file]"
    kept = document.text.encode()[: max(room - len(mark.encode()), 0)].decode("utf-8", "ignore")
    whole_lines = kept.rpartition("\n")[0]
    return (whole_lines or kept) + mark


def _notes(left_out: Sequence[str], refused: Sequence[Refused], *, listed: bool) -> list[str]:
    notes = []
    if left_out:
        head = "More guidance, not shown here. Read the file before you change what it is about:"
        notes.append("\n".join([head, *_shortened([f"- {name}" for name in left_out])]))
    if refused:
        lines = [f"- {clean_text(str(item), 300)}" for item in refused]
        notes.append("\n".join(["Guidance that was asked for and is not included:", *_shortened(lines)]))
    if not listed:
        notes.append(
            "The repository is too large to be searched for further guidance: look for CLAUDE.md and AGENTS.md beside "
            "the files you change."
        )
    return notes


def _shortened(lines: Sequence[str]) -> list[str]:
    """As many as fit into half of what notes may take."""
    kept: list[str] = []
    room = _NOTES_BYTES // 2 - 100
    for line in lines[:_MOST_NOTES]:
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
    more = len(lines) - len(kept)
    return [*kept, f"- … and {more} more"] if more else kept


def _title(document: Document) -> str:
    also = ", ".join(_clean(name) for name in document.names[1:4])
    asked = f" (imported by {_clean(document.imported_by)})" if document.imported_by else ""
    return f"{_name(document)}{f' (the same as {also})' if also else ''}{asked}{_about(document.scope)}"


def _about(scope: Sequence[str]) -> str:
    return f" (for {clean_text(', '.join(scope[:10]), 200)})" if scope else ""


def _name(document: Document) -> str:
    return _clean(document.names[0])


def _clean(path: str) -> str:
    return clean_text(path, 300).replace("\n", "?")
