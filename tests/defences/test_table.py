"""The table of defences names code and tests that exist; that the tests fail is seen by `python -m tests.defences`."""

import shlex
from pathlib import Path

import pytest

from tests.defences.table import DEFENCES, Defence

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("row", DEFENCES, ids=lambda row: row.what)
def test_a_defence_is_in_the_code_once_and_its_test_exists(row: Defence) -> None:
    assert (ROOT / row.file).read_text().count(row.code) == 1
    assert row.code != row.without
    for word in shlex.split(row.test):
        if word.startswith("tests/"):
            file, _, name = word.partition("::")
            assert name in (ROOT / file).read_text()
