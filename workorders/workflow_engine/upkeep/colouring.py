"""Syntax colours for diffs. Pygments' lexers may take for ever over hostile text, so this is a program of its own:

It reads a JSON list of `[path, patch]` on standard input and writes a JSON text a file: the HTML of each of the patch's
lines, lines apart; empty where it stays plain. Each file gets a bounded time of the processor, and the whole too. Who
starts it is `colours`; no request ever does.
"""

import json
import resource
import signal
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from html import escape
from itertools import groupby
from pathlib import Path

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Token, _TokenType
from pygments.util import ClassNotFound

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from workorders.text.diff_lines import (  # as a program it must find this package first
    DiffLine,
    read_patch,
    visible,
)

FILE_SECONDS = 0.3  # an honest file of the greatest size takes less than half of it
_ASKED_AGAIN_SECONDS = 0.05  # where a lexer has swallowed the first signal
ALL_SECONDS = 20
_MEMORY_BYTES = 1024 * 1024 * 1024
_COLOURED_CHARACTERS = 60_000
_COLOURED_LINE = 500
_HTML_CHARACTERS = 300_000

# Languages that are coloured, by file ending. A short list on purpose: the name of a file must not choose
# among hundreds of lexers, some of which take very long over hostile text.
_LANGUAGES = {
    ending: language
    for language, endings in {
        "bash": "sh bash zsh",
        "c": "c h",
        "cpp": "cc cpp hpp cxx",
        "csharp": "cs",
        "css": "css",
        "diff": "diff patch",
        "docker": "dockerfile",
        "go": "go",
        "html+django": "html htm",
        "ini": "ini cfg",
        "java": "java",
        "javascript": "js mjs cjs jsx",
        "json": "json",
        "kotlin": "kt kts",
        "make": "makefile mk",
        "markdown": "md",
        "php": "php",
        "python": "py pyi",
        "ruby": "rb",
        "rust": "rs",
        "scss": "scss",
        "sql": "sql",
        "swift": "swift",
        "toml": "toml",
        "typescript": "ts tsx",
        "xml": "xml svg",
        "yaml": "yaml yml",
    }.items()
    for ending in endings.split()
}
# Families of tokens and the class each gets; the first that holds the token wins.
_CLASSES = (
    (Token.Comment, "c"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "m"),
    (Token.Keyword, "k"),
    (Token.Name.Function, "nf"),
    (Token.Name.Class, "nc"),
    (Token.Name.Decorator, "nd"),
    (Token.Name.Builtin, "nb"),
    (Token.Name.Tag, "nt"),
    (Token.Name.Attribute, "na"),
    (Token.Generic.Heading, "gh"),
    (Token.Generic.Subheading, "gh"),
    (Token.Operator.Word, "k"),
)


def _coloured(lines: list[DiffLine], path: str) -> dict[int, str]:
    """The HTML of lines by their index. Each hunk's two sides are read as texts of their own."""
    lexer = _lexer(path)
    if lexer is None:
        return {}
    html: dict[int, str] = {}
    hunk: list[tuple[int, DiffLine]] = []
    for number, line in [*enumerate(lines), (len(lines), DiffLine("@", ""))]:
        if line.kind == "@":
            html |= _colour_side(hunk, "- ", lexer) | _colour_side(hunk, "+ ", lexer)
            hunk = []
        elif line.kind != "\\":
            hunk.append((number, line))
    return html


def _colour_side(hunk: list[tuple[int, DiffLine]], kinds: str, lexer: Lexer) -> dict[int, str]:
    side = [(number, line.text) for number, line in hunk if line.kind in kinds]
    if not side or any(len(text) > _COLOURED_LINE for _number, text in side):
        return {}
    source = "\n".join(
        text.replace("\r", "␍") for _number, text in side
    )  # a lexer would take it for a line's end
    rows = list(_split_lines(lexer.get_tokens(source)))
    return {
        number: _spans(row) for (number, _text), row in zip(side, rows, strict=False)
    }  # a lexer ends with a newline of its own


def _split_lines(tokens: Iterable[tuple[_TokenType, str]]) -> Iterator[list[tuple[str, str]]]:
    row: list[tuple[str, str]] = []
    for kind, text in tokens:
        name = _class_of(kind)
        first, *rest = text.split("\n")
        row.append((name, first))
        for piece in rest:
            yield row
            row = [(name, piece)]
    yield row


def _spans(row: list[tuple[str, str]]) -> str:
    merged = (
        (name, escape(visible("".join(text for _name, text in same))))
        for name, same in groupby(row, key=lambda piece: piece[0])
    )
    return "".join(f'<span class="{name}">{text}</span>' if name and text else text for name, text in merged)


@lru_cache(maxsize=500)
def _class_of(kind: _TokenType) -> str:
    parents = kind.split()
    return next((name for family, name in _CLASSES if family in parents), "")


@lru_cache(maxsize=50)
def _lexer_named(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def _lexer(path: str) -> Lexer | None:
    name = path.rsplit("/", 1)[-1].lower()
    language = _LANGUAGES.get(name.rsplit(".", 1)[-1])
    return _lexer_named(language) if language else None


class TooSlow(BaseException):
    """The lexer took too long over a file. Not an `Exception`, which a lexer may catch and go on."""


def colours_of(path: str, patch: str) -> str:
    """The HTML of each line, lines apart; '' where nothing is coloured."""
    if len(patch) > _COLOURED_CHARACTERS:
        return ""
    lines = read_patch(patch)
    html = _coloured(lines, path)
    if not html:
        return ""
    text = "\n".join(html.get(number, "") for number in range(len(lines)))
    return text if len(text) <= _HTML_CHARACTERS else ""


def _give_up(_number: int, _frame: object) -> None:
    raise TooSlow


def main() -> None:
    """Whatever a lexer does to one file, the others get their answer."""
    resource.setrlimit(resource.RLIMIT_CPU, (ALL_SECONDS, ALL_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.signal(signal.SIGVTALRM, _give_up)
    for path, patch in json.load(sys.stdin):
        answer = ""
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, FILE_SECONDS, _ASKED_AGAIN_SECONDS)
            answer = colours_of(path, patch)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except (TooSlow, RecursionError, MemoryError):
            answer = ""
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
