"""`test_results.json`: what is accepted, what is refused in words, and that the published schema says the same."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workorders.workflow_engine.results_file.results import (
    KEPT_TESTS,
    MAX_BYTES,
    AgentTestCase,
    AgentTestResults,
    AgentTestStatus,
    parse_test_results,
)

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "test-results.schema.json").read_text())
GOOD: dict[str, Any] = {
    "passed": 1,
    "failed": 1,
    "tests": [
        {"name": "a", "status": "passed", "duration_seconds": 0.5},
        {"name": "b", "status": "failed", "message": "no"},
        {"name": "c", "status": "skipped", "duration_seconds": None},
    ],
    "command": "pytest",
    "summary": "One failed.",
}


def parse(content: object) -> AgentTestResults:
    return parse_test_results(json.dumps(content).encode())


def test_good_results_are_read() -> None:
    results = parse(GOOD)
    assert (results.passed, results.failed, results.command) == (1, 1, "pytest")
    assert [case.status for case in results.tests] == list(AgentTestStatus)
    assert results.tests[1].message == "no"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", r"not JSON: .* \(line 1\)"),
        (b"[]", "must hold an object"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b'{"passed": ' + b"9" * 5000 + b"}", "not JSON this server accepts"),
        (b" " * (MAX_BYTES + 1), "larger than 8 MiB"),
    ],
)
def test_what_is_no_json_object_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_test_results(data)


@pytest.mark.parametrize(
    "change",
    [
        {"passed": -1},
        {"passed": "one"},
        {"passed": 1.5},
        {"passed": True},
        {"passed": 10**9},
        {"tests": {}},
        {"tests": [{"name": "", "status": "passed"}]},
        {"tests": [{"name": "a", "status": "green"}]},
        {"tests": [{"name": "a"}]},
        {"tests": [{"name": "a", "status": None}]},
        {"tests": [{"status": "passed"}]},
        {"tests": [{"name": "a", "status": ["passed"]}]},
        {"tests": [{"name": "a", "status": {"is": "passed"}}]},
        {"tests": [{"name": "a", "status": 0}]},
        {"tests": [{"name": "\x00", "status": "warned"}]},
        {"tests": ["a"]},
        {"tests": {"a": 1}},
    ],
)
def test_model_and_published_schema_refuse_the_same(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"test_results\.json is not as expected"):
        parse({**GOOD, **change})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**GOOD, **change}, SCHEMA)


def test_model_and_published_schema_accept_the_same() -> None:
    for content in (GOOD, {"passed": 0, "failed": 0, "tests": []}, {**GOOD, "more": {"x": 1}}):
        jsonschema.validate(content, SCHEMA)
        parse(content)


def test_the_published_schema_names_the_models_fields() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    model = AgentTestResults.model_json_schema()
    case = AgentTestCase.model_json_schema()
    published = SCHEMA["properties"]["tests"]["items"]
    assert set(SCHEMA["properties"]) == set(model["properties"])
    assert set(SCHEMA["required"]) == set(model["required"])
    assert set(published["properties"]) == set(case["properties"])
    assert set(published["required"]) == set(case["required"])
    assert published["properties"]["status"]["enum"] == [status.value for status in AgentTestStatus]
    assert SCHEMA["properties"]["passed"]["maximum"] == 10_000_000


@pytest.mark.parametrize("missing", ["passed", "failed", "tests"])
def test_a_missing_part_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        parse({name: value for name, value in GOOD.items() if name != missing})


def test_everything_is_bounded() -> None:
    tests = [
        {"name": f"\x00{'n' * 5000}{number}", "status": "passed", "message": "m" * 9000}
        for number in range(2100)
    ]
    with pytest.raises(ValueError, match="larger"):
        parse({"passed": 2100, "failed": 0, "tests": tests})
    small = [{"name": "\x00" + "n" * 900, "status": "passed", "message": "m" * 2500}] * 2100
    results = parse({"passed": 2100, "failed": 0, "tests": small})
    assert len(results.tests) == KEPT_TESTS
    assert {len(case.name) for case in results.tests} == {500}
    assert {len(case.message) for case in results.tests} == {2000}


@pytest.mark.parametrize(
    ("status", "expected", "message"),
    [
        ("error", "failed", "error"),
        ("Errored", "failed", "Errored"),
        ("FAIL", "failed", ""),
        ("timed out", "failed", "timed out"),
        ("Did not run", "skipped", "Did not run"),
        ("blocked", "skipped", "blocked"),
        ("PASSED.", "passed", "PASSED."),
        ("✅ passed", "passed", "✅ passed"),
        ("❌", "failed", "❌"),
        ("flaky", "passed", "flaky"),
        ("PASS", "passed", ""),
        ("ok", "passed", ""),
        ("success", "passed", "success"),
        ("xpass", "passed", "xpass"),
        ("xfail", "skipped", "xfail"),
        ("XFAILED", "skipped", "XFAILED"),
        ("pending", "skipped", "pending"),
        ("todo", "skipped", "todo"),
        ("not_run", "skipped", "not_run"),
        (" Skipped ", "skipped", ""),
        (True, "passed", ""),
        (False, "failed", ""),
    ],
)
def test_what_test_tools_call_it_is_understood(status: object, expected: str, message: str) -> None:
    case = {"name": "a", "status": status}
    results = parse({"passed": 9, "failed": 9, "tests": [case, {**case, "message": "why"}]})
    assert [(test.status, test.message) for test in results.tests] == [(expected, message), (expected, "why")]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"passed": 2.0, "failed": 1.0}, (2, 1)),
        ({"passed": "2", "failed": " 1 "}, (2, 1)),
        ({"passed": "2.0", "failed": 1}, (2, 1)),
        ({"passed": None, "failed": None}, (1, 1)),
        ({"passed": "1,234", "failed": "1"}, (1234, 1)),
        ({"passed": 2, "failed": 1, "errors": 3}, (2, 3)),
        ({"passed": 2, "failed": 1, "errors": 0}, (2, 1)),
    ],
)
def test_counts_are_read_as_numbers_however_they_are_written(
    counts: dict[str, object], expected: tuple[int, int]
) -> None:
    results = parse({**GOOD, **counts})
    assert (results.passed, results.failed) == expected
    assert results.summary == "One failed."


@pytest.mark.parametrize(
    "content",
    [
        {"results": GOOD},
        {"test_results": GOOD},
        {**GOOD, "summary": None, "command": None},
        GOOD["tests"],
        {name.title(): value for name, value in GOOD.items()},
        {**GOOD, "tests": {case["name"]: case for case in GOOD["tests"]}},
        {**GOOD, "tests": [{name.upper(): value for name, value in case.items()} for case in GOOD["tests"]]},
        {**GOOD, "command": [["pytest"], ["npm", "test"]], "summary": 3},
        {**GOOD, "summary": [{"message": "One"}, ["failed", None]]},
        {**GOOD, "command": ["pytest", "-q"], "more": {"deep": [1]}, "total": 3},
        {
            "created": 1.5,
            "summary": {"passed": 1, "failed": 1, "total": 3},
            "tests": [
                {"nodeid": "a", "outcome": "passed", "keywords": ["x"]},
                {"nodeid": "b", "outcome": "failed", "longrepr": "no"},
                {"nodeid": "c", "outcome": "xfailed"},
            ],
        },
        {
            "reportFormat": "CTRF",
            "results": {
                "tool": {"name": "jest"},
                "summary": {"tests": 3, "passed": 1, "failed": 1},
                "tests": [
                    {"name": "a", "status": "passed", "duration": 5},
                    {"name": "b", "status": "failed", "message": "no"},
                    {"name": "c", "status": "pending", "message": None},
                ],
            },
        },
    ],
)
def test_wrappers_and_the_tools_own_reports_are_understood(content: dict[str, Any]) -> None:
    results = parse(content)
    assert (results.passed, results.failed) == (1, 1)
    assert [case.status for case in results.tests] == list(AgentTestStatus)
    assert [case.name for case in results.tests] == ["a", "b", "c"]
    assert results.tests[1].message == "no"


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        *[("0.5", 0.5), ("0.5s", 0.5), (2, 2.0), (None, None), ("fast", None), (float("nan"), None)],
        *[(-1, None), ([1], None), (True, None), ({"secs": 1}, None)],
    ],
)
def test_a_duration_that_tells_nothing_costs_nothing(duration: object, expected: float | None) -> None:
    results = parse({**GOOD, "tests": [{"name": "b", "status": "failed", "duration_seconds": duration}]})
    assert results.tests[0].duration_seconds == expected


def test_other_encodings_are_read() -> None:
    text = json.dumps(GOOD)
    fenced = f"```json\n{json.dumps(GOOD, indent=1)}\n```\n"
    for data in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), fenced.encode()):
        assert parse_test_results(data) == parse(GOOD)


def test_the_list_counts_where_it_shows_more_than_the_counts() -> None:
    results = parse({**GOOD, "failed": 0, "passed": 0})
    assert (results.passed, results.failed) == (1, 1)
    assert results.summary == (
        "test_results.json counts 0 passed but lists 1 and 0 failed but lists 1; the list was taken. One failed."
    )
    many = [{"name": "a", "status": "passed"}] * KEPT_TESTS + [{"name": "z", "status": "error"}]
    assert parse({"passed": KEPT_TESTS, "failed": 0, "tests": many}).failed == 1
    assert parse({**GOOD, "passed": 500}).passed == 500  # a list may be a part


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"tests\[1\]\.status must be passed, failed or skipped\."):
        parse({**GOOD, "tests": [{"name": "a", "status": "ok"}, {"name": "b", "status": "green"}]})
    with pytest.raises(ValueError, match=r"passed must be a whole number"):
        parse({**GOOD, "passed": "many"})


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^test_results\.json"):
        parse_test_results(data)  # 200 arbitrary bytes never hold all three parts


KNOWN = st.sampled_from(
    [
        *[
            *GOOD,
            *GOOD["tests"][1],
            "duration_seconds",
            "results",
            "testResults",
            "numPassedTests",
            "success",
        ],
        *[
            "stats",
            "passes",
            "failures",
            "pending",
            "examples",
            "summary_line",
            "assertionResults",
            "outcome",
        ],
        *["ok", "call", "errors"],
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["passed", "failed", "3", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=6),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.dictionaries(KNOWN, ANY_JSON, max_size=8))
def test_any_object_is_read_or_refused_in_words(content: dict[str, Any]) -> None:
    refused = ""
    try:
        parse({"passed": 1, "failed": 0, "tests": [content], **content})
    except ValueError as error:
        refused = str(error)
    assert not refused or refused.startswith("test_results.json")


JEST = {
    "numFailedTests": 1,
    "numPassedTests": 1,
    "numPendingTests": 1,
    "success": False,
    "testResults": [
        {
            "name": "/x/a.test.js",
            "status": "failed",
            "message": "a long report",
            "assertionResults": [
                {"fullName": "a", "title": "-", "status": "passed", "duration": 3, "failureMessages": []},
                {"fullName": "b", "title": "-", "status": "failed", "failureMessages": ["no"]},
                {"fullName": "c", "title": "-", "status": "pending", "failureMessages": None},
            ],
        }
    ],
}
MOCHA = {
    "stats": {"suites": 1, "tests": 3, "passes": 1, "pending": 1, "failures": 1, "duration": 5},
    "tests": [{"fullTitle": name, "err": {}} for name in "abc"],
    "passes": [{"title": "-", "fullTitle": "a", "err": {}}],
    "failures": [{"title": "-", "fullTitle": "b", "err": {"message": "no", "stack": "no at x:1"}}],
    "pending": [{"title": "-", "fullTitle": "c", "err": {}}],
}
TAP = {
    "passed": 1,
    "failed": 1,
    "tests": [
        {"id": 1, "ok": True, "name": "a"},
        {"id": 2, "ok": False, "name": "b", "error": {"message": "no", "at": 3}},
        {"id": 3, "ok": False, "name": "c", "todo": "later"},
    ],
}
PYTEST = {
    "exitcode": 1,
    "summary": {"passed": 1, "failed": 1, "skipped": 1, "total": 3},
    "tests": [
        {"nodeid": "a", "outcome": "passed", "call": {"outcome": "passed", "duration": 0.1}},
        {"nodeid": "b", "outcome": "failed", "setup": {"outcome": "passed"}, "call": {"longrepr": "no"}},
        {"nodeid": "c", "outcome": "skipped"},
    ],
}


RSPEC = {
    "version": "3.13",
    "examples": [
        {"full_description": "a", "status": "passed", "run_time": 0.1},
        {"full_description": "b", "status": "failed", "exception": {"class": "E", "message": "no"}},
        {"full_description": "c", "status": "pending", "pending_message": "later"},
    ],
    "summary": {"example_count": 3, "failure_count": 1, "errors_outside_of_examples_count": 0},
    "summary_line": "3 examples, 1 failure, 1 pending",
}


@pytest.mark.parametrize(
    "report", [JEST, MOCHA, TAP, PYTEST, RSPEC], ids=["jest", "mocha", "tap", "pytest", "rspec"]
)
def test_a_tools_own_report_is_read(report: dict[str, Any]) -> None:
    results = parse(report)
    assert (results.passed, results.failed, results.summary) == (1, 1, "")
    assert [(case.name, case.status.value) for case in results.tests] == [
        ("a", "passed"),
        ("b", "failed"),
        ("c", "skipped"),
    ]
    assert results.tests[1].message == "no"


def go_lines(*events: dict[str, object]) -> bytes:
    return b"\n".join(
        json.dumps({"Time": "2026-01-01T00:00:00Z", "Package": "p", **event}).encode() for event in events
    )


def test_the_lines_of_go_are_read() -> None:
    data = go_lines(
        {"Action": "start"},
        {"Action": "run", "Test": "TestA"},
        {"Action": "output", "Test": "TestA", "Output": "fine\n"},
        {"Action": "pass", "Test": "TestA", "Elapsed": 0.1},
        {"Action": "run", "Test": "TestB"},
        {"Action": "output", "Test": "TestB", "Output": "b_test.go:3: no\n"},
        {"Action": "fail", "Test": "TestB"},
        {"Action": "skip", "Test": "TestC"},
        {"Action": "run", "Test": "TestHung"},
        {"Action": "fail"},
        {"Action": "fail", "Package": "broken"},
    )
    results = parse_test_results(data)
    assert [(case.name, case.status.value) for case in results.tests] == [
        ("p TestA", "passed"),
        ("p TestB", "failed"),
        ("p TestC", "skipped"),
        ("p TestHung", "failed"),
        ("broken", "failed"),
    ]
    assert (results.passed, results.failed) == (1, 3)
    assert results.tests[1].message == "b_test.go:3: no"
    with pytest.raises(ValueError, match="not JSON"):
        parse_test_results(data + b"\n{")
    with pytest.raises(ValueError, match="not JSON"):
        parse_test_results(go_lines({"Action": "output", "Output": "x"}, {"Action": "start"}))


def test_no_report_of_a_broken_run_is_a_good_one() -> None:
    suite = {
        "name": "/x/b.test.js",
        "status": "failed",
        "message": "Cannot find module",
        "assertionResults": [],
    }
    passing = {**JEST, "numFailedTests": 0, "testResults": [suite]}
    broken = parse(passing)
    assert (broken.failed, broken.tests[0].name, broken.tests[0].message) == (
        1,
        "/x/b.test.js",
        "Cannot find module",
    )
    assert parse({**passing, "testResults": []}).failed == 1
    nothing = parse({"exitcode": 5, "summary": {"total": 0, "collected": 0}, "tests": []})
    assert (nothing.passed, nothing.failed, nothing.tests) == (0, 0, ())
    with pytest.raises(ValueError, match="as expected"):
        parse({"numPassedTests": "many", "numFailedTests": {}, "testResults": [3, {"assertionResults": 3}]})
