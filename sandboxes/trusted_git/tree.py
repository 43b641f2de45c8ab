"""Reads files of one commit by their paths, links followed, without a working tree.

Git itself follows symbolic links inside the commit's tree and says where one leads out of it. Runs only against the
trusted mirror, like everything of `git.py`; what the paths mean is the caller's.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from sandboxes.errors import GitError
from sandboxes.trusted_git.git import TrustedGit

_LISTING_SECONDS = 20.0
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]+")
_ANSWER = re.compile(rb"([0-9a-f]{40,64}) (blob|tree|commit|tag) ([0-9]+)")
_TOLD = re.compile(rb"(symlink|dangling|loop|notdir) ([0-9]+)")
LONGEST_PATH = 1000


class Absence(StrEnum):
    """Why there is no file at a path; the value completes "… is"."""

    MISSING = "not there"
    OUTSIDE = "a link that leads out of the repository"
    DANGLING = "a link that leads nowhere"
    LOOP = "a link that leads back to itself"
    FOLDER = "a folder"


@dataclass(frozen=True)
class TreeFile:
    """A regular file's content, as git names it; `size` in bytes."""

    blob: str
    size: int


@dataclass(frozen=True)
class TreeListing:
    """Every entry of a commit's tree, as git prints them, each ended by NUL; `complete`: it was read to its end."""

    raw: bytes = field(repr=False)
    complete: bool

    def paths_with(self, *parts: bytes, links: bool = False) -> list[str]:
        """Paths of the entries in whose lower-case text one of the parts occurs; submodules are left out.

        An entry ends with NUL, and its path begins behind a tab. `links`: symbolic links only. Plain parts and no
        patterns, since a tree may have a million entries.
        """
        found: dict[int, str] = {}
        for part in parts:
            at = self._lowered.find(part)
            while at >= 0:
                start = self.raw.rfind(b"\0", 0, at) + 1
                end = self.raw.find(b"\0", start)
                head, _, path = self.raw[start:end].partition(b"\t")
                if not head.startswith(b"160000") and (not links or head.startswith(b"120000")):
                    found[start] = path.decode("utf-8", "surrogateescape")
                at = self._lowered.find(part, end)
        return list(found.values())

    @cached_property
    def _lowered(self) -> bytes:
        return self.raw.lower()

    def path_of(self, blob: str) -> str | None:
        """A regular file's path with that content."""
        at = self.raw.find(f" {blob}\t".encode())
        if at < 0 or self.raw[: at + 1].rpartition(b"\0")[2].startswith(b"120000"):
            return None
        end = self.raw.find(b"\0", at)
        return self.raw[at + len(blob) + 2 : end].decode("utf-8", "surrogateescape")


class CommitTree:
    """The tree of one commit in a bare repository."""

    def __init__(self, git: TrustedGit, git_dir: Path, sha: str) -> None:
        self._git, self._git_dir, self._sha = git, git_dir, sha

    def listing(self) -> TreeListing:
        """All paths, as far as they fit into one answer; a tree too large to be listed in time is no failure."""
        arguments = ("ls-tree", "-r", "-z", "--full-tree", self._sha)
        try:
            result = self._git.run(
                *arguments, git_dir=self._git_dir, timeout_seconds=_LISTING_SECONDS, check=False
            )
        except GitError:
            return TreeListing(b"", complete=False)
        whole = result.exit_code == 0 and not result.truncated
        return TreeListing(result.stdout[: result.stdout.rfind(b"\0") + 1], complete=whole)

    def look_up(self, paths: Sequence[str]) -> dict[str, TreeFile | Absence]:
        """What is at each of the paths; one process. A path git could not be asked for is missing."""
        wanted = [path for path in dict.fromkeys(paths) if _can_be_asked(path)]
        found: dict[str, TreeFile | Absence] = dict.fromkeys(paths, Absence.MISSING)
        if wanted:
            questions = [f"{self._sha}:{path}".encode("utf-8", "surrogateescape") for path in wanted]
            options = ("cat-file", "--batch-check", "--follow-symlinks")
            stdin = b"".join(question + b"\n" for question in questions)
            answer = self._git.run(*options, git_dir=self._git_dir, stdin=stdin).stdout
            found.update(zip(wanted, _answers(answer, len(wanted)), strict=True))
        return found

    def link(self, path: str) -> str:
        """Where a symbolic link points, as it is written; '' where there is none."""
        answer = self._git.run(
            "cat-file",
            "blob",
            f"{self._sha}:{path}",
            git_dir=self._git_dir,
            output_bytes=LONGEST_PATH,
            check=False,
        )
        return answer.stdout.decode("utf-8", "surrogateescape") if answer.exit_code == 0 else ""

    def read(self, files: Iterable[TreeFile], *, limit_bytes: int) -> dict[str, bytes]:
        """Contents by blob, each cut at `limit_bytes`; one process for all but those that are larger."""
        sizes = {file.blob: file.size for file in files}
        small = [blob for blob, size in sizes.items() if size <= limit_bytes]
        contents = self._read_whole(small) if small else {}
        for blob in sizes.keys() - contents.keys():
            contents[blob] = self._git.read_blob(self._git_dir, blob, limit_bytes=limit_bytes)
        return contents

    def _read_whole(self, blobs: Sequence[str]) -> dict[str, bytes]:
        stdin = "".join(f"{blob}\n" for blob in blobs).encode()
        output = self._git.run("cat-file", "--batch", git_dir=self._git_dir, stdin=stdin).stdout
        contents, at = {}, 0
        for blob in blobs:
            end = output.index(b"\n", at)
            size = int(output[at:end].rsplit(b" ", 1)[1])
            contents[blob] = output[end + 1 : end + 1 + size]
            at = end + 2 + size
        return contents


def _can_be_asked(path: str) -> bool:
    return (
        len(path) <= LONGEST_PATH
        and _PLAIN.fullmatch(path) is not None
        and not {"", ".", ".."} & set(path.split("/"))
    )


def _answers(output: bytes, count: int) -> Iterable[TreeFile | Absence]:
    """One after the other: what is told of a link is framed by its length, since it is anybody's text."""
    at = 0
    for _ in range(count):
        end = output.index(b"\n", at)
        line, at = output[at:end], end + 1
        if told := _TOLD.fullmatch(line):
            at += int(told[2]) + 1
            yield {
                b"symlink": Absence.OUTSIDE,
                b"dangling": Absence.DANGLING,
                b"loop": Absence.LOOP,
                b"notdir": Absence.MISSING,
            }[told[1]]
        elif (known := _ANSWER.fullmatch(line)) is None:
            yield Absence.MISSING
        elif known[2] == b"blob":
            yield TreeFile(known[1].decode(), int(known[3]))
        else:
            yield Absence.FOLDER if known[2] == b"tree" else Absence.MISSING
