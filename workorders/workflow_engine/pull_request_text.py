"""The pull request's title and body, and the comment on the issue. Pure text from what git and the rows say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from workorders.states import AgentWorkOrderOutcome
from workorders.wording import counted, results_in_words

_BEGIN = "<!-- work-order: begin -->"
_END = "<!-- work-order: end -->"
_OURS = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_DRAFT_NOTE = "> [!NOTE]\n> The tests pass now. Mark this draft as ready for review."
_MAX_TITLE = 120
_MAX_PLAN = 20_000
_MAX_REASON = 4000
_MENTION = re.compile(r"(?<![A-Za-z0-9])(?:@|&#0*64;|&#x0*40;|&commat;)(?=[A-Za-z0-9])", re.IGNORECASE)
_CLOSING = re.compile(
    r"\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)(\s*:?\s*)(?=(?:[\w.-]+/[\w.-]+)?#\d|GH-\d|https?://)",
    re.IGNORECASE,
)
_UNWANTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)


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
    """Summary first, then plan, phases, tests, between two marks; then the repository's own template, for people."""
    parts = []
    if facts.tests is not None and facts.tests.failed:
        parts.append(f"> [!WARNING]\n> **{facts.tests.failing}.** It is not ready to merge.")
    if facts.request.strip():
        parts.append("## Request\n\n" + _quoted(facts.request.strip()[:4000]))
    if facts.no_change_reason:
        parts.append("## No change needed\n\n" + _quoted(facts.no_change_reason.strip()[:_MAX_REASON]))
    if facts.plan:
        plan = _contained(harmless(facts.plan.strip()[:_MAX_PLAN]))
        path = escape(harmless(_one_line(facts.plan_path)))
        parts.append(f"<details><summary>Plan (<code>{path}</code>)</summary>\n\n{plan}\n\n</details>")
    parts.append(_phase_table(facts))
    if facts.tests is not None:
        parts.append(_tests(facts.tests))
    if facts.issue_number and not facts.no_change_reason:
        parts.append(f"Closes #{facts.issue_number}")
    parts.append(f"<sub>Work order `{facts.agent_work_order_id}`</sub>")
    ours = "\n\n".join(parts).replace(_BEGIN, "").replace(_END, "")
    theirs = f"\n\n{facts.template.strip()}" if facts.template.strip() else ""
    return f"{_BEGIN}\n{ours}\n{_END}{theirs}\n"


def renewed_body(current: str, fresh: str, *, still_draft: bool = False) -> str:
    """A pull request's text with our part of it exchanged: what people wrote around it stays.

    `still_draft`: a draft whose tests pass now; only a person can mark it as ready.
    """
    current = current.replace("\r\n", "\n")  # GitHub's own editor ends lines as Windows does
    found = _OURS.search(fresh)
    ours = found[0] if found else fresh
    if still_draft:
        ours = ours.replace(_BEGIN, f"{_BEGIN}\n{_DRAFT_NOTE}\n", 1)
    place = _OURS.search(current)
    if place is None:
        return f"{current.rstrip()}\n\n{ours}\n".lstrip()
    return current[: place.start()] + ours + current[place.end() :]


def _failing(tests: int) -> str:
    return "1 test fails" if tests == 1 else f"{tests} tests fail"


def issue_comment(*, pull_request_url: str, outcome: str, tests: TestNumbers | None, reason: str = "") -> str:
    """What the issue's readers learn: the link, or why there is none, and whether tests fail."""
    if not pull_request_url:
        why = f"\n\n{_quoted(reason.strip()[:_MAX_REASON])}" if reason.strip() else ""
        return f"The agent found that no change is needed, so there is no pull request.{why}"
    text = f"A pull request for this issue is ready for review: {pull_request_url}"
    if outcome == AgentWorkOrderOutcome.TESTS_FAILED and tests is not None:
        text = f"A draft pull request for this issue is open: {pull_request_url} ({tests.failing})"
    if outcome == AgentWorkOrderOutcome.NO_CHANGE_NEEDED:
        text = f"The agent found that no change is needed; its reasons are in {pull_request_url}"
    return text + "."


def comment_marker(agent_work_order_id: str) -> str:
    return f"<!-- work-order: {agent_work_order_id} -->"


def harmless(text: str) -> str:
    """Text from an agent or a stranger: it notifies nobody and closes no other issue.

    Backticks protect nobody: an unclosed one is no code. Where it is code, an invisible character is added.
    """
    return _CLOSING.sub(r"\1\2​", _MENTION.sub("@​", text))


def _contained(markdown: str) -> str:
    """Markdown that cannot swallow what follows it: no comment left open, no code block (a cut may leave one)."""
    markdown = markdown.replace("<!--", "&lt;!--")
    fence = ""
    for found in _FENCE.finditer(markdown):
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence):
            fence = ""
    return f"{markdown}\n{fence}" if fence else markdown


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in harmless(text).splitlines())


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
    lines += [f"- ❌ {harmless(_one_line(name))[:300]}" for name in list(tests.failures)[:50]]
    return "\n".join(lines)
