"""A few objects that stand for very much: found before any of it is in the mirror, in bounded memory and time."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxes.errors import PushTooLarge
from sandboxes.processes.run import ExitReason, ProcessLimits, run
from sandboxes.trusted_git import bundle_inspection
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror
from tests.fakes.git_http import branches, create_bare_repository, git
from tests.sandboxes.trusted_git.history import raw_commit

WHO = "A <a@example.com> 1700000000 +0000"


class Yard:
    """A mirror, and the git folder of a place that borrows from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        create_bare_repository(folder / "remote.git")
        self.base = branches(folder / "remote.git")["main"]
        self.trusted = TrustedGit(GitSettings(allow_local=True))
        self.mirror = RepositoryMirror(folder / "data", "local-yard", self.trusted)
        self.mirror.refresh(
            RemoteRepository(str(folder / "remote.git")), base_branch=None, git_branch_name="work"
        )
        self.place, self.bundle = folder / "place.git", folder / "out.bundle"
        git("clone", "--quiet", "--bare", "--shared", str(self.mirror.path), str(self.place))

    def blob(self, data: bytes) -> str:
        return git("hash-object", "-w", "--stdin", folder=self.place, stdin=data)

    def tree(self, entries: list[tuple[str, str, str]]) -> str:
        text = "".join(
            f"{mode} {'tree' if mode == '040000' else 'blob'} {sha}\t{name}\n" for mode, sha, name in entries
        )
        return git("mktree", folder=self.place, stdin=text.encode())

    def multiplied(self, levels: int, *, by: int = 10) -> str:
        """A tree of `by ** levels` paths from a handful of objects."""
        kind, sha = "100644", self.blob(b"x\n")
        for _level in range(levels):
            sha = self.tree([(kind, sha, f"n{number:05}") for number in range(by)])
            kind = "040000"
        return sha

    def commit(self, tree: str, *parents: str) -> str:
        lines = "".join(f"parent {parent}\n" for parent in parents)
        return raw_commit(self.place, f"tree {tree}\n{lines}author {WHO}\ncommitter {WHO}\n\nM\n".encode())

    def back(self, parent: str) -> str:
        return self.commit(git("rev-parse", f"{self.base}^{{tree}}", folder=self.place), parent)

    def accept(self, head: str) -> str:
        git("update-ref", "refs/heads/work", head, folder=self.place)
        git(
            "bundle",
            "create",
            "--quiet",
            str(self.bundle),
            "refs/heads/work",
            f"^{self.base}",
            folder=self.place,
        )
        return self.mirror.accept_bundle(
            self.bundle, git_branch_name="work", descends_from=self.base, keep_as="refs/work-orders/x"
        )


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def hidden(yard: Yard) -> tuple[str, str]:
    """Ten million paths in one commit, and the next takes them back."""
    bomb = yard.commit(yard.multiplied(7), yard.base)
    return yard.back(bomb), bomb


def endless(yard: Yard) -> tuple[str, str]:
    """More paths than anything could list, and with honest commits before and after."""
    first = yard.commit(yard.multiplied(1), yard.base)
    bomb = yard.commit(yard.multiplied(12), first)
    return yard.back(yard.back(bomb)), bomb


def in_a_merge(yard: Yard) -> tuple[str, str]:
    bomb = yard.commit(yard.multiplied(6), yard.base, yard.back(yard.base))
    return yard.back(bomb), bomb


def just_too_many(yard: Yard) -> tuple[str, str]:
    bomb = yard.commit(yard.multiplied(6), yard.base)
    return bomb, bomb


@pytest.mark.parametrize("make", [hidden, endless, in_a_merge, just_too_many])
def test_paths_that_multiply_are_refused_by_the_name_of_their_commit(
    yard: Yard, make: Callable[[Yard], tuple[str, str]]
) -> None:
    head, bomb = make(yard)
    assert yard.place.stat()
    before = resource.getrusage(
        resource.RUSAGE_CHILDREN
    ).ru_maxrss  # of any child of this process so far, in KiB
    started = time.monotonic()
    with pytest.raises(PushTooLarge, match=bomb[:12]) as caught:
        yard.accept(head)
    assert time.monotonic() - started < 20
    assert caught.value.retryable, "the agent hears of it"
    assert yard.bundle.stat().st_size < 20_000
    assert not yard.trusted.has_commit(yard.mirror.path, bomb), "nothing of it is in the mirror"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak == before or peak < 900 << 10, f"a child held {peak >> 10} MiB"


def test_many_honest_paths_are_taken(yard: Yard) -> None:
    head = yard.commit(yard.multiplied(4), yard.base)
    assert yard.accept(head) == head
    assert len(yard.trusted.commits(yard.mirror.path, head=head, base=yard.base)[0].touched) >= 10_000


def test_small_steps_add_up(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_inspection, "MOST_PATHS_IN_ALL", 2500)
    head = yard.base
    for _number in range(3):
        head = yard.back(yard.commit(yard.multiplied(3), head))
    with pytest.raises(PushTooLarge, match="more than 2500 paths"):
        yard.accept(head)


def test_a_tree_too_large_to_be_read_is_said_in_words(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxes.trusted_git.git.MEMORY_BYTES", 0)
    with pytest.raises(PushTooLarge, match="more than git can read within 24 MiB"):
        yard.trusted.run(
            "hash-object",
            "-t",
            "tree",
            "--stdin",
            "--literally",
            stdin=b"x" * 200_000_000,
            memory_bytes=24 << 20,
        )


def test_a_child_that_says_too_much_is_ended_there() -> None:
    started = time.monotonic()
    result = run(
        ("sh", "-c", "exec yes"),
        env={"PATH": "/usr/bin:/bin"},
        limits=ProcessLimits(total_seconds=60, output_bytes=1 << 20, ends_full=True),
    )
    assert (result.reason, len(result.stdout), result.truncated) == (ExitReason.OVERFULL, 1 << 20, True)
    assert time.monotonic() - started < 10


def test_a_child_gets_no_more_memory_than_it_may_have() -> None:
    grow = "x = []\nwhile True: x.append(bytearray(16 << 20))"
    result = run(
        (sys.executable, "-c", grow),
        env={},
        limits=ProcessLimits(total_seconds=60, memory_bytes=256 << 20),
    )
    assert result.exit_code == 1
    assert b"MemoryError" in result.stderr


def test_what_the_remote_has_already_does_not_count(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_inspection, "MOST_PATHS_IN_ALL", 500)
    upstream = yard.commit(yard.multiplied(3), yard.base)
    git("update-ref", "refs/heads/main", upstream, folder=yard.place)
    git("push", "--quiet", str(yard.folder / "remote.git"), "main", folder=yard.place)
    yard.mirror.refresh(
        RemoteRepository(str(yard.folder / "remote.git")), base_branch=None, git_branch_name="work"
    )
    mine = yard.commit(yard.multiplied(1), yard.base)
    merge = yard.commit(git("rev-parse", f"{upstream}^{{tree}}", folder=yard.place), mine, upstream)
    assert yard.accept(merge) == merge
