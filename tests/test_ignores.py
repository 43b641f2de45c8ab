"""A check that is switched off somewhere says why, there: ruff and mypy tell which of them are not needed any more."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_CODES = r"[A-Z]+[0-9]+(?:[, ]+[A-Z]+[0-9]+)*"
_IGNORE = re.compile(rf"# (?:noqa(?:: {_CODES})?|nosec(?: {_CODES})?|type: ignore(?:\[[\w, -]+\])?) *")


def unexplained(code: str) -> list[str]:
    """The lines that ignore something and do not go on with a comment."""
    return [
        line.strip()
        for line in code.splitlines()
        if (ignore := _IGNORE.search(line)) and not re.match(r"# \w", _IGNORE.sub("", line[ignore.start() :]))
    ]


def test_each_ignore_has_its_reason() -> None:
    packages = ("config", "workorders", "github_app", "sandboxes", "tests")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    code = {path: path.read_text() for path in files if "migrations" not in path.parts}
    assert {path: lines for path, text in code.items() if (lines := unexplained(text))} == {}


def test_an_ignore_without_a_reason_is_seen() -> None:
    mark = "# " + "noqa"  # in two pieces, so that this line is none
    bare = f"x  {mark}: S101\nx  {mark}: S101  # {'type'}: ignore[arg-type]\nx  {mark}"
    assert len(unexplained(bare)) == 3
    assert unexplained(f"x  {mark}: S101  # {'nosec'} B101  # it is shown\nx = 1  # why\n") == []
