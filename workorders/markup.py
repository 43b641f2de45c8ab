"""Text of strangers as HTML: Markdown, sanitised, and unified diffs with syntax colours.

Pure: text in, HTML text out. Everything that goes in was written by an agent or found in a repository, so all
of it is bounded, and nothing comes out but a short list of tags and own classes. Must not know rows or pages.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import groupby

import nh3
from markdown_it import MarkdownIt
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Token, _TokenType
from pygments.util import ClassNotFound

MARKDOWN_CHARACTERS = 40_000
DIFF_LINES = 4000
_COLOURED_CHARACTERS = 60_000
_COLOURED_LINE = 500
_SHOWN_LINE = 2000

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNPRINTABLE = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
_HIDDEN = re.compile(f"[{_UNPRINTABLE}{_BIDI}]")
_INVISIBLE = re.compile(f"[{_UNPRINTABLE}{_BIDI}\u200b-\u200d\u2060\ufeff]")

_TAGS = {
    *(
        "a",
        "blockquote",
        "br",
        "code",
        "del",
        "em",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
    ),
    *("strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])

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
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,\d+)? \+(\d{1,9})(?:,\d+)? @@(.*)", re.DOTALL)


def plain(text: str) -> str:
    """The text without terminal sequences, control, private-use and bidirectional characters. Not escaped."""
    return _HIDDEN.sub("", _ANSI.sub("", text))


def visible(text: str) -> str:
    """The text with every character that hides or reorders others spelled out: what reviewers of code need."""
    return _INVISIBLE.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)


@lru_cache(maxsize=32)
def render_markdown(text: str) -> str:
    """Sanitised HTML: no images, no raw HTML, links only to https; headings start at the third level."""
    cut = plain(text)[:MARKDOWN_CHARACTERS]
    tokens = _markdown.parse(cut)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"
    html = nh3.clean(
        _markdown.renderer.render(tokens, _markdown.options, {}),
        tags=_TAGS,
        clean_content_tags={"script", "style"},
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes={"https"},
        link_rel="nofollow noopener noreferrer",
        attribute_filter=_only_https,
    )
    return html if len(text) <= MARKDOWN_CHARACTERS else f"{html}<p>… [cut]</p>"


def _only_https(_tag: str, attribute: str, value: str) -> str | None:
    return None if attribute == "href" and not value.lower().startswith("https://") else value


@dataclass(frozen=True)
class _Line:
    """`kind`: `+`, `-`, a space, `@` for a hunk's heading, `\\` for git's remarks. Numbers are 0 where absent."""

    kind: str
    text: str
    old: int = 0
    new: int = 0


def render_diff(patch: str, path: str) -> str:
    """A block of lines; both line numbers are in `data-n`, so that copying leaves them out."""
    lines = _read_patch(patch)
    coloured = _coloured(lines, path) if len(patch) <= _COLOURED_CHARACTERS else {}
    shown = [
        _render_line(line, coloured.get(number)) for number, line in enumerate(lines) if number < DIFF_LINES
    ]
    if len(lines) > DIFF_LINES:
        shown.append(f'<span class="dh">… {len(lines) - DIFF_LINES:,} more lines are not shown here</span>')
    return f'<pre class="wo-diff">{"".join(shown)}</pre>'


def _read_patch(patch: str) -> list[_Line]:
    """The lines from the first hunk on; a patch without one (a changed mode) is shown as it is."""
    found: list[_Line] = []
    old = new = 0
    for raw in patch.removesuffix("\n").split("\n"):
        text = raw.removesuffix("\r")
        if hunk := _HUNK.fullmatch(text):
            old, new = int(hunk[1]), int(hunk[2])
            found.append(_Line("@", hunk[3].strip()))
        elif not old and not new:
            continue
        elif text.startswith("+"):
            found.append(_Line("+", text[1:], new=new))
            new += 1
        elif text.startswith("-"):
            found.append(_Line("-", text[1:], old=old))
            old += 1
        elif text.startswith("\\"):
            found.append(_Line("\\", text[1:].strip()))
        else:
            found.append(_Line(" ", text[1:], old, new))
            old, new = old + 1, new + 1
    return found or [_Line("\\", text) for text in patch.split("\n")[1:] if text]


def _render_line(line: _Line, coloured: str | None) -> str:
    if line.kind in "@\\":
        return f'<span class="dh">{escape(visible(line.text[:200])) or "⋯"}\n</span>'
    number = f"{line.old or '':>5} {line.new or '':>5}"
    name = {"+": "da", "-": "dr"}.get(line.kind, "dc")
    cut = line.text[:_SHOWN_LINE] + (" … [cut]" if len(line.text) > _SHOWN_LINE else "")
    html = coloured if coloured is not None else escape(visible(cut))
    return f'<span class="{name}" data-n="{number}">{line.kind}{html}\n</span>'


def _coloured(lines: list[_Line], path: str) -> dict[int, str]:
    """The HTML of lines by their index. Each hunk's two sides are read as texts of their own."""
    lexer = _lexer(path)
    if lexer is None:
        return {}
    html: dict[int, str] = {}
    hunk: list[tuple[int, _Line]] = []
    for number, line in [*enumerate(lines), (len(lines), _Line("@", ""))]:
        if line.kind == "@":
            html |= _colour_side(hunk, "- ", lexer) | _colour_side(hunk, "+ ", lexer)
            hunk = []
        elif line.kind != "\\":
            hunk.append((number, line))
    return html


def _colour_side(hunk: list[tuple[int, _Line]], kinds: str, lexer: Lexer) -> dict[int, str]:
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
