"""The rehearsal agent: speaks Claude Code's stream-json and calls no model.

For the quick start, load tests and demonstrations: each phase makes honest small commits, labelled
"rehearsal:", with what that phase must leave in git. A script of its own that runs inside sandboxes: nothing of this
project may be imported or known. A hundred may start at once, so it imports only what is built into Python: `os`,
`json`, `re` and `subprocess` took three quarters of its time.

It takes Claude Code's arguments and ignores those it has no use for. The request may steer it, by a line
`rehearsal: fail <phase>`, `rehearsal: tests fail` or `rehearsal: no change`.
"""

import posix
import sys
import time

_PHASES = {"plan": "planning", "build": "implementing", "implement": "implementing", "test": "testing"}
_RESULTS = "test_results.json"
_OUTCOME = "Work-Order-Outcome: no_change_needed"
_SUCCESS = "success"
_ERROR = "error_during_execution"
_ASKED = "rehearsal:"
_IGNORED_SIGNALS = [13, 25]  # SIGPIPE and SIGXFSZ: Python ignores them, git must not
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b"}


class RehearsalFailed(Exception):
    """The phase cannot be finished; the text becomes the error result."""


class Rehearsal:
    """One run: who asked for what, and the conversation it prints."""

    def __init__(self, arguments: "list[str]", environment: "dict[str, str]", prompt: str) -> None:
        self.started = time.monotonic()
        self.prompt = prompt
        self.session = _option(arguments, "--resume") or _option(arguments, "--session-id") or "rehearsal"
        self.model = _option(arguments, "--model") or "rehearsal"
        self.order = _file_name(environment.get("WORKORDERS_AGENT_WORK_ORDER_ID", "")) or "rehearsal"
        self.attempt = _file_name(environment.get("WORKORDERS_ATTEMPT", "")) or "1"
        phase = environment.get("WORKORDERS_PHASE", "")
        self.phase = _PHASES.get(phase, phase)
        self.follow_up = environment.get("WORKORDERS_FOLLOW_UP", "") == "1"
        self.pause = _seconds(environment.get("WORKORDERS_REHEARSAL_SECONDS", "")) / 6
        self.title = _title(prompt, "follow_up" if self.follow_up else "request")
        self.turns = 0

    def run(self) -> int:
        """Speak and act; the exit code."""
        self._emit("system", subtype="init", cwd=posix.getcwd(), model=self.model, tools=["Bash", "Write"])
        try:
            self._say(f"This is a rehearsal of the {self.phase or 'unknown'} phase; no model is called.")
            answer = self._work()
        except (RehearsalFailed, OSError) as error:
            self._result(_ERROR, str(error), is_error=True)
            return 1
        self._say(answer)
        self._result(_SUCCESS, answer, is_error=False)
        return 0

    def _work(self) -> str:
        self._wait()
        if self.phase in self._asked_to_fail():
            raise RehearsalFailed(f"The request asked this rehearsal to fail in the {self.phase} phase.")
        if self.follow_up:
            return self._follow_up()
        actions = {"planning": self._plan, "implementing": self._implement, "testing": self._test}
        if self.phase not in actions:
            raise RehearsalFailed(f"WORKORDERS_PHASE={self.phase!r} is not a phase.")
        return actions[self.phase]()

    def _asked_to_fail(self) -> "set[str]":
        pairs = [asked.split() for asked in _asked_of(self.prompt)]
        names = [pair[1] for pair in pairs if len(pair) == 2 and pair[0] == "fail"]
        return {_PHASES.get(name, name) for name in names}

    def _asked(self, words: str) -> bool:
        return words in _asked_of(self.prompt)

    def _plan(self) -> str:
        path = f"specs/plan-{self.order}.md"
        self._write(
            path,
            f"# {self.title}\n\n"
            "This plan was written by the rehearsal agent; no model read the request.\n\n"
            "## Steps\n\n"
            f"1. Describe the rehearsal in `rehearsal/{self.order}.md`.\n"
            "2. Add a line about what was asked.\n"
            f"3. Record the checks in `{_RESULTS}`.\n\n"
            f"Attempt {self.attempt}, session {self.session}.\n",
        )
        self._commit(path, f"rehearsal: plan {self.title}")
        return f"The plan is in {path}."

    def _implement(self) -> str:
        if self._asked("no change"):
            message = f"rehearsal: nothing needs to change\n\nThe request asked for no change.\n\n{_OUTCOME}"
            self._bash(["git", "commit", "--quiet", "--allow-empty", "-m", message])
            return "Nothing needs to change."
        path = f"rehearsal/{self.order}.md"
        self._write(path, f"# Rehearsal of {self.order}\n\nNo model was called.\n")
        self._commit(path, f"rehearsal: start {path}")
        self._wait()
        about = f"\nAsked for: {self.title}\n\nAttempt {self.attempt}, session {self.session}.\n"
        self._write(path, about, append=True)
        self._commit(path, f"rehearsal: say what was asked in {path}")
        return f"The rehearsal is described in {path}."

    def _follow_up(self) -> str:
        path = f"rehearsal/{self.order}-follow-up-{self.attempt}.md"
        self._write(
            path, f"# Follow-up of {self.order}\n\nAsked for: {self.title}\n\nSession {self.session}.\n"
        )
        self._commit(path, f"rehearsal: answer the follow-up in {path}")
        return f"The follow-up is answered in {path}."

    def _test(self) -> str:
        tests = [
            self._check("plan_exists", f"specs/plan-{self.order}.md"),
            self._check("change_exists", f"rehearsal/{self.order}.md"),
            {"name": "rehearsal::testing_phase_ran", "status": "passed", "duration_seconds": 0.0},
        ]
        if self._asked("tests fail"):
            message = "The request asked for a failing test."
            tests.append({"name": "rehearsal::asked_to_fail", "status": "failed", "message": message})
        passed = sum(test["status"] == "passed" for test in tests)
        failed = sum(test["status"] == "failed" for test in tests)
        summary = f"Rehearsal: {passed} passed, {failed} failed; the repository's own tests were not run."
        results = {
            "passed": passed,
            "failed": failed,
            "tests": tests,
            "command": "rehearsal agent",
            "summary": f"{summary} Attempt {self.attempt}, session {self.session}.",
        }
        self._write(_RESULTS, _json(results, "\n") + "\n")
        self._commit(
            _RESULTS, f"rehearsal: record {passed} passed and {failed} failed checks", "--allow-empty"
        )
        return summary

    def _check(self, name: str, path: str) -> "dict[str, object]":
        there = _is_file(path)
        case: dict[str, object] = {"name": f"rehearsal::{name}", "status": "passed" if there else "skipped"}
        if not there:
            case["message"] = f"{path} is not in this checkout."
        return case

    def _write(self, path: str, text: str, *, append: bool = False) -> None:
        call = self._call("Edit" if append else "Write", {"file_path": path, "content": text})
        if folder := path.rpartition("/")[0]:
            _make_folder(folder)
        with open(path, "a" if append else "w", encoding="utf-8") as file:  # noqa: PTH123  # pathlib takes long to import
            file.write(text)
        self._called(call, f"{len(text)} characters written to {path}", is_error=False)

    def _commit(self, path: str, message: str, *options: str) -> None:
        self._wait()
        # -f: the repository may ignore the folder; the evidence of a phase must be in git nevertheless.
        self._bash(["git", "add", "-f", "--", path])
        self._bash(["git", "commit", "--quiet", *options, "-m", message], unchanged_is_fine=True)

    def _bash(self, command: "list[str]", *, unchanged_is_fine: bool = False) -> None:
        shown = " ".join(f"'{part}'" if " " in part else part for part in command)
        call = self._call("Bash", {"command": shown, "description": "Record the work"})
        exit_code, written = _run(command)
        output = written.decode("utf-8", "replace")[-2000:].strip()
        nothing_new = unchanged_is_fine and "nothing to commit" in output  # an earlier attempt committed it
        failed = exit_code != 0 and not nothing_new
        self._called(call, output, is_error=failed)
        if failed:
            raise RehearsalFailed(f"`{shown[:200]}` ended with {exit_code}: {output[-500:]}")

    def _call(self, tool: str, arguments: "dict[str, str]") -> str:
        self.turns += 1
        identifier = f"toolu_rehearsal_{self.turns:03d}"
        self._assistant({"type": "tool_use", "id": identifier, "name": tool, "input": arguments})
        return identifier

    def _called(self, identifier: str, output: str, *, is_error: bool) -> None:
        block = {
            "type": "tool_result",
            "tool_use_id": identifier,
            "content": output,
            "is_error": is_error,
        }
        self._emit("user", message={"role": "user", "content": [block]})

    def _say(self, text: str) -> None:
        self._assistant({"type": "text", "text": text})

    def _assistant(self, block: "dict[str, object]") -> None:
        self._emit("assistant", message={"role": "assistant", "model": self.model, "content": [block]})

    def _result(self, subtype: str, text: str, *, is_error: bool) -> None:
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        self._emit(
            "result",
            subtype=subtype,
            is_error=is_error,
            result=text,
            duration_ms=int((time.monotonic() - self.started) * 1000),
            num_turns=self.turns,
            total_cost_usd=0,
            usage=dict.fromkeys(names, 0),
            permission_denials=[],
        )

    def _emit(self, kind: str, **rest: object) -> None:
        print(_json({"type": kind, **rest, "session_id": self.session}), flush=True)

    def _wait(self) -> None:
        if self.pause:
            time.sleep(self.pause)


def _run(command: "list[str]") -> "tuple[int, bytes]":
    """The exit code, negative for a signal, and all that the command wrote."""
    reading, writing = posix.pipe()
    actions = [
        (posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0),
        (posix.POSIX_SPAWN_DUP2, writing, 1),
        (posix.POSIX_SPAWN_DUP2, writing, 2),
    ]
    try:
        process = posix.posix_spawnp(
            command[0], command, posix.environ, file_actions=actions, setsigdef=_IGNORED_SIGNALS
        )
    finally:
        posix.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123  # no path
        written = pipe.read()
    return posix.waitstatus_to_exitcode(posix.waitpid(process, 0)[1]), written


def _is_file(path: str) -> bool:
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o100000
    except OSError:
        return False


def _make_folder(path: str) -> None:
    try:  # noqa: SIM105  # contextlib takes long to import
        posix.mkdir(path)
    except FileExistsError:
        pass


def _json(value: object, margin: str = "") -> str:
    """As the json module writes it, in ASCII. With a margin, a line's end and spaces, each entry has a line."""
    inner = margin and f"{margin}  "
    if isinstance(value, dict):
        entries = [f"{_json(name)}: {_json(entry, inner)}" for name, entry in value.items()]
        return _enclosed("{", entries, "}", margin)
    if isinstance(value, list):
        return _enclosed("[", [_json(entry, inner) for entry in value], "]", margin)
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)  # a number


def _enclosed(opening: str, entries: "list[str]", closing: str, margin: str) -> str:
    if not entries or not margin:
        return f"{opening}{', '.join(entries)}{closing}"
    between = f"{margin}  "
    return f"{opening}{between}{f',{between}'.join(entries)}{margin}{closing}"


def _escaped(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0x20 <= code < 0x7F:
        return character
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _asked_of(prompt: str) -> "list[str]":
    """What the lines `rehearsal: …` say, in small letters."""
    lines = [line.strip() for line in prompt.split("\n")]
    return [line[len(_ASKED) :].strip().lower() for line in lines if line[: len(_ASKED)].lower() == _ASKED]


def _option(arguments: "list[str]", name: str) -> str:
    """The value of `--name value` or `--name=value`; '' where it is not given."""
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
        if argument == name and position + 1 < len(arguments):
            return arguments[position + 1]
    return ""


def _file_name(text: str) -> str:
    """The characters of an identifier that are safe in a path, never a dot at the start."""
    safe = [
        character for character in text if character.isascii() and (character.isalnum() or character in "._-")
    ]
    return "".join(safe).lstrip(".-")[:80]


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 3600.0)
    except ValueError:
        return 0.0


def _title(prompt: str, section: str) -> str:
    """The first line of words of the prompt's last section of that name."""
    _, tag, rest = prompt.rpartition(f"\n<{section}")
    request = rest.partition(">")[2].partition(f"</{section}")[0] if tag else ""
    for line in request.splitlines():
        words = " ".join(line.translate(_CONTROLS).split()).lstrip("# ")
        if words and not words.lower().startswith((_ASKED, "<")):
            return words[:100]
    return "Rehearsal"


def main() -> int:
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace")
    encoding = sys.getfilesystemencoding()
    environment = {
        name.decode(encoding, "surrogateescape"): value.decode(encoding, "surrogateescape")
        for name, value in posix.environ.items()
    }
    return Rehearsal(sys.argv[1:], environment, prompt).run()


if __name__ == "__main__":
    sys.exit(main())
