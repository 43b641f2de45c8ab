"""Text of strangers as HTML: Markdown, sanitised, and unified diffs.

Pure: text in, HTML text out. Everything that goes in was written by an agent or found in a repository, so all
of it is bounded, and nothing comes out but a short list of tags and own classes. Must not know rows or pages.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from html import escape

import nh3
from markdown_it import MarkdownIt

MARKDOWN_CHARACTERS = 40_000
DIFF_LINES = 4000
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
# Far more than people write. Each bracket may begin a link, and a row of a table gets all the cells that its head has.
_MOST_BRACKETS = 2000
_MOST_BARS_IN_A_LINE = 100

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,\d+)? \+(\d{1,9})(?:,\d+)? @@(.*)", re.DOTALL)


def plain(text: str) -> str:
    """The text without terminal sequences, control, private-use and bidirectional characters. Not escaped."""
    return _HIDDEN.sub("", _ANSI.sub("", text))


def visible(text: str) -> str:
    """The text with every character that hides or reorders others spelled out: what reviewers of code need."""
    return _INVISIBLE.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)


@lru_cache(maxsize=4)
def _markdown(*, links: bool, tables: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
    if tables:
        parser.enable("table")
    return parser if links else parser.disable(["link", "image", "reference"])


def _parser_for(text: str) -> MarkdownIt:
    """A parser that leaves as text what this text has only to make it slow."""
    return _markdown(
        links=text.count("[") <= _MOST_BRACKETS,
        tables=all(line.count("|") <= _MOST_BARS_IN_A_LINE for line in text.split("\n")),
    )


@lru_cache(maxsize=32)
def render_markdown(text: str) -> str:
    """Sanitised HTML: no images, no raw HTML, links only to https; headings start at the third level."""
    cut = plain(text)[:MARKDOWN_CHARACTERS]
    parser = _parser_for(cut)
    tokens = parser.parse(cut)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"
    html = nh3.clean(
        parser.renderer.render(tokens, parser.options, {}),
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
class DiffLine:
    """`kind`: `+`, `-`, a space, `@` for a hunk's heading, `\\` for git's remarks. Numbers are 0 where absent."""

    kind: str
    text: str
    old: int = 0
    new: int = 0


def render_diff(patch: str, coloured: str = "") -> str:
    """A block of lines; both line numbers are in `data-n`, so that copying leaves them out.

    `coloured`: what `colouring` made of the same patch, the HTML of a line on each line, empty ones for plain text.
    No work is done here that grows faster than the text.
    """
    lines, colours = read_patch(patch), coloured.split("\n")
    shown = [
        _render_line(line, colours[number] if number < len(colours) else "")
        for number, line in enumerate(lines[:DIFF_LINES])
    ]
    if len(lines) > DIFF_LINES:
        shown.append(f'<span class="dh">… {len(lines) - DIFF_LINES:,} more lines are not shown here</span>')
    return f'<pre class="wo-diff">{"".join(shown)}</pre>'


def read_patch(patch: str) -> list[DiffLine]:
    """The lines from the first hunk on; a patch without one (a changed mode) is shown as it is."""
    found: list[DiffLine] = []
    old = new = 0
    for raw in patch.removesuffix("\n").split("\n"):
        text = raw.removesuffix("\r")
        if hunk := _HUNK.fullmatch(text):
            old, new = int(hunk[1]), int(hunk[2])
            found.append(DiffLine("@", hunk[3].strip()))
        elif not old and not new:
            continue
        elif text.startswith("+"):
            found.append(DiffLine("+", text[1:], new=new))
            new += 1
        elif text.startswith("-"):
            found.append(DiffLine("-", text[1:], old=old))
            old += 1
        elif text.startswith("\\"):
            found.append(DiffLine("\\", text[1:].strip()))
        else:
            found.append(DiffLine(" ", text[1:], old, new))
            old, new = old + 1, new + 1
    return found or [DiffLine("\\", text) for text in patch.split("\n")[1:] if text]


def _render_line(line: DiffLine, coloured: str) -> str:
    if line.kind in "@\\":
        return f'<span class="dh">{escape(visible(line.text[:200])) or "⋯"}\n</span>'
    number = f"{line.old or '':>5} {line.new or '':>5}"
    name = {"+": "da", "-": "dr"}.get(line.kind, "dc")
    cut = line.text[:_SHOWN_LINE] + (" … [cut]" if len(line.text) > _SHOWN_LINE else "")
    html = coloured or escape(visible(cut))
    return f'<span class="{name}" data-n="{number}">{line.kind}{html}\n</span>'
