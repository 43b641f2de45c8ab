"""An agent for tests that speaks stream-json and does what the request says, line by line.

The person's request holds lines such as `agent: sleep 30`, `agent: commit a.txt`, `agent: say hello`,
`agent: run <shell>`, `agent: ask <words>` (the model, until it answers anything), `agent: insist <words>` (for ever,
whatever it answers), `agent: fail`, `agent: need <path> <words>` (fail where it is missing), `agent: exit 3`,
`agent: then <shell>` (after its result; it ends as that ends); a line may start with a phase and attempt to be done
only there: `agent[implementing#1]: fail`. What a phase must leave is committed unless `agent: nothing` is said.
"""

import json
import os
import re
import subprocess
import sys
import time
import uuid

LINE = re.compile(r"^agent(?:\[(\w*)(?:#(\d+))?\])?: (.*)$", re.MULTILINE)


def emit(**event: object) -> None:
    print(json.dumps(event), flush=True)


def result(text: str, *, is_error: bool = False, session: str) -> None:
    emit(
        type="result",
        subtype="success",
        is_error=is_error,
        result=text,
        session_id=session,
        num_turns=1,
        total_cost_usd=0.25,
        usage={"input_tokens": 10, "output_tokens": 5},
    )


def say(words: str, *, session: str) -> None:
    content = [{"type": "text", "text": words}]
    emit(type="assistant", message={"role": "assistant", "content": content}, session_id=session)


def commit(path: str, content: str, message: str, *options: str, mode: str = "a") -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120  # pathlib costs start time
    with open(path, mode) as file:  # noqa: PTH123  # pathlib costs start time
        file.write(content)
    subprocess.run(["git", "add", "-f", "--", path], check=True)
    subprocess.run(["git", "commit", "-q", *options, "-m", message], check=True)


def evidence(phase: str, order: str) -> None:
    if phase == "planning":
        commit(f"specs/plan-{order}.md", "# A plan\n", "Plan it")
    elif phase == "implementing":
        commit(f"change-{order}.txt", "changed\n", "Change it")
    else:
        results = {"passed": 2, "failed": 0, "tests": [{"name": "one", "status": "passed"}]}
        commit("test_results.json", json.dumps(results), "Test it", "--allow-empty", mode="w")


def ask(words: str) -> int:
    """One request to the model as Claude Code sends it, again where the connection breaks; the answer's status."""
    import http.client  # only here: the agent must start fast
    import urllib.error
    import urllib.request

    messages = [{"role": "user", "content": words}]
    body = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": messages, "tools": [{}]}
    headers = {"content-type": "application/json", "x-api-key": os.environ["ANTHROPIC_API_KEY"]}
    url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
    while True:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, json.dumps(body).encode(), headers)
            ) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)


def session_of(arguments: list[str]) -> str:
    for name in ("--session-id", "--resume"):
        if name in arguments:
            return arguments[arguments.index(name) + 1]
    return str(uuid.uuid4())


def main() -> None:
    phase, attempt = os.environ["WORKORDERS_PHASE"], os.environ["WORKORDERS_ATTEMPT"]
    order = os.environ["WORKORDERS_AGENT_WORK_ORDER_ID"]
    session = session_of(sys.argv)
    prompt = sys.stdin.read()
    emit(type="system", subtype="init", session_id=session, model="scripted", tools=[])
    leave_evidence, afterwards = True, ""
    for found in LINE.finditer(prompt):
        only_phase, only_attempt, words = found.groups()
        if (only_phase and only_phase != phase) or (only_attempt and only_attempt != attempt):
            continue
        verb, _, rest = words.partition(" ")
        if verb == "sleep":
            time.sleep(float(rest))
        elif verb == "say":
            say(rest, session=session)
        elif verb == "commit":
            commit(rest, "by request\n", f"Add {rest}")
        elif verb == "leave":
            with open(rest, "a") as file:  # noqa: PTH123  # pathlib costs start time
                file.write("left uncommitted\n")
        elif verb == "run":
            subprocess.run(["sh", "-c", rest], check=False)
        elif verb == "ask":
            say(f"The model answered {ask(rest)}.", session=session)
        elif verb == "insist":
            while True:
                ask(rest)
                time.sleep(0.05)
        elif verb == "then":
            afterwards = rest
        elif verb == "nothing":
            leave_evidence = False
        elif verb == "fail" or (verb == "need" and not os.path.exists(rest.split(" ", 1)[0])):  # noqa: PTH110  # likewise
            words = rest if verb == "fail" else rest.partition(" ")[2]
            result(words or "I could not do it", is_error=True, session=session)
            sys.exit(1)
        elif verb == "exit":
            sys.exit(int(rest))
    if leave_evidence:
        evidence(phase, order)
    result(f"{phase} done", session=session)
    if afterwards:
        sys.exit(subprocess.run(["sh", "-c", afterwards], check=False).returncode)


if __name__ == "__main__":
    main()
