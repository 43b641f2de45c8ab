"""Files in a folder that an agent could write: replaced and read by the trusted side, whatever was planted there."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxes.files.disk import open_up
from sandboxes.local.wary_folder import wary_folder
from tests.support import require_program


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("before")
    return tmp_path / "place"


def test_a_link_is_replaced_and_never_followed(place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (place / "file").symlink_to(outside / "file")
    (place / "folder").symlink_to(outside)
    (place / "gone").symlink_to(outside)
    with wary_folder(place, tmp_path / "trash") as folder:
        assert folder.read("file", 100) is None
        folder.put("file", b"ours")
        folder.open_up("folder")
        with pytest.raises(OSError, match="folder"), folder.folder("folder", make=False):
            pytest.fail("followed")
        with folder.folder("folder") as below:
            below.put("file", b"ours", 0o755)
        folder.remove("gone")
    assert (outside / "file").read_text() == "before"
    assert (place / "folder" / "file").read_text() == (place / "file").read_text() == "ours"
    assert stat.S_IMODE((place / "folder" / "file").stat().st_mode) == 0o755
    assert sorted(path.name for path in place.iterdir()) == ["file", "folder"]


def test_the_folder_itself_may_be_a_link(place: Path, tmp_path: Path) -> None:
    (tmp_path / "planted").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="planted"), wary_folder(tmp_path / "planted", tmp_path / "trash"):
        pytest.fail("followed")
    with pytest.raises(FileNotFoundError), wary_folder(tmp_path / "missing", tmp_path / "trash"):
        pytest.fail("made")


def test_only_a_regular_file_of_bounded_size_is_read(place: Path, tmp_path: Path) -> None:
    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    (place / "long").write_bytes(b"x" * 101)
    with wary_folder(place, tmp_path / "trash") as folder:
        assert [folder.read(name, 100) for name in ("pipe", "folder", "long", "missing")] == [None] * 4
        assert folder.read("long", 101) == b"x" * 101
        folder.put("pipe", b"ours")
        folder.put("folder", b"ours")
    assert (place / "pipe").read_text() == (place / "folder").read_text() == "ours"
    assert list((tmp_path / "trash").iterdir()) == []


def test_what_is_so_already_is_not_written(place: Path, tmp_path: Path) -> None:
    with wary_folder(place, tmp_path / "trash") as folder:
        folder.put("file", b"ours")
        before = (place / "file").stat().st_ino
        folder.put("file", b"ours")
        assert (place / "file").stat().st_ino == before
        os.link(place / "file", tmp_path / "outside" / "shared")
        folder.put("file", b"ours")
    assert (place / "file").stat().st_ino != before, "another name of it could change it"


def test_more_names_than_git_makes_are_an_error(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxes.local.wary_folder._MOST_NAMES", 2)
    for name in "abc":
        (place / name).touch()
    with wary_folder(place, tmp_path / "trash") as folder, pytest.raises(OSError, match="3 files"):
        folder.names()


def test_what_was_closed_is_opened_without_roots_powers(place: Path, tmp_path: Path) -> None:
    """As an ordinary account that cannot be looked into, as the server is."""
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "file").write_text("theirs")
    for path in (place / "a" / "b" / "file", place / "a" / "b", place / "a", place):
        path.chmod(0o000)
    script = """
import sys, pathlib
from sandboxes.processes.hardening import make_undumpable
from sandboxes.local.wary_folder import wary_folder
make_undumpable()
with wary_folder(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])) as folder:
    with folder.folder("a") as a, a.folder("b") as b:
        b.open_up("file")
        assert b.read("file", 10) == b"theirs"
    folder.remove("a")
    folder.put("mine", b"x")
"""
    ordinary = (require_program("bwrap"), "--dev-bind", "/", "/", "--unshare-user", "--uid", "1000")
    argv = (*ordinary, "--cap-drop", "ALL", sys.executable, "-c", script, str(place), str(tmp_path / "trash"))
    done = subprocess.run(argv, cwd=Path(__file__).parents[3], timeout=60, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_other_modes_stay_as_they_are(place: Path) -> None:
    place.chmod(0o755)
    open_up(str(place))
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
