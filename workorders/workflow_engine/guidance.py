"""Puts a repository's guidance together for one step: what is near to its work, within a bound in bytes. Pure.

Whatever does not fit, or was refused, is named in the text, so that the agent can read it for itself, and in the log.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from workorders.agent_executor.base import clean_text
from workorders.workflow_engine import guidance_text
from workorders.workflow_engine.guidance_files import BaseGuidance, Document

GUIDANCE_BYTES = 64_000  # all of it stays below what one argument of a command line may hold
_NOTES_BYTES = 4_000  # of these, for what is only named
_RESERVED_BYTES = 4_000  # what a file may count on, however large those before it are
_FARTHER_BYTES = 12_000  # guidance for other parts of the repository is shown as long as all of it is short
_LEAST_BYTES = 400
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


def compose(
    base: BaseGuidance,
    *,
    base_sha: str,
    texts: Iterable[str],
    changed: Iterable[str],
    limit: int = GUIDANCE_BYTES,
) -> Guidance:
    """What this step's agent is told. `texts` may name paths, `changed` are the paths of the branch so far."""
    named = guidance_text.named_paths([*texts, *changed]) if base.scoped else frozenset()
    near = [document for document in base.scoped if guidance_text.is_about(document.scope, named)]
    farther = [document for document in base.scoped if document not in near]
    shown = [*base.general, *near]
    if sum(len(document.text.encode()) for document in farther) <= _FARTHER_BYTES:
        shown, farther = [*shown, *farther], []
    if not shown and not farther and not base.refused:
        return Guidance()
    parts = _within(shown, limit - _NOTES_BYTES - len(_INTRODUCTION))
    left_out = [*[document for document, part in zip(shown, parts, strict=True) if not part], *farther]
    notes = _notes(left_out, base)
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
        named=tuple(_name(document) for document in left_out),
        refused=tuple(clean_text(str(refused), 300) for refused in base.refused),
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


def _cut(document: Document, room: int) -> str:
    """As much as fits, up to the end of a line, and what is missing."""
    mark = f"\n[… cut here: {_name(document)} has {document.size} bytes; read the rest of it in the file]"
    kept = document.text.encode()[: max(room - len(mark.encode()), 0)].decode("utf-8", "ignore")
    whole_lines = kept.rpartition("\n")[0]
    return (whole_lines or kept) + mark


def _notes(left_out: Sequence[Document], base: BaseGuidance) -> list[str]:
    notes = []
    if left_out:
        lines = [f"- {_name(document)}{_about(document)}" for document in left_out]
        head = "More guidance, not shown here. Read the file before you change what it is about:"
        notes.append("\n".join([head, *_shortened(lines)]))
    if base.refused:
        lines = [f"- {clean_text(str(refused), 300)}" for refused in base.refused]
        notes.append("\n".join(["Guidance that was asked for and is not included:", *_shortened(lines)]))
    if not base.listed:
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
    return f"{_name(document)}{f' (the same as {also})' if also else ''}{asked}{_about(document)}"


def _about(document: Document) -> str:
    return f" (for {clean_text(', '.join(document.scope), 200)})" if document.scope else ""


def _name(document: Document) -> str:
    return _clean(document.names[0])


def _clean(path: str) -> str:
    return clean_text(path, 300).replace("\n", "?")
