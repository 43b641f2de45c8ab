"""Our part of a pull request is exchanged where it is whole; a person's words stay, whatever became of the marks."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workflow_engine.outward.test_pull_request_text import FULL
from workorders.workflow_engine.outward.our_section import BEGIN, END, renewed_body
from workorders.workflow_engine.outward.pull_request_text import pull_request_body

FIRST = pull_request_body(replace(FULL, template=""))
NOTES = "\n\nMy notes, which matter.\n\n- [x] checked"


def fresh(number: int) -> str:
    return pull_request_body(replace(FULL, files_changed=number, template=""))


def damaged(change: Callable[[str], str]) -> str:
    return change(FIRST)


DAMAGE: dict[str, Callable[[str], str]] = {
    "end mark deleted, notes below": lambda text: text.replace(END, "") + NOTES,
    "begin mark deleted, notes above": lambda text: NOTES + text.replace(BEGIN, ""),
    "both deleted": lambda text: text.replace(END, "").replace(BEGIN, "") + NOTES,
    "everything deleted": lambda _text: NOTES,
    "swapped": lambda text: text.replace(BEGIN, "@").replace(END, BEGIN).replace("@", END) + NOTES,
    "begin edited": lambda text: text.replace(BEGIN, "<!-- work-order: begin (by robot) -->") + NOTES,
    "end edited": lambda text: text.replace(END, "<!-- work-order: end, more below -->") + NOTES,
    "end cut short": lambda text: text.replace(END, "<!-- work-order: end") + NOTES,
    "words on the mark's line": lambda text: text.replace(END, f"mine {END}") + NOTES,
    "a quote": lambda text: "\n".join(f"> {line}" for line in text.splitlines()) + NOTES,
    "in a fence": lambda text: f"Before it was\n\n`````\n{text}\n`````\n{NOTES}",
    "in a tilde fence": lambda text: f"~~~~~\n{text}\n~~~~~\n{NOTES}",
    "indented as code": lambda text: "\n".join(f"    {line}" for line in text.splitlines()) + NOTES,
    "in a fence never closed": lambda text: f"``````\n{text}{NOTES}",
    "fence of the plan deleted": lambda text: text.replace("\n````\n\n</details>", "\n\n</details>") + NOTES,
    "a fence opened above": lambda text: f"```\nmy code\n{text}{NOTES}",
    "a comment never closed": lambda text: text.replace(END, "") + f"{NOTES}\n<!-- later",
    "details never closed": lambda text: text.replace(END, "") + f"{NOTES}\n<details>\nmore",
    "CRLF and no end": lambda text: (text.replace(END, "") + NOTES).replace("\n", "\r\n"),
    "nested": lambda text: (
        text.replace("## Phases", f"{BEGIN}\n## Phases").replace(END, f"{END}\n{END}") + NOTES
    ),
    "begin twice": lambda text: f"{BEGIN}\nmine\n{text}{NOTES}",
    "end twice": lambda text: f"{text}\nmine\n{END}{NOTES}",
    "a whole copy": lambda text: f"{text}\n{text}{NOTES}",
    "only the begin mark": lambda _text: f"{NOTES}\n{BEGIN}",
    "only the end mark": lambda _text: f"{END}\n{NOTES}",
    "empty": lambda _text: "",
    "one line": lambda _text: "mine",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_persons_words_survive_any_number_of_follow_ups(name: str) -> None:
    text = damaged(DAMAGE[name])
    persons = [line for line in ("My notes, which matter.", "- [x] checked", "mine") if line in text]
    sizes = []
    for number in range(11, 15):
        text = renewed_body(text, fresh(number))
        for line in persons:
            assert line in text
        assert text.count(f"{number} files changed") == 1
        assert f"{number - 1} files changed" not in text
        assert renewed_body(text, fresh(number)) == text
        sizes.append(len(text))
    assert len(set(sizes)) == 1, "it was added once"


@pytest.mark.parametrize(
    "text",
    [
        f"Above.\n\n{FIRST}\nBelow.",
        f"Above.\n\n{FIRST}\nBelow.".replace("\n", "\r\n"),
        f"Above.\n{FIRST}".replace(BEGIN, f"{BEGIN}  ").replace(END, f"{END} \t"),
        f"```\nquoted: {BEGIN}\n{BEGIN}\n{END}\n```\n\n{FIRST}",
        f"{FIRST}\n\n> {BEGIN}\n> x\n> {END}\n",
        f"{FIRST}\n<details>\n\nmore",
    ],
    ids=range(6),
)
def test_a_whole_section_is_exchanged_in_its_place(text: str) -> None:
    renewed = renewed_body(text, fresh(77))
    assert "77 files changed" in renewed
    assert "4 files changed" not in renewed
    around = text.replace("\r\n", "\n").split("\n")
    kept = [line for line in around if line and line not in FIRST and line.strip() not in {BEGIN, END}]
    assert all(line in renewed.split("\n") for line in kept)
    assert renewed.count("## Phases") == 1


@pytest.mark.parametrize("fence", ["```", "~~~~", "````markdown"])
def test_marks_that_a_person_quotes_as_code_are_theirs(fence: str) -> None:
    quoted = f"{fence}\n{BEGIN}\nmine\n{END}\n{fence.removesuffix('markdown')}"
    text = renewed_body(f"{quoted}{NOTES}", FIRST)
    assert quoted in text
    assert renewed_body(text, fresh(7)).startswith(f"{quoted}{NOTES}")


def test_the_swallowing_of_notes_below_a_deleted_end_mark() -> None:
    """As it was found: two follow-ups after a person deleted the invisible end mark and wrote below."""
    text = FIRST.replace(END, "") + "\n\nMy notes."
    for number in (5, 6):
        text = renewed_body(text, fresh(number))
    assert "My notes." in text


def test_what_hides_is_below_our_section() -> None:
    for hiding in ("```\nmy code", "<!-- later", "<pre>", "<details>\n<summary>x</summary>"):
        text = renewed_body(f"Notes.\n\n{hiding}", fresh(5))
        assert text.startswith(BEGIN)
        assert text.endswith(hiding)


def test_a_text_without_room_is_left_as_it_is_and_one_with_little_loses_our_plan() -> None:
    full = "x" * 65_000
    assert renewed_body(full, FIRST) == full
    plan = pull_request_body(replace(FULL, plan="y" * 19_000, template=""))
    text = renewed_body("x" * 55_000, plan)
    assert "## Phases" in text
    assert "<details>" not in text
    assert text.startswith("x" * 55_000)
    assert renewed_body(text, plan) == text


pieces = st.lists(
    st.sampled_from(
        [
            BEGIN,
            END,
            f" {END}",
            "```",
            "~~~",
            "````md",
            "note",
            "",
            "> x",
            f"> {BEGIN}",
            "<!-- x",
            "-->",
            fresh(3),
        ]
    ),
    max_size=12,
)


@given(pieces)
def test_whatever_a_person_made_of_it(lines: list[str]) -> None:
    text = "\n".join(lines)
    once = renewed_body(text, fresh(8))
    assert once.count("8 files changed") == 1
    twice = renewed_body(once, fresh(9))
    assert twice == once.replace("8 files changed", "9 files changed")
