"""The pull request's title and body, and the comment on the issue. Pure text from what git and the rows say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sandboxes.sweep.rules import LeftOut, sentences
from workorders.domain.states import AgentWorkOrderOutcome
from workorders.text.wording import counted, results_in_words
from workorders.workflow_engine.outward.inert_text import fenced, inert, quoted
from workorders.workflow_engine.outward.inert_text import harmless as harmless
from workorders.workflow_engine.outward.our_section import (
    MOST_CHARACTERS,
    PLAN_BEGINS,
    section,
    without_marks,
    without_plan,
)
from workorders.workflow_engine.outward.our_section import renewed_body as renewed_body

_MAX_TITLE = 120
_MAX_PLAN = 20_000
_MAX_REASON = 4000
_UNWANTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MARKUP = re.compile(r"([\\`*_\[\]()!|~#])")


@dataclass(frozen=True)
class PhaseSummary:
    """One phase as the pull request tells it."""

    title: str
    commits: int
    attempts: int
    duration_seconds: float


@dataclass(frozen=True)
class TestNumbers:
    """The test phase's numbers and the names of what failed.

    `stale_sha`: the commit they are of, where the branch holds something else by now, `commits_since` that many later.
    """

    passed: int
    failed: int
    failures: Sequence[str] = ()
    stale_sha: str = ""
    commits_since: int | None = None

    @property
    def failing(self) -> str:
        """What is wrong, in words; of a commit that is not the newest any more, in the past."""
        if not self.stale_sha:
            return _failing(self.failed)
        return results_in_words(0, self.failed, self.stale_sha, self.commits_since)


@dataclass(frozen=True)
class PullRequestFacts:
    """Everything the texts are made of. `plan` is Markdown from the order's commit."""

    agent_work_order_id: str
    request: str
    issue_number: str
    issue_title: str
    phases: Sequence[PhaseSummary]
    plan_path: str = ""
    plan: str = ""
    tests: TestNumbers | None = None
    commit_subjects: Sequence[str] = ()
    files_changed: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    no_change_reason: str = ""
    template: str = ""
    left_out: Sequence[LeftOut] = ()
    issue_state: str = ""

    @property
    def is_unfinished(self) -> bool:
        """Whether something an agent began is not in it, so that it is no more than a draft."""
        return any(item.makes_draft for item in self.left_out)

    @property
    def is_no_more_than_a_draft(self) -> bool:
        """Whether nobody should merge it yet."""
        return self.is_unfinished or bool(self.tests and self.tests.failed)


def pull_request_title(facts: PullRequestFacts) -> str:
    """The issue's title, else the plan's heading, else the request's first line; never empty."""
    heading = next((line[2:] for line in facts.plan.splitlines() if line.startswith("# ")), "")
    request = facts.request.strip().partition("\n")[0]
    choices = (facts.issue_title, _without_label(heading), request, *facts.commit_subjects)
    subject = next(filter(None, map(_one_line, choices)), f"Work order {facts.agent_work_order_id}")
    text = f"#{facts.issue_number}: {harmless(subject)}" if facts.issue_number else harmless(subject)
    return text if len(text) <= _MAX_TITLE else text[: _MAX_TITLE - 1].rstrip() + "…"


def _one_line(text: str) -> str:
    return " ".join(_UNWANTED.sub(" ", text).split())


def _without_label(heading: str) -> str:
    return re.sub(r"^(plan|specification)\s*[:–-]\s*", "", heading.strip(), flags=re.IGNORECASE)


def pull_request_body(facts: PullRequestFacts) -> str:
    """Our section, summary first and plan last; then the repository's own template, for people.

    Nothing that others wrote in it can hide or forge a part of ours.
    """
    parts = []
    if facts.tests is not None and facts.tests.failed:
        parts.append(f"> [!WARNING]\n> **{facts.tests.failing}.** It is not ready to merge.")
    if facts.is_unfinished:
        parts.append(
            "> [!WARNING]\n> **Something was left unfinished, see below.** It is not ready to merge."
        )
    if facts.request.strip():
        parts.append("## Request\n\n" + quoted(facts.request.strip()[:4000]))
    if facts.no_change_reason:
        parts.append("## No change needed\n\n" + quoted(facts.no_change_reason.strip()[:_MAX_REASON]))
    parts.append(_phase_table(facts))
    if facts.tests is not None:
        parts.append(_tests(facts.tests))
    if told := sentences(facts.left_out):
        lines = "\n".join(f"- {_plain(line)}" for line in told)
        parts.append(f"## Left out of this pull request\n\n{lines}")
    if facts.issue_number and not facts.no_change_reason:
        parts.append(_issue_line(facts))
    parts.append(f"<sub>Work order `{facts.agent_work_order_id}`</sub>")
    if facts.plan:
        path = escape(harmless(_one_line(facts.plan_path)))
        plan = fenced(_cut(facts.plan.strip()))
        parts.append(f"{PLAN_BEGINS}<code>{path}</code>)</summary>\n\n{plan}\n\n</details>")
    ours = section(parts)
    if len(ours) > MOST_CHARACTERS:
        ours = without_plan(ours)
    theirs = f"\n\n{without_marks(facts.template.strip())}" if facts.template.strip() else ""
    return f"{ours}{theirs}\n"


def _cut(plan: str) -> str:
    return plan if len(plan) <= _MAX_PLAN else f"{plan[:_MAX_PLAN]}\n[… cut here; the file has all of it]"


def _issue_line(facts: PullRequestFacts) -> str:
    if facts.issue_state == "closed":
        return f"For #{facts.issue_number}, which was closed already when the work began."
    return f"Closes #{facts.issue_number}"


def _plain(line: str) -> str:
    """A line with names of an agent's in it, as nothing but text."""
    return _MARKUP.sub(r"\\\1", escape(harmless(_one_line(line)), quote=False))


def _failing(tests: int) -> str:
    return "1 test fails" if tests == 1 else f"{tests} tests fail"


def issue_comment(
    *,
    pull_request_url: str,
    outcome: str,
    tests: TestNumbers | None,
    reason: str = "",
    is_unfinished: bool = False,
    is_draft: bool = True,
) -> str:
    """What the issue's readers learn: the link, or why there is none, and whether tests fail.

    `is_draft`: whether one that is not ready to merge is a draft, which a person may have ended.
    """
    if not pull_request_url:
        why = f"\n\n{quoted(reason.strip()[:_MAX_REASON])}" if reason.strip() else ""
        return f"The agent found that no change is needed, so there is no pull request.{why}"
    text = f"A pull request for this issue is ready for review: {pull_request_url}"
    opened = f"A {'draft ' if is_draft else ''}pull request for this issue is open: {pull_request_url}"
    if is_unfinished:
        text = f"{opened} (something was left unfinished)"
    if outcome == AgentWorkOrderOutcome.TESTS_FAILED and tests is not None:
        text = f"{opened} ({tests.failing})"
    if outcome == AgentWorkOrderOutcome.NO_CHANGE_NEEDED:
        text = f"The agent found that no change is needed; its reasons are in {pull_request_url}"
    return text + "."


def comment_marker(agent_work_order_id: str) -> str:
    return f"<!-- work-order: {agent_work_order_id} -->"


def _phase_table(facts: PullRequestFacts) -> str:
    rows = ["## Phases", "", "| phase | commits | attempts | time |", "|---|---|---|---|"]
    for phase in facts.phases:
        minutes, seconds = divmod(round(phase.duration_seconds), 60)
        rows.append(f"| {phase.title} | {phase.commits} | {phase.attempts} | {minutes} min {seconds} s |")
    rows.append("")
    rows.append(
        f"{counted(facts.files_changed, 'file')} changed, {counted(facts.lines_added, 'line')} added, "
        f"{facts.lines_removed:,} removed."
    )
    return "\n".join(rows)


def _tests(tests: TestNumbers) -> str:
    numbers = f"{tests.passed} passed, {tests.failed} failed (`test_results.json`)."
    if tests.stale_sha:
        words = results_in_words(tests.passed, tests.failed, tests.stale_sha, tests.commits_since)
        numbers = f"<sub>{words}.</sub>"
    lines = ["## Tests", "", numbers]
    lines += [f"- ❌ {inert(_one_line(name))[:300]}" for name in list(tests.failures)[:50]]
    return "\n".join(lines)
