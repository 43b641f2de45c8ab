"""The pull request's texts: what they say, and that strangers' words in them notify and close nothing."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workorders.domain.states import AgentWorkOrderOutcome
from workorders.workflow_engine.outward.our_section import DRAFT_NOTE
from workorders.workflow_engine.outward.pull_request_text import (
    PhaseSummary,
    PullRequestFacts,
    comment_marker,
    harmless,
    issue_comment,
    pull_request_body,
    pull_request_title,
    renewed_body,
)
from workorders.workflow_engine.outward.pull_request_text import (
    TestNumbers as Numbers,  # pytest takes Test… for its own
)

FACTS = PullRequestFacts(
    agent_work_order_id="wo-abcd2345",
    request="Add a spoon.\nA silver one.",
    issue_number="",
    issue_title="",
    phases=(PhaseSummary("Plan", 1, 1, 61.4), PhaseSummary("Implementation", 3, 2, 5)),
    files_changed=4,
    lines_added=30,
    lines_removed=2,
)
FULL = replace(
    FACTS,
    issue_number="42",
    issue_title="There is no spoon",
    plan_path="specs/plan.md",
    plan="# Plan: A spoon\n\nMelt silver.",
    tests=Numbers(7, 0),
    template="## Checklist\n\n- [ ] I read it",
)
# As GitHub reads rendered text: a mention, and a keyword that closes an issue.
MENTION = re.compile(r"(?<![A-Za-z0-9])(?:@|&#0*64;|&#x0*40;|&commat;)[a-z0-9]", re.IGNORECASE)
CLOSING = re.compile(
    r"\b(close[sd]?|fix(es|ed)?|resolve[sd]?)\s*:?\s*([\w.-]+/[\w.-]+#\d|#\d|gh-\d|https?://)", re.IGNORECASE
)
MENTIONS = [
    "@octocat",
    "Hi @octo/team, see",
    "`@octocat",
    "`@octocat`",
    "_@octocat_",
    "é@octocat",
    "(@octocat)",
    "@1up",
    "&#64;octocat",
    "&#x40;octocat",
    "&commat;octocat",
]
CLOSINGS = [
    f"{verb}{middle}{target}"
    for verb in ("Close", "closes", "CLOSED", "fix", "Fixes", "fixed", "resolve", "Resolves", "resolved")
    for middle in (" ", ": ", ":", "\n", "  ")
    for target in ("#1", "octo/spoon#1", "GH-1", "https://github.com/octo/spoon/issues/1")
]


# --- the title ---


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"issue_number": "42", "issue_title": "No spoon", "plan": "# A spoon"}, "#42: No spoon"),
        ({"plan": "Intro\n# Plan: A spoon\n# Other"}, "A spoon"),
        ({"plan": "# Specification – A spoon"}, "A spoon"),
        ({"plan": "## Only a second level"}, "Add a spoon."),
        ({"plan": "# Plan:  "}, "Add a spoon."),
        ({}, "Add a spoon."),
        ({"issue_number": "42", "issue_title": " \n"}, "#42: Add a spoon."),
        ({"request": " \n", "commit_subjects": ["", " \t", "Silver it"]}, "Silver it"),
        ({"request": ""}, "Work order wo-abcd2345"),
        ({"request": "\x00\x1b"}, "Work order wo-abcd2345"),
        ({"request": "\n\n  a\tb   c \r\nd"}, "a b c"),
        (
            {"issue_number": "42", "issue_title": "one\ntwo\u2028three\u202e\x00four"},
            "#42: one two three four",
        ),
    ],
)
def test_the_title_is_the_first_that_says_something(changes: dict[str, object], title: str) -> None:
    assert pull_request_title(replace(FACTS, **changes)) == title  # type: ignore[arg-type]  # a test names fields freely


def test_a_long_title_is_cut_visibly() -> None:
    assert pull_request_title(replace(FACTS, request="x" * 120)) == "x" * 120
    title = pull_request_title(replace(FACTS, issue_number="42", issue_title="spoon " * 100))
    assert len(title) <= 120
    assert title.startswith("#42: spoon spoon")
    assert title.endswith("spoon…")


def test_a_title_closes_nothing_when_it_becomes_a_commit() -> None:
    title = pull_request_title(replace(FACTS, issue_number="42", issue_title="Fixes #7 for @octocat"))
    assert not CLOSING.search(title)
    assert not MENTION.search(title)
    assert title.replace("\u200b", "") == "#42: Fixes #7 for @octocat"


# --- the body ---


def test_the_body_has_every_part_in_order() -> None:
    body = pull_request_body(FULL)
    parts = [
        "## Request\n\n> Add a spoon.\n> A silver one.",
        "## Phases",
        "| Plan | 1 | 1 | 1 min 1 s |",
        "| Implementation | 3 | 2 | 0 min 5 s |",
        "4 files changed, 30 lines added, 2 removed.",
        "## Tests\n\n7 passed, 0 failed (`test_results.json`).",
        "\nCloses #42\n",
        "<sub>Work order `wo-abcd2345`</sub>\n\n",
        "<details><summary>Plan (<code>specs/plan.md</code>)</summary>\n\n````markdown\n# Plan: A spoon",
        "Melt silver.\n````\n\n</details>\n<!-- work-order: end -->",
        "\n## Checklist\n\n- [ ] I read it\n",
    ]
    places = [body.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)
    assert "WARNING" not in body


def test_a_renewed_text_keeps_what_people_wrote_around_ours() -> None:
    first = pull_request_body(FULL)
    edited = f"Before.\r\n{first.replace('[ ]', '[x]')}After."
    fresh = pull_request_body(replace(FULL, files_changed=9, request="<!-- work-order: end --> gone?"))
    renewed = renewed_body(edited, fresh)
    assert renewed.startswith("Before.\n<!-- work-order: begin -->")
    assert renewed.endswith("- [x] I read it\nAfter.")
    assert "9 files changed" in renewed
    assert "4 files changed" not in renewed
    assert renewed_body(renewed, fresh) == renewed
    assert renewed_body("Somebody took ours out.", fresh).startswith("Somebody took ours out.\n\n<!-- work")
    assert "Mark this draft as ready" in renewed_body(first, fresh, note=DRAFT_NOTE)


def test_absent_parts_leave_no_heading() -> None:
    body = pull_request_body(replace(FACTS, request=" "))
    for word in ("## Request", "<details>", "## Tests", "Closes", "No change needed"):
        assert word not in body


def test_failing_tests_are_said_first_and_by_name() -> None:
    body = pull_request_body(replace(FULL, tests=Numbers(5, 2, ["test_bend", "test @octocat\nfixes #1"])))
    assert body.startswith("<!-- work-order: begin -->\n> [!WARNING]\n> **2 tests fail.**")
    assert "5 passed, 2 failed" in body
    assert "- ❌ test_bend\n" in body
    assert not MENTION.search(body)
    assert "\nfixes" not in body


def test_many_failures_are_listed_up_to_a_bound() -> None:
    body = pull_request_body(replace(FULL, tests=Numbers(0, 500, ["x" * 1000] * 500)))
    assert body.count("- ❌ ") == 50
    assert len(body) < 20_000


def test_no_change_needed_says_why_and_closes_nothing() -> None:
    body = pull_request_body(replace(FULL, no_change_reason="It is there already, @octocat.\nFixes #3"))
    assert "## No change needed\n\n> It is there already" in body
    assert not CLOSING.search(body)
    assert not MENTION.search(body)
    assert len(pull_request_body(replace(FULL, no_change_reason="x" * 100_000))) < 10_000


@pytest.mark.parametrize("text", MENTIONS)
def test_strangers_mention_nobody(text: str) -> None:
    facts = replace(
        FULL,
        request=text,
        plan=text,
        plan_path=f"specs/{text}.md",
        tests=Numbers(0, 1, [text]),
        no_change_reason=text,
    )
    assert not MENTION.search(pull_request_body(facts))


@pytest.mark.parametrize("text", CLOSINGS)
def test_strangers_close_nothing_but_our_own_line_stays(text: str) -> None:
    facts = replace(FULL, request=text, plan=text, plan_path=f"specs/{text}.md", tests=Numbers(0, 1, [text]))
    assert [found.group() for found in CLOSING.finditer(pull_request_body(facts))] == ["Closes #4"]


@pytest.mark.parametrize(
    "text", ["mail me at ann@example.org", "see #12", "a prefix#1", "It is closed.", "disclose #1"]
)
def test_other_words_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize(
    "plan",
    [
        "# Spoon\n\n```python\nbend()\n" + "x" * 30_000 + "\n```\n",
        "~~~~\nnever closed",
        "<!-- never closed",
        "```\n~~~\n```\n````\n",
    ],
)
def test_a_plan_cannot_swallow_what_follows_it(plan: str) -> None:
    body = pull_request_body(replace(FULL, plan=plan))
    assert body.count("<!--") == 2, "only our own marks"
    open_fence = ""
    for line in body.partition("</details>")[0].splitlines():
        if found := re.match(r"(`{3,}|~{3,})", line):
            if not open_fence:
                open_fence = found[1]
            elif found[1].startswith(open_fence):
                open_fence = ""
    assert open_fence == ""


def test_a_closed_block_stays_as_it_is() -> None:
    plan = "# Spoon\n\n```python\n@property\n```\n\nDone."
    assert "```python\n@\u200bproperty\n```\n\nDone.\n````\n\n</details>" in pull_request_body(
        replace(FULL, plan=plan)
    )


def test_a_path_is_text_not_markup() -> None:
    body = pull_request_body(replace(FULL, plan_path="specs/</code></summary><b>\n\n# x.md"))
    assert "<code>specs/&lt;/code&gt;&lt;/summary&gt;&lt;b&gt; # x.md</code>" in body


# --- the comment ---


@pytest.mark.parametrize(
    ("outcome", "tests", "words"),
    [
        (AgentWorkOrderOutcome.PULL_REQUEST_OPENED, None, "ready for review: https://x/1."),
        (AgentWorkOrderOutcome.PULL_REQUEST_OPENED, Numbers(3, 0), "ready for review: https://x/1."),
        (AgentWorkOrderOutcome.TESTS_FAILED, Numbers(3, 2), "draft pull request for this issue is open"),
        (AgentWorkOrderOutcome.TESTS_FAILED, Numbers(3, 2), "(2 tests fail)."),
        (AgentWorkOrderOutcome.TESTS_FAILED, Numbers(3, 1), "(1 test fails)."),
        (
            AgentWorkOrderOutcome.NO_CHANGE_NEEDED,
            None,
            "no change is needed; its reasons are in https://x/1.",
        ),
    ],
)
def test_the_issue_hears_how_it_ended(
    outcome: AgentWorkOrderOutcome, tests: Numbers | None, words: str
) -> None:
    assert words in issue_comment(pull_request_url="https://x/1", outcome=outcome, tests=tests)


def test_the_marker_is_invisible_and_the_orders_own() -> None:
    assert comment_marker("wo-abcd2345") == "<!-- work-order: wo-abcd2345 -->"


# --- whatever the texts are ---

wild = st.lists(
    st.one_of(st.sampled_from([*MENTIONS, *CLOSINGS, "\n", "# ", "```\n", "<!--"]), st.text()), max_size=5
)
text = wild.map("".join)
facts_of_any_text = st.builds(
    PullRequestFacts,
    agent_work_order_id=st.just("wo-abcd2345"),
    request=text,
    issue_number=st.sampled_from(["", "42"]),
    issue_title=text,
    phases=st.lists(
        st.builds(
            PhaseSummary,
            title=st.sampled_from(["Plan", "Follow-up"]),
            commits=st.integers(0, 999),
            attempts=st.integers(1, 9),
            duration_seconds=st.floats(0, 1e6),
        ),
        max_size=3,
    ),
    plan_path=text,
    plan=text,
    tests=st.none()
    | st.builds(Numbers, passed=st.integers(0), failed=st.integers(0), failures=st.lists(text, max_size=3)),
    commit_subjects=st.lists(text, max_size=3),
    no_change_reason=text,
)


@given(facts_of_any_text)
def test_a_title_is_one_short_line(facts: PullRequestFacts) -> None:
    title = pull_request_title(facts)
    assert 1 <= len(title) <= 120
    assert title == title.strip() != ""
    assert len(title.splitlines()) == 1
    assert title.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f]", title)


@given(facts_of_any_text)
def test_a_body_notifies_and_closes_nothing_of_strangers(facts: PullRequestFacts) -> None:
    body = pull_request_body(facts)
    assert not MENTION.search(body)
    ours = 1 if facts.issue_number and not facts.no_change_reason else 0
    assert len(CLOSING.findall(body)) == ours
