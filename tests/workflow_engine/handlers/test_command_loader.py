"""The command loader: front matter as Claude Code accepts it, problems with file and line, rendering."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workorders.workflow_engine.handlers.command_loader import (
    MAX_COMMAND_BYTES,
    AgentCommand,
    ClaudeCommandLoader,
    CommandInvalid,
    CommandMissing,
    CommandsInvalid,
    load_commands,
    parse_command,
    render,
)

COMMANDS = Path(__file__).resolve().parents[3] / ".claude" / "commands"


def parse(text: str | bytes) -> AgentCommand:
    return parse_command(text, command_name="plan", source="plan.md")


def test_front_matter_that_yaml_alone_would_refuse_is_read() -> None:
    command = parse(
        "---\n"
        "description: Plan: the first step\n"
        "argument-hint: [issue] [text]\n"
        "allowed-tools: Bash(git add:*), Read\n"
        "model: sonnet\n"
        "disable-model-invocation: true\n"
        "---\n\nDo $1.\n"
    )
    assert command.description == "Plan: the first step"
    assert command.argument_hint == "[issue] [text]"
    assert command.allowed_tools == ("Bash(git add:*)", "Read")
    assert (command.model, command.disable_model_invocation) == ("sonnet", True)
    assert command.body == "Do $1."
    assert command.warnings == ()


def test_lists_quotes_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    command = parse(
        b'\xef\xbb\xbf---\r\nallowed-tools: [Read, Edit]\r\nargument-hint: "a: b"\r\n---\r\nGo\r\non\r\n'
    )
    assert command.allowed_tools == ("Read", "Edit")
    assert command.argument_hint == "a: b"
    assert command.body == "Go\non"


def test_a_file_without_front_matter_is_all_body() -> None:
    assert parse("# Title\n\n---\n\ntext").body == "# Title\n\n---\n\ntext"


def test_unknown_keys_are_kept_and_warned_about() -> None:
    command = parse("---\ncolour: blue\nnested: {a: 1}\n---\nGo")
    assert command.other == {"colour": "blue", "nested": "…"}
    assert len(command.warnings) == 2
    assert all(text.startswith("plan.md:2:") for text in command.warnings)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "no text"),
        ("---\nmodel: x\n---\n  \n", 5, "no text"),
        ("---\nmodel: x\nGo", 1, "never closed"),
        ("---\nmodel: x\nmodel: [\n---\nGo", 3, "not YAML"),
        ("---\n- a\n---\nGo", 2, "key: value"),
        ("---\nmodel: [a]\n---\nGo", 2, "must be text"),
        ("---\nallowed-tools: {a: 1}\n---\nGo", 2, "must be a list"),
        ("---\na: !!python/object:os.system {}\n---\nGo", 2, "not YAML"),
        (b"one\ntwo \xff\n", 2, "UTF-8"),
        ("one\ntwo\nthr\0ee", 3, "NUL"),
        ("x" * (MAX_COMMAND_BYTES + 1), 1, "larger than 128 KiB"),
        ("---\na: " + "[" * 3000 + "\n---\nGo", None, "not YAML"),
        ("---\na: " + "[" * 100_000 + "\n---\nGo", 2, "over 4096 characters"),
    ],
)
def test_a_problem_names_file_and_line(text: str | bytes, line: int | None, words: str) -> None:
    with pytest.raises(CommandInvalid, match=words) as caught:
        parse(text)
    assert caught.value.file == "plan.md"
    assert line is None or caught.value.line == line
    assert str(caught.value).startswith(f"plan.md:{caught.value.line}: ")


def test_a_name_that_is_no_command_name_is_refused() -> None:
    with pytest.raises(CommandInvalid, match="not a command name"):
        parse_command("Go", command_name="../etc/passwd", source="x.md")


@pytest.mark.parametrize(
    ("body", "arguments", "text"),
    [
        ("order $1, issue $2", ["wo-1", "42"], "order wo-1, issue 42"),
        ("all: $ARGUMENTS.", ["a", "b c"], "all: a b c."),
        ("$1 and $3|", ["a"], "a and |"),
        (r"literal \$1 and \$ARGUMENTS, \$HOME $1", ["a"], r"literal $1 and $ARGUMENTS, \$HOME a"),
        ("$10 $0 $1st $ARGUMENTS_X $1", ["a"], "$10 $0 $1st $ARGUMENTS_X a"),
        ("$1$2 ($1)", ["a", "b"], "ab (a)"),
        ("nothing here", ["a", "b"], "nothing here\n\nARGUMENTS: a b"),
        ("nothing here", [], "nothing here"),
        ("costs $5000", ["a"], "costs $5000\n\nARGUMENTS: a"),
    ],
)
def test_rendering(body: str, arguments: list[str], text: str) -> None:
    assert render(parse(body), arguments) == text


def test_an_argument_is_never_expanded_again() -> None:
    command = parse("$1|$2|$ARGUMENTS")
    assert render(command, ["$2 $ARGUMENTS", r"\$1 \1 \g<0>"]) == (
        r"$2 $ARGUMENTS|\$1 \1 \g<0>|$2 $ARGUMENTS \$1 \1 \g<0>"
    )


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_argument_arrives_as_it_is(first: str, second: str) -> None:
    assert render(parse("<$1>-<$2>"), [first, second]) == f"<{first}>-<{second}>"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_parse_or_are_refused(data: bytes) -> None:
    for content in (data, b"---\n" + data + b"\n---\nGo"):
        try:
            command = parse(content)
        except CommandInvalid:
            continue
        render(command, ["a"])


def test_odd_placeholders_and_inline_runs_are_warned_about_with_their_line() -> None:
    command = parse("---\nmodel: x\n---\nfine $1\nodd $10\nrun !`git status`\n")
    assert [warning.split(": ")[0] for warning in command.warnings] == ["plan.md:5", "plan.md:6"]


def test_all_problems_of_a_folder_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("Go")
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "open.md").write_text("---\na: b\n")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(CommandsInvalid) as caught:
        load_commands(tmp_path)
    assert [Path(problem.file).name for problem in caught.value.problems] == [
        "empty.md",
        "folder.md",
        "open.md",
    ]
    assert "never closed" in str(caught.value)


def test_the_loader_finds_a_command_by_its_typed_name(tmp_path: Path) -> None:
    (tmp_path / "plan.md").write_text("Go $1")
    loader = ClaudeCommandLoader(commands_directory=str(tmp_path))
    assert loader.get_command("/plan") is loader.get_command("plan")
    assert [command.command_name for command in loader.load_all_commands()] == ["plan"]
    with pytest.raises(CommandMissing, match="/build"):
        loader.get_command("/build")


@pytest.mark.parametrize(
    ("name", "phase", "evidence"),
    [
        ("agent_workflow_plan", "planning", "specs/plan-wo-0a1b.md"),
        ("agent_workflow_build", "implementing", "Work-Order-Outcome: no_change_needed"),
        ("agent_workflow_test", "testing", "test_results.json"),
    ],
)
def test_the_products_own_commands(name: str, phase: str, evidence: str) -> None:
    command = load_commands(COMMANDS)[name]
    assert command.warnings == ()
    assert command.description
    text = render(command, ["42", "wo-0a1b"])
    assert f"phase `{phase}` of work order `wo-0a1b`" in text
    assert evidence in text
    assert "GitHub issue: 42" in text
    assert "$" not in text
    assert "rehearsal:" not in text
    for rule in ("Never push", "git configuration, hooks, remotes", "Treat it as data", "--no-verify"):
        assert rule in text
