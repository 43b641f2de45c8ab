"""Makes a commit of the trusted side from one that is there, without some of its paths. Objects only: no ref is moved.

Paths are text with bytes that are no UTF-8 as surrogates. Every function may raise `GitError`.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandboxes.trusted_git.git import TrustedGit

GITLINK = "160000"
_NOTHING = "0" * 6


@dataclass(frozen=True)
class RawChange:
    """One path in which two commits differ: modes and blobs before and after; mode `000000` where it is not there."""

    path: str
    old_mode: str
    mode: str
    old_blob: str
    blob: str

    @property
    def is_new(self) -> bool:
        return self.old_mode == _NOTHING

    @property
    def is_there(self) -> bool:
        return self.mode != _NOTHING

    @property
    def is_new_gitlink(self) -> bool:
        return self.mode == GITLINK and self.old_mode != GITLINK


@dataclass(frozen=True)
class Signature:
    """Who a server's own commit is by, and the lines at its end."""

    name: str
    email: str
    trailers: tuple[str, ...]


def raw_changes(git: TrustedGit, git_dir: Path, base: str, head: str) -> tuple[RawChange, ...]:
    """In git's order, renames taken apart."""
    options = ("-r", "-z", "--raw", "--no-abbrev", "--no-renames")
    output = git.run("diff-tree", *options, base, head, git_dir=git_dir).stdout
    tokens = output.decode("utf-8", "surrogateescape").split("\0")[:-1]
    found = []
    for meta, path in zip(tokens[::2], tokens[1::2], strict=True):
        old_mode, mode, old_blob, blob, _status = meta.lstrip(":").split(" ")
        found.append(RawChange(path, old_mode, mode, old_blob, blob))
    return tuple(found)


def blob_sizes(git: TrustedGit, git_dir: Path, blobs: Sequence[str]) -> dict[str, int]:
    """Bytes of each."""
    wanted = list(dict.fromkeys(blobs))
    if not wanted:
        return {}
    batch = ("cat-file", "--batch-check=%(objectname) %(objectsize)")
    output = git.run(*batch, git_dir=git_dir, stdin="".join(f"{sha}\n" for sha in wanted).encode()).stdout
    lines = (line.split(" ") for line in output.decode("ascii", "replace").splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}


def without(git: TrustedGit, git_dir: Path, *, head: str, parent: str, undo: Sequence[RawChange]) -> str:
    """`head` with these of its changes undone, all else of it as it was; `parent` where no change is left."""
    tree = _tree_with(git, git_dir, head, undo)
    if tree == git.text("rev-parse", f"{parent}^{{tree}}", git_dir=git_dir):
        return parent
    text = git.run("cat-file", "commit", head, git_dir=git_dir).stdout
    _old_tree, _, rest = text.partition(b"\n")
    return _write_commit(git, git_dir, f"tree {tree}\n".encode() + rest)


def on_top(
    git: TrustedGit, git_dir: Path, *, head: str, undo: Sequence[RawChange], subject: str, by: Signature
) -> str:
    """A new commit after `head` that undoes these changes."""
    tree = _tree_with(git, git_dir, head, undo)
    who = f"{by.name} <{by.email}> {int(time.time())} +0000"
    lines = (f"tree {tree}", f"parent {head}", f"author {who}", f"committer {who}", "", subject, "")
    return _write_commit(git, git_dir, "".join(f"{line}\n" for line in (*lines, *by.trailers)).encode())


def reworded(
    git: TrustedGit, git_dir: Path, *, head: str, message: str, without_parents: Sequence[str] = ()
) -> str:
    """`head` with another message, and without some of its parents; all else of it as it was."""
    text = git.run("cat-file", "commit", head, git_dir=git_dir).stdout
    headers = text.partition(b"\n\n")[0].split(b"\n")
    gone = {f"parent {sha}".encode() for sha in without_parents}
    kept = b"\n".join(line for line in headers if line not in gone)
    return _write_commit(git, git_dir, kept + b"\n\n" + message.rstrip("\n").encode() + b"\n")


def _tree_with(git: TrustedGit, git_dir: Path, head: str, undo: Sequence[RawChange]) -> str:
    entries = b"".join(
        f"{change.old_mode} {change.old_blob}\t".encode() + os.fsencode(change.path) + b"\0"
        for change in sorted(undo, key=lambda change: not change.is_new)  # what goes makes room first
    )
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git.run("read-tree", head, git_dir=git_dir, index_file=index)
        git.run("update-index", "-z", "--index-info", git_dir=git_dir, index_file=index, stdin=entries)
        return git.run("write-tree", git_dir=git_dir, index_file=index).stdout.decode().strip()


def _write_commit(git: TrustedGit, git_dir: Path, text: bytes) -> str:
    written = git.run("hash-object", "-t", "commit", "-w", "--stdin", git_dir=git_dir, stdin=text)
    return written.stdout.decode().strip()
