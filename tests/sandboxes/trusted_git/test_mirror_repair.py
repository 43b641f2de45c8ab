"""A mirror that the machine's crash, or its disk, has damaged: what is mended, what stays, and what is said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror
from tests.fakes.git_http import git
from tests.sandboxes.trusted_git.history import History, raw_commit

KEPT = "refs/work-orders/wo-1"
AUTHOR = "A <a@b.example> 1 +0000"


class Mirrored:
    """A remote of two commits, packed in its mirror, and one commit beside them that only the mirror has."""

    def __init__(self, folder: Path) -> None:
        upstream = History(folder / "upstream.git")
        upstream.commit("first", files={"README.md": "# Shop\n"})
        upstream.commit("base", after="first", files={"a.txt": "a\n"}, branch="main")
        upstream.write()
        self.git = TrustedGit(GitSettings(allow_local=True))
        self.remote = RemoteRepository(f"file://{upstream.path}")
        self.mirror = RepositoryMirror(folder / "data", "shop", self.git)
        self.path = self.mirror.path
        self.base = self.refresh()
        git("repack", "-adq", folder=self.path)
        tree = git("rev-parse", f"{self.base}^{{tree}}", folder=self.path)
        commit = f"tree {tree}\nparent {self.base}\nauthor {AUTHOR}\ncommitter {AUTHOR}\n\nWork\n"
        self.work = raw_commit(self.path, commit.encode())
        self.mirror.keep(KEPT, self.work)

    def refresh(self) -> str:
        return self.mirror.refresh(self.remote, base_branch=None, git_branch_name="work").base_sha

    def objects(self, pattern: str) -> list[Path]:
        found = list((self.path / "objects").glob(pattern))
        assert found
        for file in found:
            file.chmod(0o644)
        return found

    def is_whole(self) -> bool:
        return git("fsck", "--full", "--no-dangling", folder=self.path) == ""


def no_packs(it: Mirrored) -> None:
    for file in it.objects("pack/*"):
        file.unlink()


def cut_packs(it: Mirrored) -> None:
    for file in it.objects("pack/*.pack"):
        file.write_bytes(file.read_bytes()[:40])


def turned_bit(it: Mirrored) -> None:
    for file in it.objects("pack/*.pack"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


def garbage_frame(it: Mirrored) -> None:
    (it.path / "HEAD").write_text("garbage")
    (it.path / "config").write_bytes(b"\0" * 66)


@pytest.mark.parametrize("damage", [no_packs, cut_packs, turned_bit, garbage_frame])
def test_what_the_remote_has_is_here_again_and_an_orders_own_work_stays(
    tmp_path: Path, damage: Callable[[Mirrored], None]
) -> None:
    it = Mirrored(tmp_path)
    damage(it)
    found = it.mirror.repair(it.remote)
    assert found is not None
    assert found.lost == ()
    assert it.refresh() == it.base
    assert it.is_whole()
    assert it.git.ref_sha(it.path, KEPT) == it.work


def test_a_garbage_frame_is_seen_by_every_refresh(tmp_path: Path) -> None:
    it = Mirrored(tmp_path)
    garbage_frame(it)
    assert it.refresh() == it.base
    assert it.is_whole()


@pytest.mark.parametrize("content", [b"", b"words", None])
def test_work_that_is_nowhere_else_is_told_and_no_ref_names_it(tmp_path: Path, content: bytes | None) -> None:
    it = Mirrored(tmp_path)
    [file] = it.objects(f"{it.work[:2]}/{it.work[2:]}")
    file.unlink() if content is None else file.write_bytes(content)
    found = it.mirror.repair(it.remote)
    assert found is not None
    assert found.lost == (KEPT,)
    assert found.set_aside == (() if content is None else (f"{it.work[:2]}/{it.work[2:]}",))
    assert it.git.ref_sha(it.path, KEPT) is None
    assert it.refresh() == it.base
    assert it.is_whole()


def test_a_whole_mirror_is_left_alone(tmp_path: Path) -> None:
    it = Mirrored(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in it.path.rglob("*")}
    assert it.mirror.repair(it.remote) is None
    assert {file: file.stat().st_mtime_ns for file in it.path.rglob("*")} == before
