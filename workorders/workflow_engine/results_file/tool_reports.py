"""Reports of test tools in their own shape, as results in the product's. Pure.

Sources: Jest's `--json` and Vitest's reporter of the same shape, Mocha's and RSpec's `json` reporters, `go doc
test2json`. What ran and did not say how it ended has failed. Anything that is no such report stays as it is. Every
value may be of any type.
"""

import json
from collections.abc import Iterator, Mapping

_LINES = 200_000
_MESSAGE_CHARACTERS = 2000
_GO_STATUS = {"pass": "passed", "fail": "failed", "skip": "skipped"}  # nosec B105  # Go's words
_MOCHA_LISTS = {"passes": "passed", "failures": "failed", "pending": "skipped"}


def as_results(content: Mapping[str, object]) -> Mapping[str, object]:
    """The results of a report that is one JSON object."""
    if "numPassedTests" in content and isinstance(content.get("testResults"), list):
        return _of_jest(content)
    if isinstance(content.get("stats"), dict) and all(
        isinstance(content.get(key), list) for key in _MOCHA_LISTS
    ):
        return _of_mocha(content)
    if isinstance(content.get("examples"), list) and "summary_line" in content:
        return _of_rspec(content)
    return content


def lines_as_results(text: str) -> dict[str, object] | None:
    """The results of `go test -json`, which writes an event a line; None for any other text."""
    events = []
    for line in text.splitlines()[:_LINES]:
        try:
            event = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            return None
        if event is None:
            continue
        if not isinstance(event, dict) or not isinstance(event.get("Action"), str):
            return None
        events.append(event)
    return _of_go(events) if any(event["Action"] in _GO_STATUS for event in events) else None


def _of_jest(report: Mapping[str, object]) -> dict[str, object]:
    tests: list[dict[str, object]] = []
    broken = 0
    for suite in _objects(report.get("testResults")):
        cases = list(_objects(suite.get("assertionResults")))
        tests += [_jest_case(case) for case in cases]
        if suite.get("status") == "failed" and not any(case.get("status") == "failed" for case in cases):
            broken += 1  # it could not be run, so that none of its tests is listed
            tests.append({"name": suite.get("name"), "status": "failed", "message": suite.get("message")})
    failed = report.get("numFailedTests")
    if report.get("success") is False and not broken and failed == 0:
        broken = 1
        tests.append({"name": "the whole run", "status": "failed", "message": "The tool reports no success."})
    return {
        "passed": report.get("numPassedTests"),
        "failed": failed + broken if isinstance(failed, int) else failed,
        "tests": tests,
    }


def _jest_case(case: Mapping[str, object]) -> dict[str, object]:
    name = case.get("fullName") or case.get("title")
    return {"name": name, "status": case.get("status"), "message": case.get("failureMessages")}


def _of_mocha(report: Mapping[str, object]) -> dict[str, object]:
    tests = [
        {
            "name": case.get("fullTitle") or case.get("title"),
            "status": status,
            "message": case.get("err") or "",
        }
        for key, status in _MOCHA_LISTS.items()
        for case in _objects(report.get(key))
    ]
    stats = report.get("stats")
    counts = stats if isinstance(stats, dict) else {}
    return {"passed": counts.get("passes"), "failed": counts.get("failures"), "tests": tests}


def _of_rspec(report: Mapping[str, object]) -> dict[str, object]:
    """Errors outside of examples (a file that does not load) are counted apart, and named nowhere else."""
    tests: list[dict[str, object]] = [
        {
            "name": case.get("full_description") or case.get("description"),
            "status": case.get("status"),
            "message": case.get("exception") or case.get("pending_message") or "",
        }
        for case in _objects(report.get("examples"))
    ]
    summary = report.get("summary")
    outside = summary.get("errors_outside_of_examples_count") if isinstance(summary, dict) else 0
    if isinstance(outside, int) and outside:
        tests.append({"name": "outside of examples", "status": "failed", "message": report["summary_line"]})
    return {"passed": None, "failed": None, "tests": tests}


def _of_go(events: list[dict[str, object]]) -> dict[str, object]:
    ended: dict[tuple[str, str], str] = {}
    said: dict[tuple[str, str], str] = {}
    for event in events:
        key = (str(event.get("Package") or event.get("ImportPath") or ""), str(event.get("Test") or ""))
        action = str(event["Action"])
        if action in _GO_STATUS:
            ended[key] = _GO_STATUS[action]
        elif action in {"run", "start", "build-fail"}:
            ended.setdefault(key, "failed")  # until it says how it ended
        elif action in {"output", "build-output"}:
            said[key] = (said.get(key, "") + str(event.get("Output") or ""))[-_MESSAGE_CHARACTERS:]
    failing = {package for (package, test), status in ended.items() if test and status == "failed"}
    tests = [
        {
            "name": f"{package} {test}".strip(),
            "status": status,
            "message": "" if status == "passed" else said.get((package, test), "").strip(),
        }
        for (package, test), status in ended.items()
        if test or (status == "failed" and package not in failing)
    ]
    statuses = [test["status"] for test in tests]
    return {"passed": statuses.count("passed"), "failed": statuses.count("failed"), "tests": tests}


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
