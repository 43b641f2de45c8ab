"""Why an agent's run did not count: what each category means to a person, and the rules that find it. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType

from sandboxes.base import CommandExecutionResult
from sandboxes.processes.run import ExitReason
from workorders.agents.base import AgentFailure, ReportedResult, clean_text
from workorders.agents.base import AgentFailureCategory as Category
from workorders.agents.claude_code.model_limits import ahead, seconds_until_reset
from workorders.agents.claude_code.refusals import Refusal, explained_in_words, is_prose, refused_in_words
from workorders.agents.claude_code.stream import ResponseParser

_DETAIL_CHARACTERS = 500
_COMPARED_CHARACTERS = 1000  # less than is kept of a message


@dataclass(frozen=True)
class FailureText:
    """What a category means to a person, what to do once the order has failed, and whether trying again may help."""

    message: str
    advice: str
    retryable: bool


FAILURES: Mapping[Category, FailureText] = MappingProxyType(
    {
        Category.TIMED_OUT: FailureText(
            "The agent did not finish in the time allowed for a step.",
            "Ask for less at once, or raise WORKORDERS_AGENT_TIMEOUT_SECONDS, then retry.",
            False,
        ),
        Category.SILENT: FailureText(
            "The agent said nothing for too long and was ended.",
            "Retry; if it happens often, raise WORKORDERS_AGENT_SILENCE_SECONDS.",
            True,
        ),
        Category.LINGERED: FailureText(
            "The agent reported its result but did not exit.",
            "Look in the log for a program it left running, which may have kept it, then retry.",
            True,
        ),
        Category.CANCELLED: FailureText(
            "The agent was stopped.", "Nothing is wrong; retry the work order to go on.", False
        ),
        Category.MODEL_UNREACHABLE: FailureText(
            "The agent made no progress: it only reported failed calls to the model.",
            "Check the network to the model and its status page, then retry.",
            True,
        ),
        Category.NOT_LOGGED_IN: FailureText(
            "The model's API refused the credential.",
            "Set a valid ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN for the workers, then retry.",
            False,
        ),
        Category.ACCOUNT_REFUSED: FailureText(
            "The model's provider refuses the account: its credit, its standing, its rights or its region.",
            "Whoever owns the model's account must act; the message has the provider's words. Then retry.",
            False,
        ),
        Category.MODEL_OVERLOADED: FailureText(
            "The model's API is overloaded or failing.",
            "See the provider's status page, and retry once the model answers.",
            True,
        ),
        Category.RATE_LIMITED: FailureText(
            "The model's usage limit is reached.",
            "Raise the limit, or run fewer orders at once, then retry.",
            True,
        ),
        Category.REQUEST_REJECTED: FailureText(
            "The model's API rejected the request.",
            "Check WORKORDERS_AGENT_MODEL, the account's access to it and the request's size, then retry.",
            False,
        ),
        Category.BUDGET_EXCEEDED: FailureText(
            "The agent used up the step's budget.",
            "Ask for less at once, or raise WORKORDERS_AGENT_BUDGET_USD, then retry.",
            False,
        ),
        Category.TURN_LIMIT: FailureText(
            "The agent reached its limit of turns.", "Ask for less at once, then retry.", False
        ),
        Category.SESSION_UNUSABLE: FailureText(
            "The agent's earlier session cannot be continued here.",
            "Retry: the step starts with a fresh session and what git holds.",
            True,
        ),
        Category.NO_RESULT: FailureText(
            "The agent ended without reporting a result.",
            "Read its last words in the log and run `manage.py doctor`, then retry.",
            True,
        ),
        Category.RESULT_TOO_LONG: FailureText(
            "The agent's result was too long to be read to its end, so that it is not known whether it went well.",
            "Ask for a short final answer, then retry: what was committed is kept.",
            False,
        ),
        Category.KILLED: FailureText(
            "The agent was killed from outside, as when memory runs out.",
            "Check the worker's memory and WORKORDERS_WORKERS, then retry.",
            True,
        ),
        Category.REPORTED_ERROR: FailureText(
            "The agent reported an error.",
            "Read the message, change the request if need be, then retry.",
            False,
        ),
        Category.EXIT_CODE: FailureText(
            "The agent reported a good result but exited with an error.",
            "Read its last words in the log, then retry.",
            True,
        ),
        Category.PERMISSION_DENIED: FailureText(
            "Every action the agent tried was denied to it.",
            "Look for managed settings that forbid bypassPermissions on the worker's machine.",
            False,
        ),
        Category.MISSING: FailureText(
            "The agent's program could not be started.",
            "Install it on every worker machine or correct WORKORDERS_AGENT_COMMAND; see `manage.py doctor`.",
            False,
        ),
    }
)

if missing := set(Category) - set(FAILURES):
    raise RuntimeError(f"No advice for agent failures: {sorted(missing)}")

_BY_REASON: Mapping[ExitReason, Category] = {
    ExitReason.STOPPED: Category.CANCELLED,
    ExitReason.TIMED_OUT: Category.TIMED_OUT,
    ExitReason.SILENT: Category.SILENT,
    ExitReason.LINGERED: Category.LINGERED,
}
_BY_SUBTYPE: Mapping[str, Category] = {
    "error_max_budget_usd": Category.BUDGET_EXCEEDED,
    "error_max_turns": Category.TURN_LIMIT,
}
_BY_STATUS: Mapping[int, Category] = {
    400: Category.REQUEST_REJECTED,
    401: Category.NOT_LOGGED_IN,
    402: Category.ACCOUNT_REFUSED,
    403: Category.REQUEST_REJECTED,
    404: Category.REQUEST_REJECTED,
    408: Category.MODEL_OVERLOADED,
    413: Category.REQUEST_REJECTED,
    422: Category.REQUEST_REJECTED,
    429: Category.RATE_LIMITED,
}
_PASSING = frozenset({Category.RATE_LIMITED, Category.MODEL_OVERLOADED})
_LEFT_TO_PEOPLE = frozenset({Category.ACCOUNT_REFUSED, Category.NOT_LOGGED_IN})
# What git's evidence does not outweigh, even if a good result was reported before.
_NEVER_EXCUSED = frozenset({Category.CANCELLED, Category.MISSING, Category.PERMISSION_DENIED})
# What an agent says when it does not know, or does not tell, why the model did not answer it.
_UNEXPLAINED = frozenset(
    {
        Category.REPORTED_ERROR,
        Category.EXIT_CODE,
        Category.NO_RESULT,
        Category.RESULT_TOO_LONG,
        Category.MODEL_UNREACHABLE,
    }
)
_BY_GATEWAY: tuple[tuple[str, Category], ...] = (
    ("Work Orders: the step's budget", Category.BUDGET_EXCEEDED),
    ("Work Orders: no credential for the model", Category.NOT_LOGGED_IN),
    ("Work Orders: the model's API cannot be reached", Category.MODEL_UNREACHABLE),
)
_CANNOT_START_CODES = frozenset({126, 127})  # what a shell and `env` say; bwrap says 1 and these words
_CANNOT_START_WORDS = ("bwrap: execvp", "prlimit: failed to execute", "choom: failed to execute")
_KILLED_CODES = frozenset(
    {137, 139, 143, 134}
)  # 128 + KILL, SEGV, TERM, ABRT, as a shell or bwrap reports them


@dataclass(frozen=True)
class Ending:
    """All that is known when an agent is over; `stderr` is the end of what it wrote there, cleaned."""

    outcome: CommandExecutionResult
    report: ReportedResult | None
    parser: ResponseParser
    stderr: str

    @property
    def killed(self) -> bool:
        return self.outcome.exit_code < 0 or self.outcome.exit_code in _KILLED_CODES


def classify(ending: Ending) -> AgentFailure | None:
    """None when the run counts; else the first rule that knows an answer."""
    for rule in _RULES:
        if (found := rule(ending)) is not None:
            failure = failure_of(found.category, _detail(ending), advice=found.advice)
            if found.category in _PASSING:
                failure = replace(failure, retry_after_seconds=_reset(ending))
            excused = ending.parser.reported_success and found.category not in _NEVER_EXCUSED
            return replace(failure, after_success=excused)
    return None


def _reset(ending: Ending) -> float | None:
    """When the model's side said that it will serve again."""
    words = "\n".join([ending.report.text if ending.report else "", ending.parser.plain_words, ending.stderr])
    return seconds_until_reset(words, now=datetime.now(UTC), resets_at=ending.parser.limit_resets_at)


def _ended_by_us(ending: Ending) -> Refusal | None:
    category = _BY_REASON.get(ending.outcome.reason)
    if category is Category.LINGERED:  # what it reported before it lingered says more
        return _reported_failure(ending) or Refusal(category)
    if category in {Category.SILENT, Category.TIMED_OUT} and ending.parser.only_retrying:
        refused = ending.parser.refused_retries > 0
        return Refusal(Category.NOT_LOGGED_IN if refused else Category.MODEL_UNREACHABLE)
    return None if category is None else Refusal(category)


def _ended_without_report(ending: Ending) -> Refusal | None:
    if ending.report is not None:
        return None
    code = ending.outcome.exit_code
    if code in _CANNOT_START_CODES or (code and ending.stderr.startswith(_CANNOT_START_WORDS)):
        return Refusal(Category.MISSING)
    if ending.killed:
        return Refusal(Category.KILLED)
    if ending.parser.ends_cut and not code:
        return Refusal(Category.RESULT_TOO_LONG)
    words = f"{ending.parser.plain_words}\n{ending.stderr if code else ''}"
    return explained_in_words(words) or Refusal(Category.NO_RESULT)


def _reported_failure(ending: Ending) -> Refusal | None:
    report = ending.report
    if report is None or report.is_success:
        return None
    by_subtype = _BY_SUBTYPE.get(report.subtype)
    if not report.tells_outcome:
        return Refusal(by_subtype or Category.RESULT_TOO_LONG)
    if (certain := by_subtype or _by_gateway(report.text)) is not None:
        return Refusal(certain)
    if _is_models_own(report, ending.parser):
        return refused_in_words(ending.parser.plain_words) or Refusal(Category.REPORTED_ERROR)
    said = f"{report.text}\n{ending.parser.plain_words}"
    if (in_words := refused_in_words(said)) is not None:
        return in_words
    if (by_status := _by_status(report.api_error_status)) is not None:
        return Refusal(by_status)
    return explained_in_words(f"{said}\n{ending.stderr}") or Refusal(Category.REPORTED_ERROR)


def _is_models_own(report: ReportedResult, parser: ResponseParser) -> bool:
    """Whether the words of an error are the model's about its work: what they name refused a program, not the model."""
    if report.api_error_status is not None:
        return False
    text = report.text.strip()
    return bool(text) and (text[:_COMPARED_CHARACTERS] in parser.model_words or is_prose(text))


def _ended_badly(ending: Ending) -> Refusal | None:
    if ending.outcome.exit_code == 0:
        return None
    return Refusal(Category.KILLED if ending.killed else Category.EXIT_CODE)


def _all_denied(ending: Ending) -> Refusal | None:
    denials = ending.report.permission_denials if ending.report else 0
    return Refusal(Category.PERMISSION_DENIED) if denials and denials >= ending.parser.tool_calls else None


# In this order: who ended it, whether it said anything, what it said, how it left.
_RULES: tuple[Callable[[Ending], Refusal | None], ...] = (
    _ended_by_us,
    _ended_without_report,
    _reported_failure,
    _ended_badly,
    _all_denied,
)


def _by_gateway(text: str) -> Category | None:
    """The model gateway's own refusals, whose status alone would say something else."""
    return next((category for words, category in _BY_GATEWAY if words in text), None)


def _by_status(status: int | None) -> Category | None:
    if status is None:
        return None
    return Category.MODEL_OVERLOADED if status >= 500 else _BY_STATUS.get(status)


def _detail(ending: Ending) -> str:
    """The agent's own words on what went wrong, if there are any."""
    if ending.report is not None and ending.report.is_error and ending.report.text:
        return ending.report.text
    if ending.outcome.reason is not ExitReason.EXITED:
        return ""
    words = [ending.stderr] if ending.report is not None else [ending.parser.plain_words, ending.stderr]
    last = [lines[-1] for text in words if (lines := text.strip().splitlines())]
    return "; ".join([f"exit code {ending.outcome.exit_code}", *last])


def failure_of(category: Category, detail: str, *, advice: str = "") -> AgentFailure:
    """The failure with its category's words, and the advice that fits better where the cause is known."""
    known = FAILURES[category]
    detail = clean_text(detail.strip(), _DETAIL_CHARACTERS)
    message = f"{known.message} ({detail})" if detail else known.message
    return AgentFailure(category, message, advice or known.advice, known.retryable)


def budget_failure(spent_usd: Decimal) -> AgentFailure:
    """For a run that was cut off from the model, whatever it says of itself."""
    return failure_of(Category.BUDGET_EXCEEDED, f"{spent_usd:.4f} USD spent")


def explained_by_model(failure: AgentFailure, status: int, resets_in_seconds: float | None) -> AgentFailure:
    """The failure with the model's own last answer, which counts for more than what the agent makes of it.

    `status` is that answer's HTTP status, `resets_in_seconds` when it said it will serve again.
    """
    category = _by_status(status)
    if category in _LEFT_TO_PEOPLE and failure.category in _UNEXPLAINED:
        return replace(failure_of(category, failure.message), after_success=failure.after_success)
    if category not in _PASSING or failure.category not in _UNEXPLAINED | _PASSING:
        return failure
    if category is not failure.category:
        failure = replace(
            failure_of(category, failure.message),
            retry_after_seconds=failure.retry_after_seconds,
            after_success=failure.after_success,
        )
    seconds = None if resets_in_seconds is None else ahead(resets_in_seconds)
    return failure if seconds is None else replace(failure, retry_after_seconds=seconds)
