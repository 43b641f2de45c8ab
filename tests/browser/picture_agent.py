"""An agent for the pictures: speaks stream-json and does a small plausible job, chosen by words of the request.

"helpers" fails while building, "price list" stays in the building phase, "released" changes a protected path,
"translate" meets the model's usage limit, everything else is finished. Stands alone, as it runs inside sandboxes.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

SESSION = "3f0c9a52-6a1e-4f7e-9d55-0d3f5b1c7a10"
PLAN = """# Round the corners of widgets

## What changes

1. `area` takes a corner **radius** and subtracts what it cuts off.
2. Callers without rounded corners stay as they are.
3. A test for each case.

| radius | area of 2 × 3 |
|---|---|
| 0 | 6 |
| 0.5 | 5.785 |
"""
CODE = '''"""Widgets."""

from math import pi


def area(width: float, height: float, radius: float = 0) -> float:
    """The area of a widget with rounded corners."""
    return width * height - (4 - pi) * radius**2
'''
RELEASE = """on: {push: {tags: ["v*"]}}
jobs:
  release:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - run: python -m build
"""
TESTS = """from src.widgets import area


def test_sharp_corners() -> None:
    assert area(2, 3) == 6


def test_round_corners() -> None:
    assert round(area(2, 3, 0.5), 3) == 5.785
"""


def emit(**event: object) -> None:
    print(json.dumps({**event, "session_id": SESSION}), flush=True)


def assistant(block: dict[str, object]) -> None:
    emit(type="assistant", message={"role": "assistant", "content": [block]})


def say(words: str) -> None:
    assistant({"type": "text", "text": words})


def use(number: int, tool: str, arguments: dict[str, str], output: str) -> None:
    key = f"toolu_{number}"
    assistant({"type": "tool_use", "id": key, "name": tool, "input": arguments})
    done = {"type": "tool_result", "tool_use_id": key, "content": output, "is_error": False}
    emit(type="user", message={"role": "user", "content": [done]})


def commit(number: int, path: str, content: str, message: str) -> None:
    use(number, "Write", {"file_path": path, "content": content}, f"{len(content)} characters written")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    subprocess.run(["git", "add", "-f", "--", path], check=True)
    subprocess.run(["git", "commit", "-q", "-m", message], check=True)
    use(number + 1, "Bash", {"command": f"git commit -m '{message}'"}, f"1 file changed: {path}")


def finish(words: str, *, is_error: bool = False) -> None:
    usage = {"input_tokens": 18_400, "output_tokens": 2_150}
    emit(
        type="result",
        subtype="success",
        is_error=is_error,
        result=words,
        num_turns=6,
        total_cost_usd=0.1834,
        usage=usage,
    )
    sys.exit(1 if is_error else 0)


def main() -> None:
    phase, order = os.environ["WORKORDERS_PHASE"], os.environ["WORKORDERS_AGENT_WORK_ORDER_ID"]
    prompt = sys.stdin.read()
    emit(type="system", subtype="init", model="sonnet", tools=["Bash", "Read", "Write"])
    use(1, "Read", {"file_path": "src/widgets.py"}, "def area(width: float, height: float) -> float: …")
    if "translate" in prompt:
        reset = time.strftime("%b %d, %I%p", time.gmtime(time.time() + 7200))
        finish(f"You've hit your session limit · resets {reset} (UTC)", is_error=True)
    if "released" in prompt:
        say("A tag is what starts a release, so the workflow listens to tags.")
        commit(2, ".github/workflows/release.yml", RELEASE, "Release on a tag")
        finish("A tag that starts with v now builds the package.")
    if phase == "planning":
        say("The area ignores corners. One formula changes, and its callers stay as they are.")
        commit(2, f"specs/plan-{order}.md", PLAN, "Plan the rounded corners")
        finish(f"The plan is in specs/plan-{order}.md.")
    if phase == "testing":
        tests = [{"name": name, "status": "passed"} for name in ("test_sharp_corners", "test_round_corners")]
        commit(
            2, "test_results.json", json.dumps({"passed": 2, "failed": 0, "tests": tests}), "Record the tests"
        )
        finish("Both tests pass.")
    if "helpers" in prompt:
        say("The helpers are still used by the billing package, which is not in this repository.")
        finish("I cannot remove the helpers: the billing package imports them.", is_error=True)
    say("Four rounded corners cut off what a square has more than its circle: `(4 − π) · r²`.")
    commit(2, "src/widgets.py", CODE, "Take the corners' radius into account")
    if "price list" in prompt:
        use(6, "Bash", {"command": "python -m pytest -q"}, "1 passed in 0.02s")
        say("The formula stands. Now the prices that depend on it.")
        time.sleep(900)
    commit(4, "tests/test_widgets.py", TESTS, "Test sharp and round corners")
    finish("The area of rounded widgets is right, with tests for both kinds of corners.")


if __name__ == "__main__":
    main()
