"""Trusted git keeps within its memory whatever a bundle holds: each shape is taken, or refused in words."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxes.errors import PushTooLarge
from sandboxes.processes import run as process
from sandboxes.trusted_git.git import GitSettings, TrustedGit
from tests.fakes.git_http import branches, create_bare_repository, git
from tests.sandboxes.trusted_git.bundles import SHAPES

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 512
REFUSED = ("PushTooLarge: ", "BundleRejected: ", "CommitsMalformed: ", "GitTimeout: ")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_trusted_git_keeps_within_its_memory(shape: Callable[[Path, str], None], tmp_path: Path) -> None:
    create_bare_repository(tmp_path / "remote.git")
    base = branches(tmp_path / "remote.git")["main"]
    shape(tmp_path / "made.bundle", base)
    arguments = (str(tmp_path), str(tmp_path / "made.bundle"), base)
    command = [sys.executable, "-m", "tests.sandboxes.trusted_git.measured_git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(json.dumps(found, indent=1))
    assert {name: it for name, it in found.items() if it["mebibytes"] >= LIMIT} == {}
    assert {name: it for name, it in found.items() if it["said"] and not it["said"].startswith(REFUSED)} == {}


def test_git_reads_nothing_before_its_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a busy machine a child may run for long before the bounds come from outside."""
    bound = process._bound_memory

    def late(pid: int, most_bytes: int) -> None:
        time.sleep(2)
        bound(pid, most_bytes)

    folder = tmp_path / "large.git"
    create_bare_repository(folder)
    sha = git(
        "hash-object", "-t", "tree", "-w", "--stdin", "--literally", folder=folder, stdin=bytes(60 << 20)
    )
    monkeypatch.setattr(process, "_bound_memory", late)
    with pytest.raises(PushTooLarge, match="more than git can read within 24 MiB"):
        TrustedGit(GitSettings()).run(
            *("cat-file", "tree", sha), git_dir=folder, memory_bytes=24 << 20, output_bytes=100 << 20
        )
