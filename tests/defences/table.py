"""Reads `table.toml`: each line of defence, how it is taken out, and the test that fails without it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Defence:
    """`code` is in `file` once and becomes `without`; `test` is what pytest is then given, `-k` included."""

    what: str
    file: str
    code: str
    without: str
    test: str


DEFENCES = tuple(
    Defence(**row) for row in tomllib.loads(Path(__file__).with_name("table.toml").read_text())["defence"]
)
