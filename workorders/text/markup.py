"""Text of strangers as HTML: Markdown, sanitised, and unified diffs.

Pure: text in, HTML text out. Everything that goes in was written by an agent or found in a repository, so all
of it is bounded, and nothing comes out but a short list of tags and own classes. Must not know rows or pages.
"""

from functools import lru_cache
from html import escape
from itertools import islice

import nh3
from markdown_it import MarkdownIt

from workorders.text.diff_lines import DiffLine, lines_of, plain, visible

MARKDOWN_CHARACTERS = 40_000
MARKDOWN_LINES = 2000
DIFF_LINES = 4000
_SHOWN_LINE = 2000

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
_MOST_BARS = 4000


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
        tables=text.count("|") <= _MOST_BARS
        and all(line.count("|") <= _MOST_BARS_IN_A_LINE for line in text.split("\n")),
    )


@lru_cache(maxsize=64)
def render_markdown(text: str) -> str:
    """Sanitised HTML: no images, no raw HTML, links only to https; headings start at the third level.

    A page waits for it, so that only as much is read as people read: characters, and lines, each of which is a block.
    """
    shown = plain(text[: 4 * MARKDOWN_CHARACTERS])[:MARKDOWN_CHARACTERS]
    lines = shown.removesuffix("\n").split("\n", MARKDOWN_LINES)
    cut = "\n".join(lines[:MARKDOWN_LINES])
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
    is_whole = len(text) <= MARKDOWN_CHARACTERS and len(lines) <= MARKDOWN_LINES
    return html if is_whole else f"{html}<p>… [cut]</p>"


def _only_https(_tag: str, attribute: str, value: str) -> str | None:
    return None if attribute == "href" and not value.lower().startswith("https://") else value


def render_diff(patch: str, coloured: str = "") -> str:
    """A block of lines; both line numbers are in `data-n`, so that copying leaves them out.

    `coloured`: what `colouring` made of the same patch, the HTML of a line on each line, empty ones for plain text.
    No work is done here that grows faster than the text.
    """
    colours = coloured.split("\n")
    shown = [
        _render_line(line, colours[number] if number < len(colours) else "")
        for number, line in enumerate(islice(lines_of(patch), DIFF_LINES))
    ]
    if more := _lines_after(patch, DIFF_LINES) if len(shown) == DIFF_LINES else 0:
        shown.append(f'<span class="dh">… {more:,} more lines are not shown here</span>')
    return f'<pre class="wo-diff">{"".join(shown)}</pre>'


def _lines_after(patch: str, number: int) -> int:
    """How many there are from the first hunk on beyond so many, without a look at each."""
    hunks = patch[patch.find("\n@@ ") + 1 :]
    return max(0, hunks.removesuffix("\n").count("\n") + 1 - number)


def _render_line(line: DiffLine, coloured: str) -> str:
    if line.kind in "@\\":
        return f'<span class="dh">{escape(visible(line.text[:200])) or "⋯"}\n</span>'
    number = f"{line.old or '':>5} {line.new or '':>5}"
    name = {"+": "da", "-": "dr"}.get(line.kind, "dc")
    cut = line.text[:_SHOWN_LINE] + (" … [cut]" if len(line.text) > _SHOWN_LINE else "")
    html = coloured or escape(visible(cut))
    return f'<span class="{name}" data-n="{number}">{line.kind}{html}\n</span>'
