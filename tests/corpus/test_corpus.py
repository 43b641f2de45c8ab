"""A slice of the corpus in every run; `python -m tests.corpus` has the whole."""

from pathlib import Path

import pytest

from tests.corpus.run import run_corpus
from tests.corpus.shapes import ENDS, SHAPES

SLICE = (
    "names_with_control_characters",
    "names_that_are_no_utf8",
    "names_like_options",
    "links_out_of_the_tree",
    "line_ends_of_windows",
    "attributes_ident",
    "history_with_zero_padded_modes",
    "refs_beside_branches",
    "branch_named_like_a_sha",
    "no_commits",
    "hooks_of_husky",
    "ignores_everything",
    "submodule_without_a_name",
    "lfs_pointers",
)


def test_the_corpus_is_as_large_as_it_is_said_to_be() -> None:
    assert len(SHAPES) >= 60
    assert {*SLICE, *ENDS} <= set(SHAPES)


@pytest.mark.e2e
@pytest.mark.timeout(240)
@pytest.mark.parametrize("sandbox_type", ["git_branch", "git_worktree"])
def test_odd_but_honest_repositories(tmp_path: Path, sandbox_type: str) -> None:
    assert run_corpus(tmp_path, names=SLICE, sandboxes=(sandbox_type,)) == []
