"""`test_results.json`: what is accepted, what is refused in words, and that the published schema says the same."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workorders.agent_executor.test_results import (
    KEPT_TESTS,
    MAX_BYTES,
    AgentTestCase,
    AgentTestResults,
    AgentTestStatus,
    parse_test_results,
)

SCHEMA = json.loads(
    (Path(__file__).resolve().parent.parent.parent / "docs" / "test-results.schema.json").read_text()
)
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
        {"passed": "1"},
        {"passed": True},
        {"passed": 10**9},
        {"failed": None},
        {"tests": {}},
        {"tests": [{"name": "", "status": "passed"}]},
        {"tests": [{"name": "a", "status": "green"}]},
        {"tests": [{"name": "a", "status": "passed", "duration_seconds": -1}]},
        {"tests": ["a"]},
        {"summary": 3},
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


def test_a_file_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="contradicts itself"):
        parse({**GOOD, "failed": 0})


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^test_results\.json"):
        parse_test_results(data)  # 200 arbitrary bytes never hold all three parts
