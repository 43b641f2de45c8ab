"""The agent of the benchmarks: one small honest commit for each phase, and its own times as its result.

Standard library only, since it runs inside sandboxes. A prompt with `bench-sleep: N` makes it sleep N seconds
and commit nothing. Its clock runs from its first statement to just before its last line.
"""

import time

STARTED = time.time()

import json  # noqa: E402  # after the clock has started
import os  # noqa: E402  # likewise
import re  # noqa: E402  # likewise
import subprocess  # noqa: E402  # likewise
import sys  # noqa: E402  # likewise

TEST_RESULTS = {"passed": 1, "failed": 0, "tests": [{"name": "bench", "status": "passed"}]}


def main() -> int:
    arguments = sys.argv[1:]
    names = ("--session-id", "--resume")
    session = next((arguments[arguments.index(name) + 1] for name in names if name in arguments), "bench")
    emit("system", session, subtype="init")
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    if asked := re.search(r"bench-sleep: (\d+)", prompt):
        time.sleep(int(asked[1]))
    else:
        work(os.environ["WORKORDERS_AGENT_WORK_ORDER_ID"], os.environ["WORKORDERS_PHASE"])
    times = json.dumps({"started": STARTED, "ended": time.time()})
    emit("result", session, subtype="success", is_error=False, result=times, num_turns=1, total_cost_usd=0)
    return 0


def work(order: str, phase: str) -> None:
    path, text = {
        "planning": (f"specs/{order}.md", "# A plan\n"),
        "implementing": (f"src/{order}.txt", "a change\n"),
        "testing": ("test_results.json", json.dumps(TEST_RESULTS)),
    }[phase]
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120  # pathlib costs start time
    with open(path, "w") as file:  # noqa: PTH123  # pathlib costs start time
        file.write(text)
    subprocess.run(["git", "add", "--", path], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", f"bench: {phase} of {order}"], check=True)


def emit(kind: str, session: str, **fields: object) -> None:
    print(json.dumps({"type": kind, "session_id": session, **fields}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
