"""Markdown and diffs of strangers: nothing dangerous comes out, whatever goes in."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workorders.text import diff_lines, markup
from workorders.workflow_engine.upkeep.colouring import colours_of

HOSTILE = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](data:text/html,x)",
        "[a](//evil.example)",
        "![i](https://evil.example/i.png)",
        "<a href='https://x' onclick='y' style='z'>",
        "```\n",
        "# ",
        "> ",
        "|a|\n|-|\n",
        "\x1b[31m",
        "\u202e",
        "\n",
        "<https://ok.example>",
        "&lt;script&gt;",
        '"',
        "'",
        "`",
        "**",
    ]
)
TEXTS = st.lists(st.one_of(HOSTILE, st.text(max_size=20)), max_size=12).map("".join)


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def coloured_diff(patch: str, path: str) -> str:
    return markup.render_diff(patch, colours_of(path, patch))


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_markdown_leaves_only_harmless_tags(text: str) -> None:
    html = markup.render_markdown(text)
    for tag, attributes in Seen(html).tags:
        assert tag not in {"script", "img", "iframe", "style", "h1", "h2", "form", "svg"}
        assert set(attributes) <= {"href", "title", "rel", "start"}
        if attributes.get("href"):
            assert str(attributes["href"]).lower().startswith("https://")
            assert {"nofollow", "noopener"} <= set(str(attributes["rel"]).split())
    assert "\u202e" not in html
    assert "\x1b" not in html


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from(["x.py", "x.html", "x.unknown", "Makefile", "a/b.json"]))
def test_a_diff_is_spans_of_known_classes(text: str, path: str) -> None:
    lines = [f"{'+- '[number % 3]}{line}" for number, line in enumerate(text.split("\n"))]
    html = coloured_diff("diff --git a/x b/x\n@@ -1,3 +1,3 @@ x\n" + "\n".join(lines) + "\n", path)
    for tag, attributes in Seen(html).tags:
        assert tag in {"pre", "span"}
        assert set(attributes) <= {"class", "data-n"}
    assert "\u202e" not in html
    assert "\x1b" not in html


def test_markdown_is_rendered() -> None:
    html = markup.render_markdown("# Plan\n\nSee [docs](https://example.org).\n\n|a|\n|-|\n|1|\n")
    assert "<h3>Plan</h3>" in html
    assert '<a href="https://example.org" rel="nofollow noopener noreferrer">docs</a>' in html
    assert "<table>" in html


@pytest.mark.parametrize("text", ["> " * 5000, "[" * 20_000, "*a_ " * 10_000, "- a\n" * 20_000, "`" * 30_000])
@pytest.mark.timeout(20)
def test_markdown_of_pathological_text_ends(text: str) -> None:
    assert len(markup.render_markdown(text)) < 2_000_000


def test_a_diff_has_numbers_signs_and_colours() -> None:
    html = coloured_diff("diff --git a/x b/x\n@@ -4,2 +4,2 @@ def f\n a\n-return 1\n+return 2\n", "x.py")
    assert '<span class="dh">def f\n</span>' in html
    assert '<span class="dc" data-n="    4     4"> a\n</span>' in html
    assert '<span class="dr" data-n="    5      ">-<span class="k">return</span> ' in html
    assert '<span class="da" data-n="          5">+<span class="k">return</span> ' in html


def test_a_token_over_several_lines_is_closed_on_each() -> None:
    html = coloured_diff('diff --git a/x b/x\n@@ -0,0 +1,3 @@\n+"""one\n+two\n+three"""\n', "x.py")
    assert len(re.findall(r'\+<span class="s">[^<]+</span>\n</span>', html)) == 3


def test_what_hides_in_code_is_made_visible() -> None:
    html = coloured_diff("diff --git a/x b/x\n@@ -0,0 +1 @@\n+a\u202eb\u200bc\x1b[0m\n", "x.py")
    assert "⟦U+202E⟧" in html
    assert "⟦U+200B⟧" in html
    assert "⟦U+001B⟧" in html


def test_a_diff_is_bounded() -> None:
    html = markup.render_diff("diff --git a/x b/x\n@@ -0,0 +1,9 @@\n" + "+x\n" * 9000)
    assert html.count("<span") == markup.DIFF_LINES + 1
    assert "… 5,001 more lines are not shown here" in html
    exact = markup.render_diff("diff --git a/x b/x\n@@ -0,0 +1,9 @@\n" + "+x\n" * (markup.DIFF_LINES - 1))
    assert "more lines" not in exact
    html = markup.render_diff("diff --git a/x b/x\n@@ -0,0 +1 @@\n+" + "x" * 100_000 + "\n")
    assert len(html) < 5000


def test_a_diff_costs_what_is_shown_of_it() -> None:
    head = "diff --git a/x b/x\n@@ -0,0 +1,9 @@\n"

    def spent(patch: str) -> float:
        started = time.process_time()
        markup.render_diff(patch)
        return time.process_time() - started

    shown, long = head + "+\n" * markup.DIFF_LINES, head + "+\n" * 100_000
    assert min(spent(long) for _ in range(5)) < 4 * min(spent(shown) for _ in range(5))


@pytest.mark.parametrize("text", ["a\n\n" * 13_000, "- x\n" * 10_000, "> x\n\n" * 7000])
def test_as_many_lines_of_markdown_are_read_as_people_read(text: str) -> None:
    html = markup.render_markdown(text)
    assert html.endswith("<p>… [cut]</p>")
    assert html.count("\n") < 3 * markup.MARKDOWN_LINES
    assert "[cut]" not in markup.render_markdown("a\n" * markup.MARKDOWN_LINES)


def test_tables_of_thousands_of_cells_stay_text() -> None:
    row = "|" + "a|" * 90 + "\n"
    head = row + "|" + "-|" * 90 + "\n"
    assert "<table" in markup.render_markdown(head + row * 20)
    assert "<table" not in markup.render_markdown(head + row * 200)


def test_a_patch_without_lines_shows_its_headers() -> None:
    html = markup.render_diff("diff --git a/x b/x\nold mode 100644\nnew mode 100755\n")
    assert "old mode 100644" in html


def test_plain_keeps_lines_and_tabs() -> None:
    assert diff_lines.plain("a\n\tb\x1b[31m\x07\u2066c\ue000") == "a\n\tbc"


@pytest.mark.parametrize(
    "plan",
    [
        "![" * 20_000,
        "_![" * 14_000,
        "[\n" * 20_000,
        "*[a][" * 8000,
        "|a" * 300 + "|\n" + "|-" * 300 + "|\n" + "|a\n" * 13_000,
        "|a" * 5000 + "|\n" + "|-" * 5000 + "|\n" + "|\n" * 10_000,
    ],
    ids=range(6),
)
def test_a_plan_made_to_be_slow_is_shown_all_the_same(plan: str) -> None:
    started = time.process_time()
    html = markup.render_markdown(plan)
    assert time.process_time() - started < 0.7
    assert len(html) < 400_000
    assert "a" in html or "[" in html


def test_a_plan_with_many_links_and_tables_keeps_them() -> None:
    html = markup.render_markdown(
        "[a](https://example.com)\n" * 1500 + "\n" + "|a" * 90 + "|\n" + "|-" * 90 + "|\n"
    )
    assert html.count("<a ") == 1500
    assert html.count("<th>") == 90
