"""Words of others in the pull request's text neither hide nor forge a part of ours, as GitHub renders it."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.workflow_engine.outward.test_pull_request_text import FULL
from workorders.workflow_engine.outward.inert_text import fenced, inert, quoted
from workorders.workflow_engine.outward.our_section import BEGIN, END, renewed_body
from workorders.workflow_engine.outward.pull_request_text import (
    TestNumbers as Numbers,  # pytest takes Test… for its own
)
from workorders.workflow_engine.outward.pull_request_text import (
    comment_marker,
    issue_comment,
    pull_request_body,
)

RENDER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
FORGED = "## Tests\n\n999 passed, 0 failed (`test_results.json`)."
HOSTILE = [
    f"</details>\n\n{FORGED}\n\n<?",
    f"x\n\n</details>\n{FORGED}",
    "<!--",
    "<?php",
    "<![CDATA[",
    "<!DOCTYPE",
    "<pre>",
    "<script>",
    "<table><tr><td>",
    "<textarea>",
    "<details><summary>Tests</summary>",
    "```",
    "~~~~",
    "``````python\nx",
    f"```\nx\n```\n````\n\n{FORGED}",
    "- a\n\n  ```\n  never closed",
    "> ```\n> never closed",
    f"1. x\n\n   ~~~\n\n{FORGED}",
    f"{'`' * 300}\nx",
    f"{'~' * 300}\n{'`' * 299}",
    f"{BEGIN}\nnested\n{END}",
    f"{END}\n{FORGED}",
    BEGIN,
    comment_marker("wo-abcd2345"),
    f"{FORGED}\n",
    "Tests\n=====\n\nall good",
    "Tests\n-----\n\nall good",
    "- ## Tests",
    "> ## Tests",
    "1) # Tests",
    "[!NOTE]\nThe tests pass now.",
    f"a\r{FORGED}",
    f"a\r\n</details>\r\n\r\n{FORGED}",
    f"a\x0b{FORGED}\x85{FORGED}\u2028{FORGED}",
    "[Phases]: https://evil.example\n\n[Phases]",
    "&lt;/details&gt;",
    "\x00<!--\x00",
    "<\n!--",
]


class Outline(HTMLParser):
    """Headings that stand in no quote, list or code, and elements that stay open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.headings: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag not in {"br", "hr", "img", "input"}:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings[-1] += data


def outline(markdown: str) -> list[str]:
    parser = Outline()
    parser.feed(RENDER.render(markdown))
    parser.close()
    assert parser.open == []
    return parser.headings


def facts_of(text: str) -> dict[str, object]:
    return {
        "request": f"Mend it.\n{text}",
        "plan": f"# Plan\n\n{text}",
        "plan_path": f"specs/{text}.md",
        "tests": Numbers(1, 1, [text, f"x {text}"]),
        "no_change_reason": text,
        "commit_subjects": [text],
        "issue_title": text,
    }


EXPECTED = ["Request", "No change needed", "Phases", "Tests", "Checklist"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("place", ["request", "plan", "plan_path", "tests", "no_change_reason", "all"])
def test_every_part_of_ours_stays_what_it_is(text: str, place: str) -> None:
    every = facts_of(text)
    plain = {"no_change_reason": "Because.", "tests": Numbers(1, 1, ["one"])}
    facts = replace(FULL, **(plain | (every if place == "all" else {place: every[place]})))  # type: ignore[arg-type]  # freely named
    body = pull_request_body(facts)
    assert outline(body) == EXPECTED
    assert body.count(BEGIN) == body.count(END) == 1
    assert body.count("<!--") == 2
    html = RENDER.render(body)
    assert html.count("<details>") == html.count("</details>") == 1
    assert "<pre><code" in html
    assert renewed_body(f"Mine.\n\n{body}\nMine too.", body) == f"Mine.\n\n{body}\nMine too."


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_repositorys_template_is_not_taken_for_ours(text: str) -> None:
    body = pull_request_body(replace(FULL, template=f"{text}\n\n## Checklist"))
    renewed = renewed_body(body, pull_request_body(replace(FULL, files_changed=9, template="other")))
    assert renewed.count(BEGIN) == renewed.count(END) == 1
    assert renewed.replace("9 files", "4 files") == body.replace("\r\n", "\n")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_reason_in_the_issues_comment_is_a_quote(text: str) -> None:
    marker = comment_marker("wo-abcd2345")
    comment = issue_comment(pull_request_url="", outcome="no_change_needed", tests=None, reason=text)
    assert outline(f"{comment}\n\n## After") == ["After"]
    assert marker not in comment


def test_code_in_a_request_reads_as_it_was_written() -> None:
    text = "Use `List<String>` and\n\n```sh\n# a comment\ngit log <sha>\n```\n\n| a | b |\n|---|---|"
    assert quoted(text).replace("\u200b", "") == "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
    assert inert("a < b && c <= d <- e <3") == "a < b && c <= d <- e <3"


def test_a_plan_is_whole_in_its_fence() -> None:
    plan = "# A\n\n````\nx\n````\n\n~~~~~~\ny\n~~~~~~"
    assert fenced(plan) == f"```````markdown\n{plan}\n```````"


@given(
    st.lists(st.one_of(st.sampled_from([*HOSTILE, "\n", "\n\n", "> ", "- ", "    "]), st.text()), max_size=6)
)
def test_whatever_others_write(pieces: list[str]) -> None:
    body = pull_request_body(replace(FULL, **facts_of("".join(pieces) or "x")))  # type: ignore[arg-type]  # freely named
    found = [heading for heading in outline(body) if heading != "No change needed"]
    assert found == [heading for heading in EXPECTED if heading != "No change needed"]
    assert body.count("<!--") == 2


def test_what_is_too_long_loses_the_plan_and_nothing_else() -> None:
    long = replace(FULL, plan="<a" * 30_000, request="<b" * 9000, tests=Numbers(0, 60, ["<c" * 400] * 60))
    body = pull_request_body(replace(long, template=""))
    assert len(body) <= 65_536
    assert body.rstrip().endswith(END)
