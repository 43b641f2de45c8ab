"""The `test_results.json` a testing phase must leave: its shape and how it is read. Pure.

`docs/test-results.schema.json` tells agents the shape; what test tools and agents write instead is understood as far as
it has one meaning (`words`), since nobody should pay for a second run over a spelling. The file comes out of git
but was written by an agent, so everything is bounded. Must not know where the bytes came from.
"""

import json
import re
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workorders.agents.base import clean_text
from workorders.workflow_engine.results_file.tool_reports import lines_as_results
from workorders.workflow_engine.results_file.words import as_expected, listed

MAX_BYTES = 8 * 1024 * 1024
KEPT_TESTS = 2000
_NAME_CHARACTERS = 500
_MESSAGE_CHARACTERS = 2000
_LARGEST_COUNT = 10_000_000
_WORDS = {
    "missing": "is missing",
    "tuple_type": "must be a list of tests",
    "model_type": "must be an object with name and status",
    "enum": "must be passed, failed or skipped",
    "int_type": "must be a whole number",
    "greater_than_equal": "must not be below 0",
    "less_than_equal": "is too large",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\r?\n(.*)\n```\s*", re.DOTALL)  # as an agent shows a file
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def _cut(limit: int) -> BeforeValidator:
    return BeforeValidator(lambda value: clean_text(value, limit) if isinstance(value, str) else value)


class AgentTestStatus(StrEnum):
    """How one test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class AgentTestCase(BaseModel):
    """One test; `message` says why it failed or was skipped."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, _cut(_NAME_CHARACTERS), Field(min_length=1)]
    status: AgentTestStatus
    duration_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    message: Annotated[str, _cut(_MESSAGE_CHARACTERS)] = ""


class AgentTestResults(BaseModel):
    """What the testing phase found. `tests` are at most the first 2,000.

    Counts are the agent's, but never better than its list; where they differed, `summary` says so.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    passed: Annotated[int, Field(ge=0, le=_LARGEST_COUNT, strict=True)]
    failed: Annotated[int, Field(ge=0, le=_LARGEST_COUNT, strict=True)]
    tests: tuple[AgentTestCase, ...]
    command: Annotated[str, _cut(_NAME_CHARACTERS)] = ""
    summary: Annotated[str, _cut(_MESSAGE_CHARACTERS)] = ""


def parse_test_results(data: bytes) -> AgentTestResults:
    """The results in a `test_results.json`. Raises `ValueError` with a message fit for a person."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"test_results.json is larger than {MAX_BYTES // 1024 // 1024} MiB.")
    try:
        content = _read(data.decode("utf-16" if data[:2] in _UTF16 else "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"test_results.json is not UTF-8 (byte {error.start}).") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"test_results.json is not JSON: {error.msg} (line {error.lineno}).") from error
    except (ValueError, RecursionError) as error:  # numbers beyond Python's limit; nesting to break a parser
        raise ValueError("test_results.json is not JSON this server accepts.") from error
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        content = {"passed": None, "failed": None, "tests": content}  # the list says it all
    if not isinstance(content, dict):
        raise ValueError("test_results.json must hold an object with passed, failed and tests.")
    return _validated(as_expected(content))


def _read(text: str) -> object:
    """Raises what `json.loads` raises, unless the text is a tool's lines."""
    fenced = _FENCED.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except json.JSONDecodeError:
        if (results := lines_as_results(text)) is None:
            raise
        return results


def _validated(content: dict[str, object]) -> AgentTestResults:
    tests = content.get("tests")
    if isinstance(tests, list):
        content = {**content, "tests": tests[:KEPT_TESTS]}
    try:
        results = AgentTestResults.model_validate(content)
    except ValidationError as error:
        problems = [
            _problem(item["loc"], _WORDS.get(item["type"], item["msg"])) for item in error.errors()[:3]
        ]
        raise ValueError(f"test_results.json is not as expected: {'; '.join(problems)}.") from error
    return _no_better_than(results, tests if isinstance(tests, list) else [])


def _no_better_than(results: AgentTestResults, tests: list[object]) -> AgentTestResults:
    """The results with counts that hold what the list shows: the list names the tests, a count is only a number."""
    counted = {AgentTestStatus.PASSED: results.passed, AgentTestStatus.FAILED: results.failed}
    found = {status: listed(tests, status) for status in counted}
    wrong = [status for status in counted if found[status] > counted[status]]
    if not wrong:
        return results
    words = " and ".join(f"{counted[status]} {status} but lists {found[status]}" for status in wrong)
    note = f"test_results.json counts {words}; the list was taken."
    return results.model_copy(
        update={
            "passed": max(results.passed, found[AgentTestStatus.PASSED]),
            "failed": max(results.failed, found[AgentTestStatus.FAILED]),
            "summary": clean_text(f"{note} {results.summary}".strip(), _MESSAGE_CHARACTERS),
        }
    )


def _problem(place: tuple[int | str, ...], message: str) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return clean_text(f"{where.removeprefix('.')} {message}", 200)
