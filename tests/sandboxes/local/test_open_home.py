"""Folders that an agent closed in its HOME are open again for the next step, whatever their names are."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sandboxes.git_texts import OPEN_HOME


def _open(home: Path) -> None:
    user = {"user": 1000, "group": 1000, "extra_groups": ()} if os.geteuid() == 0 else {}
    if user:
        for path in (home, *home.rglob("*")):
            os.lchown(path, 1000, 1000)
    done = subprocess.run(
        ["sh", "-c", OPEN_HOME],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **user,  # type: ignore[call-overload]  # who the account is, where the test runs as root
    )
    assert (done.returncode, done.stderr) == (0, "")


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def home() -> Iterator[Path]:
    """Where another account gets, whoever may enter pytest's own folders."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Path(folder) / "ho me [x]"
        made.mkdir()
        yield made


@pytest.mark.parametrize(
    "name", [".claude", "a", "..b", "with space", "new\nline", "-rf", "*", ".claude/projects/-work", "a/.b/c"]
)
@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300, 0o600])
def test_a_closed_folder_is_open_again(home: Path, name: str, mode: int) -> None:
    folder = home / name
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    folder.chmod(mode)
    _open(home)
    assert _mode(folder) & 0o700 == 0o700


def test_folders_in_closed_folders_are_open_again(home: Path) -> None:
    inner = home / "a" / "b" / "c"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent, inner.parent.parent):
        folder.chmod(0o000)
    _open(home)
    assert [_mode(folder) for folder in (inner.parent.parent, inner.parent, inner)] == [0o700] * 3


def test_links_files_and_what_lies_deep_stay_as_they_are(home: Path) -> None:
    outside = home.parent / "outside"
    outside.mkdir()
    outside.chmod(0o500)
    (home / "link").symlink_to(outside)
    (home / "file").write_text("x")
    (home / "file").chmod(0o400)
    deep = home / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    deep.chmod(0o500)
    _open(home)
    assert (_mode(outside), _mode(home / "file"), _mode(deep)) == (0o500, 0o400, 0o500)
