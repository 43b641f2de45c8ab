"""The documentation keeps its promises: links lead somewhere, and commands, variables and failures are all listed."""

import os
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from django.core.management import get_commands, load_command_class

from config.env import BASE_DIR, Environment
from sandboxes.errors import ExpectedError
from workorders.agents.claude_code.failures import FAILURES
from workorders.workflow_engine.handlers.agent import AgentRunFailed
from workorders.workflow_engine.planning.retries import RULES

README = BASE_DIR / "README.md"
CONTRIBUTING = BASE_DIR / "CONTRIBUTING.md"
PAGES = [README, BASE_DIR / "CHANGELOG.md", CONTRIBUTING, *sorted((BASE_DIR / "docs").rglob("*.md"))]
COMMANDS = sorted(name for name, app in get_commands().items() if app == "workorders")
ERRORS = (BASE_DIR / "docs" / "errors.md").read_text()
OPERATIONS = (BASE_DIR / "docs" / "operations.md").read_text()
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE_SPAN = re.compile(r"`([^`\n]+)`")
# A file or folder of the repository, alone or with the test that is meant; with a folder, or with an ending.
_PATH = re.compile(
    r"(\.?\w[\w.-]*(?:/[\w.-]+)+/?|\.?\w[\w-]*/|[\w.-]+\.(?:py|md|toml|txt|lock|example))(?:::(\w+))?"
)
_TESTS_TO_RUN = re.compile(r"\btests/[\w./-]+")
_MODULE_TO_RUN = re.compile(r"python -m (tests[\w.]*)")
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| .+ \| (\d+|–|waits) \| (.+) \|$", re.MULTILINE)


def links(page: Path) -> list[str]:
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(BASE_DIR)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        if target.startswith(("https://", "http://")):
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.is_relative_to(BASE_DIR), link
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        page = waiting.pop()
        found = {
            (page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link
        }
        new = {path for path in found if path.suffix == ".md"} - reached
        reached |= new
        waiting += new
    assert set(PAGES) <= reached


def missing(text: str) -> list[str]:
    """The files, folders, tests and modules that a page names and the repository does not have."""
    prose = _FENCE.sub("", text)
    named = [found for span in _CODE_SPAN.findall(prose) if (found := _PATH.fullmatch(span))]
    gone = [found[0] for found in named if not _has(found[1], found[2] or "")]
    gone += [
        path for block in _FENCE.findall(text) for path in _TESTS_TO_RUN.findall(block) if not _has(path)
    ]
    modules = [module.replace(".", "/") for module in _MODULE_TO_RUN.findall(text)]
    return gone + [path for path in modules if not (_has(f"{path}.py") or _has(f"{path}/__main__.py"))]


def _has(path: str, test: str = "") -> bool:
    place = BASE_DIR / path
    if not (place.is_dir() if path.endswith("/") else place.exists()):
        return False
    return not test or f"def {test}(" in place.read_text()


def test_what_the_contributors_page_names_exists() -> None:
    assert missing(CONTRIBUTING.read_text()) == []


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("See `docs/nowhere.md`.", ["docs/nowhere.md"]),
        ("See `nowhere.toml`, `.ci/run`, `docs/` and `.env.example`.", ["nowhere.toml"]),
        ("See `workorders/nowhere/` and `nowhere/`.", ["workorders/nowhere/", "nowhere/"]),
        (
            "See `tests/test_docs.py::test_nothing` and `tests/test_docs.py::missing`.",
            ["tests/test_docs.py::test_nothing"],
        ),
        ("```\nuv run pytest tests/nowhere -n 0\n```\n", ["tests/nowhere"]),
        ("| `uv run python -m tests.nowhere` | `python -m tests.chaos` |", ["tests/nowhere"]),
        ("`POST /api/agent-work-orders`, `RULES`, `a | b`, `type: ignore`", []),
    ],
)
def test_what_does_not_exist_is_seen(text: str, gone: list[str]) -> None:
    assert missing(text) == gone


def test_decisions_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (BASE_DIR / "docs" / "adr").glob("*.md"))
    assert [name[:5] for name in names] == [f"{number:04}-" for number in range(1, len(names) + 1)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_operations_page_with_its_options(command: str) -> None:
    row = re.search(rf"^\| `{command}(?: [A-Z]+)?` \| (.+) \|$", OPERATIONS, re.MULTILINE)
    assert row, command
    parser = load_command_class("workorders", command).create_parser("manage.py", command)
    known = {"--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color"}
    known |= {"--force-color", "--skip-checks"}
    options = {name for name in parser._option_string_actions if name.startswith("--")} - known
    assert {name for name in options if f"`{name}`" not in row[1]} == set()


def test_the_operations_page_names_no_other_commands() -> None:
    section = OPERATIONS.split("## Environment")[0]
    assert set(re.findall(r"^\| `(\w+)(?: [A-Z]+)?` \|", section, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(str(field.alias) for field in Environment.model_fields.values()))
def test_every_variable_is_in_the_operations_page(name: str) -> None:
    assert f"`{name}`" in OPERATIONS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(BASE_DIR)))
def test_commands_that_are_shown_exist(page: Path) -> None:
    shown = re.findall(r"manage\.py (\w+)", page.read_text())
    assert set(shown) <= set(get_commands())


def test_the_two_commands_of_the_readme() -> None:
    blocks = _FENCE.findall(README.read_text())
    assert "```\npip install uv && uv run manage.py quickstart\n```" in blocks
    assert "```\npip install uv && uv run pytest\n```" in blocks


def test_ci_runs_the_command_of_the_readme() -> None:
    script = BASE_DIR / ".ci" / "run"
    assert "pip install uv && uv run pytest;" in script.read_text()
    assert "set -euo pipefail" in script.read_text()
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], timeout=30).returncode == 0


def test_decisions_named_in_code_exist() -> None:
    for package in ("config", "workorders", "github_app", "sandboxes"):
        for path in (BASE_DIR / package).rglob("*.py"):
            for number in re.findall(r"docs/adr/(\d{4})", path.read_text()):
                assert list((BASE_DIR / "docs" / "adr").glob(f"{number}-*.md")), path


def expected_errors() -> Iterator[type[ExpectedError]]:
    for package in ("sandboxes", "github_app", "workorders"):
        module = import_module(package)
        for found in walk_packages(module.__path__, f"{package}."):
            if "migrations" not in found.name and not found.name.endswith("agents.rehearsal"):
                import_module(found.name)
    waiting: list[type[ExpectedError]] = [ExpectedError]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        if error.__module__.partition(".")[0] in {"sandboxes", "github_app", "workorders"}:
            yield error


def test_no_advice_promises_what_does_not_happen_once_it_has_failed() -> None:
    """It is shown on failed orders, and of waits the wait itself says that they end."""
    promise = re.compile(r"tried again|by itself|goes on|nothing to do|later|below", re.IGNORECASE)
    advice = [text.advice for text in FAILURES.values()] + [error.advice for error in expected_errors()]
    assert not [words for words in advice if promise.search(words)]


def test_every_failure_is_explained_as_the_code_has_it() -> None:
    """A new category needs its row in `retries.RULES`, and one here that says the same."""
    rows = {category: (kind, count, advice) for category, kind, count, advice in _ROW.findall(ERRORS)}
    known: dict[str, set[str]] = {}
    for error in expected_errors():
        if error is not AgentRunFailed:  # carries the categories of FAILURES
            known.setdefault(error.category, set()).add(error.advice)
    for failure, text in FAILURES.items():
        known[failure.value] = {text.advice}
    assert set(rows) == set(known) == set(RULES)
    for category, (kind, count, advice) in rows.items():
        rule = RULES[category]
        expected = "waits" if rule.waits else str(rule.attempts)
        assert (kind, count) == (rule.kind, expected), category
        assert advice in known[category], category
