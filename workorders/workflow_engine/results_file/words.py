"""What test tools and agents write in place of the shape of `test_results.json`: spellings, texts, wrappers. Pure.

Only what has one meaning is rewritten; anything else stays as it is, so that the check that follows names it.
"""

import math
import re
from collections.abc import Mapping, Sequence

from workorders.workflow_engine.results_file.tool_reports import as_results

_WRAPPERS = ("results", "test_results", "testResults")
_NAMES = (
    *("name", "nodeid", "fullName", "full_name", "fullTitle", "full_description", "title"),
    *("test", "testName", "test_name", "description", "id"),
)
_STATUSES = ("status", "outcome", "result", "state")
_YES_OR_NO = ("ok", "success", "passed")  # as TAP's converters have it
_MESSAGES = ("message", "error", "err", "failure", "failureMessages", "reason", "longrepr")
_KEYS = frozenset({"passed", "failed", "tests", "command", "summary"})
_CASE_KEYS = frozenset({"name", "status", "message", "duration_seconds"})
_MOST_PARTS, _DEEPEST = 100, 3  # of what should be one text
_PHASES = ("setup", "call", "teardown")  # of pytest's report
_TOTALS = ("total", "tests", "collected")
_COUNTS = ("passed", "failed")
_ERRORS = ("errors", "error", "errored")
_NUMBER = re.compile(r"\s*([0-9]{1,9})(?:\.0{1,9})?\s*")
_SECONDS = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,12})?)\s*(?:s|sec|seconds)?\s*")
_GROUPED = re.compile(r"\s*([0-9]{1,3}(?:,[0-9]{3})+)\s*")
_NO_LETTERS = re.compile(r"[^a-z]+")
_SIGNS = {
    "✅": "passed",
    "✓": "passed",
    "✔": "passed",
    "❌": "failed",
    "✗": "failed",
    "✘": "failed",
    "✖": "failed",
}
_SPELLINGS: Mapping[str, frozenset[str]] = {
    "passed": frozenset(
        {"passed", "pass", "passing", "ok", "success", "succeeded", "successful", "xpass", "xpassed", "flaky"}
    ),
    "failed": frozenset(
        {"failed", "fail", "failing", "failure", "error", "errored", "errors", "broken", "crashed", "aborted"}
        | {"timeout", "timedout", "notok", "interrupted"}
    ),
    "skipped": frozenset(
        {"skipped", "skip", "pending", "todo", "ignored", "disabled", "deselected", "notrun", "cancelled"}
        | {
            "canceled",
            "inconclusive",
            "other",
            "xfail",
            "xfailed",
            "expectedfailure",
            "didnotrun",
            "notexecuted",
        }
        | {"blocked", "quarantined", "unknown"}
    ),
}
_CANONICAL = {spelling: status for status, spellings in _SPELLINGS.items() for spelling in spellings}


def as_expected(content: Mapping[str, object]) -> dict[str, object]:
    """The same results in the published shape, as far as they can be understood."""
    content = as_results(_in_lower_case(content, _KEYS))
    inner = next((value for key in _WRAPPERS if isinstance(value := content.get(key), dict)), None)
    if inner is not None and "tests" not in content and "tests" in inner:
        content = {**content, **inner}
    summary = content.get("summary")
    rewritten = dict(content)
    if isinstance(summary, dict):
        counts = {key: summary[key] for key in (*_COUNTS, *_ERRORS) if key in summary}
        rewritten = {**counts, **rewritten, "summary": ""}
        if "tests" in rewritten and (
            counts or any(key in summary for key in _TOTALS)
        ):  # a tool's summary leaves out what was none
            rewritten = {**dict.fromkeys(_COUNTS, 0), **rewritten}
    tests = rewritten.get("tests")
    if isinstance(tests, dict) and tests:
        tests = _listed_by_name(tests)
    if isinstance(tests, list):
        rewritten["tests"] = tests = [_case(item) for item in tests]
    for key in _COUNTS:
        if key in rewritten:
            rewritten[key] = _count(rewritten[key], key, tests)
    rewritten = _with_errors(rewritten)
    for key in ("command", "summary"):
        if key in rewritten:
            rewritten[key] = _words(rewritten[key])
    return rewritten


def _in_lower_case(content: Mapping[str, object], keys: frozenset[str]) -> dict[str, object]:
    """`Passed` for `passed`, where nothing is called so already."""
    found = {key.lower(): value for key, value in content.items() if key.lower() in keys}
    return {**found, **content}


def _listed_by_name(tests: Mapping[str, object]) -> object:
    """A list of what was given by name: `{"a": "passed"}`, or an object for each."""
    cases = [
        {"name": name, **value} if isinstance(value, dict) else {"name": name, "status": value}
        for name, value in tests.items()
    ]
    return cases if all(isinstance(value, dict | str | bool) for value in tests.values()) else tests


def listed(tests: Sequence[object], status: str) -> int:
    """How many of these tests, in the published shape, have that status."""
    return sum(isinstance(item, dict) and item.get("status") == status for item in tests)


def _with_errors(content: dict[str, object]) -> dict[str, object]:
    """Errors that a tool counts apart are failures too; whether it has counted them twice cannot be told."""
    failed = content.get("failed")
    apart = [number for key in _ERRORS if type(number := _number(content.get(key))) is int]
    return {**content, "failed": max(failed, *apart)} if apart and type(failed) is int else content


def _case(item: object) -> object:
    if not isinstance(item, dict):
        return item
    case = _in_lower_case(item, _CASE_KEYS)
    _take(case, "name", _NAMES)
    _take(case, "status", _STATUSES)
    _take(case, "message", _MESSAGES)
    if case.get("status") is None:
        _take_answer(case)
    if case.get("message") is None:
        phases = [found for phase in _PHASES if isinstance(found := case.get(phase), dict)]
        case["message"] = next((phase["longrepr"] for phase in phases if phase.get("longrepr")), None)
    said = case.get("status")
    case["status"] = _status(said)
    case["message"] = _words(case.get("message"))
    if isinstance(case.get("name"), int | float) and not isinstance(case["name"], bool):
        case["name"] = str(case["name"])
    if isinstance(said, str) and case["status"] in _SPELLINGS and not case["message"]:
        plain = said.strip()
        case["message"] = "" if plain.lower() in {case["status"], "pass", "fail", "ok", "skip"} else plain
    if "duration_seconds" in case:
        case["duration_seconds"] = _seconds(case["duration_seconds"])
    return {key: case[key] for key in ("name", "status", "message", "duration_seconds") if key in case}


def _take(case: dict[str, object], wanted: str, keys: Sequence[str]) -> None:
    if case.get(wanted) is None:
        found = next((case[key] for key in keys if case.get(key) is not None), None)
        if found is not None:
            case[wanted] = found
        else:
            case.pop(wanted, None)


def _take_answer(case: dict[str, object]) -> None:
    """The status of a test that only says whether it is well; one that was skipped or is to be done says that apart."""
    answer = next((case[key] for key in _YES_OR_NO if isinstance(case.get(key), bool)), None)
    if answer is not None:
        case["status"] = "skipped" if case.get("skip") or case.get("todo") else answer


def _status(value: object) -> object:
    if isinstance(value, bool):
        return "passed" if value else "failed"
    if not isinstance(value, str):
        return value
    return _CANONICAL.get(_NO_LETTERS.sub("", value.lower())) or _SIGNS.get(value.strip()[:1], value)


def _count(value: object, key: str, tests: object) -> object:
    """A count as a whole number; one that is left empty is what the list shows."""
    if value is None and isinstance(tests, list):
        return listed(tests, key)
    return _number(value)


def _number(value: object) -> object:
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (found := _NUMBER.fullmatch(value)):
        return int(found[1])
    if isinstance(value, str) and (found := _GROUPED.fullmatch(value)):
        return int(found[1].replace(",", ""))
    return value


def _seconds(value: object) -> object:
    if isinstance(value, str):
        found = _SECONDS.fullmatch(value)
        return float(found[1]) if found else None
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    return value if is_time else None


def _words(value: object, depth: int = 0) -> object:
    """Text where there is none, or more of it than expected, or an error's."""
    if depth > _DEEPEST:
        return ""
    if isinstance(value, dict):
        told = [value[key] for key in ("message", "stack") if isinstance(value.get(key), str)]
        return told[0] if told else ""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        told = [words for item in value[:_MOST_PARTS] if isinstance(words := _words(item, depth + 1), str)]
        return " ".join(filter(None, told))
    return value
