"""Finds, validates and renders `.claude/commands/*.md`: the prompts of the phases.

The same functions read the product's own files and an override from a target repository's base commit, which
is untrusted text: it is parsed and filled in, never run (the CLI's own !`command` and @file are left as they
are). Must not know workflows, rows or how a prompt is sent.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

from sandboxes.errors import ExpectedError

MAX_COMMAND_BYTES = 128 * 1024
MAX_FRONT_MATTER_CHARACTERS = 4096  # YAML takes quadratic time for text that is built to be slow
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_FENCE = re.compile(r"---[ \t]*")
# Claude Code accepts these as plain words; YAML would stumble over `[issue] [text]` or a second colon.
_LENIENT_LINE = re.compile(r"^(argument-hint|description):[ \t]+(?![\"'|>])(\S.*)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"(\\?)\$(ARGUMENTS|[1-9])(?!\w)")
_ODD_PLACEHOLDER = re.compile(r"(?<!\\)\$(0|[1-9]\d+|[1-9](?=[A-Za-z_])|ARGUMENTS(?=\w|\[))\w*")
_INLINE_RUN = re.compile(r"(?:^|\s)!`")


class CommandInvalid(ExpectedError):
    """A command file cannot be used; the message names file and line."""

    category = "command_invalid"
    advice = "Correct the named line of the command file, then retry."

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file, self.line = file, line


class CommandsInvalid(ExpectedError):
    """Several command files cannot be used; `problems` has each, the message all of them."""

    category = "command_invalid"
    advice = "Correct the named lines of the command files."

    def __init__(self, problems: Sequence[CommandInvalid]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class CommandMissing(ExpectedError):
    """There is no command of that name."""

    category = "command_missing"
    advice = "Add the file to .claude/commands/ or choose another workflow."


@dataclass(frozen=True)
class AgentCommand:
    """A command as its file says it. `source` is for messages; `other` are front matter keys not known here.

    `allowed_tools`, `model` and `disable_model_invocation` are read for completeness; whether they are
    honoured is the caller's decision. `warnings` are sentences with file and line.
    """

    command_name: str
    source: str
    body: str
    description: str = ""
    argument_hint: str = ""
    allowed_tools: tuple[str, ...] = ()
    model: str = ""
    disable_model_invocation: bool = False
    other: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def parse_command(text: str | bytes, *, command_name: str, source: str) -> AgentCommand:
    """The command in a file's content. Raises `CommandInvalid`."""
    if _NAME.fullmatch(command_name) is None:
        raise CommandInvalid(source, 1, f"{command_name[:100]!r} is not a command name (a-z, 0-9, _ and -).")
    lines = _checked_text(text, source).replace("\r\n", "\n").split("\n")
    matter, body_at = _split(lines, source)
    body = "\n".join(lines[body_at:]).strip("\n")
    if not body.strip():
        raise CommandInvalid(source, max(len(lines), 1), "the command has no text.")
    known = _KnownKeys(matter, source)
    return AgentCommand(
        command_name=command_name,
        source=source,
        body=body,
        description=known.text("description"),
        argument_hint=known.text("argument-hint"),
        allowed_tools=known.words("allowed-tools"),
        model=known.text("model"),
        disable_model_invocation=matter.get("disable-model-invocation") is True,
        other=known.others(),
        warnings=(*known.warnings(), *_body_warnings(lines, body_at, source)),
    )


def render(command: AgentCommand, arguments: Sequence[str]) -> str:
    r"""The prompt text: `$1`…`$9` are single arguments, `$ARGUMENTS` all of them with spaces between.

    One pass: what an argument contains is never expanded again. A missing argument is empty; `\$1` stays
    `$1`; `$10`, `$0` and `$1st` are no placeholders and stay as they are. Without any placeholder the
    arguments follow at the end, as in Claude Code. (`$1` is the first argument, as documented for commands;
    the CLI's newer skills count from `$0`.)
    """
    everything = " ".join(arguments)

    def fill(found: re.Match[str]) -> str:
        escaped, name = found.groups()
        if escaped:
            return f"${name}"
        if name == "ARGUMENTS":
            return everything
        return arguments[int(name) - 1] if int(name) <= len(arguments) else ""

    used = any(not found[1] for found in _PLACEHOLDER.finditer(command.body))
    text = _PLACEHOLDER.sub(fill, command.body)
    return text if used or not everything else f"{text}\n\nARGUMENTS: {everything}"


def load_commands(directory: Path) -> dict[str, AgentCommand]:
    """Every `*.md` of the folder by name. Raises `CommandsInvalid` with all problems of all files."""
    commands: dict[str, AgentCommand] = {}
    problems: list[CommandInvalid] = []
    for path in sorted(directory.glob("*.md")):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_COMMAND_BYTES + 1)
            commands[path.stem] = parse_command(content, command_name=path.stem, source=str(path))
        except OSError as error:
            problems.append(CommandInvalid(str(path), 1, f"cannot be read: {error.strerror}."))
        except CommandInvalid as problem:
            problems.append(problem)
    if problems:
        raise CommandsInvalid(problems)
    return commands


class ClaudeCommandLoader:
    """The commands of one folder, read once. A leading slash in a name is accepted, as people type it."""

    def __init__(self, commands_directory: str | Path) -> None:
        self._directory = Path(commands_directory)
        self._commands: dict[str, AgentCommand] | None = None

    def load_all_commands(self) -> list[AgentCommand]:
        """Read the folder again. Raises `CommandsInvalid`."""
        self._commands = load_commands(self._directory)
        return list(self._commands.values())

    def get_command(self, command_name: str) -> AgentCommand:
        """Raises `CommandMissing`, and `CommandsInvalid` where the folder was not read before."""
        if self._commands is None:
            self.load_all_commands()
        command = (self._commands or {}).get(command_name.removeprefix("/"))
        if command is None:
            raise CommandMissing(f"There is no command {command_name!r} in {self._directory}.")
        return command


def _checked_text(content: str | bytes, source: str) -> str:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(data) > MAX_COMMAND_BYTES:
        raise CommandInvalid(source, 1, f"larger than {MAX_COMMAND_BYTES // 1024} KiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandInvalid(source, data.count(b"\n", 0, error.start) + 1, "not UTF-8.") from error
    if (position := text.find("\0")) >= 0:
        raise CommandInvalid(source, text.count("\n", 0, position) + 1, "holds a NUL character.")
    return text


def _split(lines: Sequence[str], source: str) -> tuple[dict[str, object], int]:
    """The front matter's content and the index of the body's first line."""
    if not lines or _FENCE.fullmatch(lines[0]) is None:
        return {}, 0
    for index in range(1, len(lines)):
        if _FENCE.fullmatch(lines[index]):
            return _front_matter("\n".join(lines[1:index]), source), index + 1
    raise CommandInvalid(source, 1, "the front matter is opened by --- and never closed.")


def _front_matter(text: str, source: str) -> dict[str, object]:
    if len(text) > MAX_FRONT_MATTER_CHARACTERS:
        raise CommandInvalid(
            source, 2, f"the front matter has over {MAX_FRONT_MATTER_CHARACTERS} characters."
        )
    lenient = _LENIENT_LINE.sub(lambda found: f"{found[1]}: {json.dumps(found[2].strip())}", text)
    try:
        content = yaml.safe_load(lenient)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 2 if error.problem_mark else 2
        raise CommandInvalid(source, line, f"the front matter is not YAML: {error.problem}.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise CommandInvalid(source, 2, "the front matter is not YAML this server accepts.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise CommandInvalid(source, 2, "the front matter must be `key: value` lines.")
    return {str(key): value for key, value in content.items() if isinstance(key, str | int)}


@dataclass(frozen=True)
class _KnownKeys:
    """Reads the front matter's values in the types they must have."""

    matter: Mapping[str, object]
    source: str

    _NAMES = ("description", "argument-hint", "allowed-tools", "model", "disable-model-invocation")

    def text(self, name: str) -> str:
        value = self.matter.get(name)
        if isinstance(value, list | dict):
            raise CommandInvalid(self.source, 2, f"{name} must be text.")
        return "" if value is None else str(value)

    def words(self, name: str) -> tuple[str, ...]:
        value = self.matter.get(name)
        if isinstance(value, dict):
            raise CommandInvalid(self.source, 2, f"{name} must be a list or text with commas.")
        items = value if isinstance(value, list) else [] if value is None else str(value).split(",")
        return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())

    def others(self) -> dict[str, str]:
        """Unknown keys; only plain values, since nested ones may be built to explode when written out."""
        unknown = {name: value for name, value in self.matter.items() if name not in self._NAMES}
        return {
            name: "…" if isinstance(value, list | dict | set) else str(value)
            for name, value in unknown.items()
        }

    def warnings(self) -> tuple[str, ...]:
        return tuple(f"{self.source}:2: unknown front matter key {name!r}." for name in self.others())


def _body_warnings(lines: Sequence[str], body_at: int, source: str) -> list[str]:
    found = []
    for number, line in enumerate(lines[body_at:], start=body_at + 1):
        if odd := _ODD_PLACEHOLDER.search(line):
            found.append(f"{source}:{number}: {odd[0]} is no placeholder and stays as it is.")
        if _INLINE_RUN.search(line):
            found.append(f"{source}:{number}: !`…` is not run by this server.")
    return found
