"""What a commit's tree asks for beside its own files: submodules, and contents that Git LFS keeps elsewhere.

Reads a trusted mirror only. A commit never changes, so an answer is kept for all orders that start from it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sandboxes.errors import GitError
from sandboxes.extras.lfs_pointers import (
    POINTER_BYTES,
    LfsPointer,
    asks_for_lfs,
    leads_elsewhere,
    parse_pointer,
)
from sandboxes.extras.submodule_names import parse_listed_config
from sandboxes.trusted_git.git import TrustedGit
from sandboxes.trusted_git.objects import REGULAR_MODES
from sandboxes.trusted_git.outgoing import read_objects

MOST_GITLINKS = 1000
MOST_ATTRIBUTES = 1000
MOST_POINTERS = 2000
_SURVEY_SECONDS = 120.0
_ATTRIBUTES_BYTES = 256 * 1024
_LEAST_POINTER = 120
_MOST_SMALL = 300_000  # files that could be pointers by their size
_ENTRY = re.compile(
    rb"(?P<mode>[0-7]{6}) [a-z]+ (?P<sha>[0-9a-f]{40,64}) *(?P<size>[0-9-]*)\t(?P<path>.*)", re.S
)


@dataclass(frozen=True)
class TreeSurvey:
    """`gitlinks`: path → commit. `sections`: what the commit's `.gitmodules` says of each submodule, by name."""

    gitlinks: dict[str, str]
    sections: dict[str, dict[str, str]]
    unreadable_modules: bool = False
    uses_lfs: bool = False
    lfs_leads_elsewhere: bool = False


@dataclass(frozen=True)
class Pointed:
    """A file whose content LFS keeps. `is_plain`: it is written as git-lfs writes it; others stay pointers."""

    path: str
    pointer: LfsPointer
    is_plain: bool = True


@lru_cache(maxsize=256)
def survey(git: TrustedGit, mirror: Path, sha: str) -> TreeSurvey:
    """One process where the tree asks for nothing. Raises `GitError`."""
    gitlinks: dict[str, str] = {}
    attributes: list[str] = []
    settings: dict[str, str] = {}

    def look(mode: str, blob: str, _size: int, path: str) -> None:
        if mode == "160000" and len(gitlinks) < MOST_GITLINKS:
            gitlinks[path] = blob
        elif mode in REGULAR_MODES and path.rpartition("/")[2] == ".gitattributes":
            if len(attributes) < MOST_ATTRIBUTES:
                attributes.append(blob)
        elif mode in REGULAR_MODES and path in {".gitmodules", ".lfsconfig"}:
            settings[path] = blob

    _list_tree(git, mirror, sha, look)
    uses_lfs = _any_asks(git, mirror, attributes)
    sections: dict[str, dict[str, str]] = {}
    unreadable = False
    if gitlinks and ".gitmodules" in settings:
        try:
            sections = parse_listed_config(_listed_config(git, mirror, settings[".gitmodules"]))
        except GitError:
            unreadable = True
    elsewhere = uses_lfs and ".lfsconfig" in settings and _leads(git, mirror, settings[".lfsconfig"])
    return TreeSurvey(gitlinks, sections, unreadable, uses_lfs, elsewhere)


@lru_cache(maxsize=64)
def pointers_in(git: TrustedGit, mirror: Path, sha: str) -> tuple[Pointed, ...]:
    """The files of a commit that are pointers, at most `MOST_POINTERS`; for trees that use LFS. Raises `GitError`."""
    small: dict[str, list[str]] = {}

    def look(mode: str, blob: str, size: int, path: str) -> None:
        if mode in REGULAR_MODES and _LEAST_POINTER <= size <= POINTER_BYTES and len(small) < _MOST_SMALL:
            small.setdefault(blob, []).append(path)

    _list_tree(git, mirror, sha, look, sizes=True)
    found: list[Pointed] = []

    def read(blob: str, data: bytes) -> None:
        if (pointer := parse_pointer(data)) is not None:
            found.extend(Pointed(path, pointer, data == pointer.text) for path in small[blob])

    read_objects(git, mirror, list(small), read)
    return tuple(sorted(found, key=lambda one: one.path)[:MOST_POINTERS])


def gitlinks_at(git: TrustedGit, mirror: Path, sha: str, paths: tuple[str, ...]) -> dict[str, str]:
    """The commits that a tree names at those paths, where they are gitlinks. Raises `GitError`."""
    if not paths:
        return {}
    output = git.run("ls-tree", "-z", "--full-tree", sha, "--", *paths, git_dir=mirror).stdout
    entries = (match for record in output.split(b"\0") if (match := _ENTRY.fullmatch(record)))
    return {_text(match["path"]): match["sha"].decode() for match in entries if match["mode"] == b"160000"}


def _list_tree(
    git: TrustedGit,
    mirror: Path,
    sha: str,
    look: Callable[[str, str, int, str], None],
    *,
    sizes: bool = False,
) -> None:
    """Hand over mode, object, size (0 without `sizes`) and path of every entry; the list is never held whole."""
    rest = b""

    def feed(chunk: bytes) -> None:
        nonlocal rest
        *records, rest = (rest + chunk).split(b"\0")
        for record in records:
            if match := _ENTRY.fullmatch(record):
                size = int(match["size"]) if match["size"].isdigit() else 0
                look(match["mode"].decode(), match["sha"].decode(), size, _text(match["path"]))

    options = ("-r", "-z", "--full-tree", *(["-l"] if sizes else []))
    git.run("ls-tree", *options, sha, git_dir=mirror, on_stdout=feed, timeout_seconds=_SURVEY_SECONDS)


def _any_asks(git: TrustedGit, mirror: Path, blobs: list[str]) -> bool:
    asked = False

    def read(_blob: str, data: bytes) -> None:
        nonlocal asked
        asked = asked or asks_for_lfs(data[:_ATTRIBUTES_BYTES])

    read_objects(git, mirror, list(dict.fromkeys(blobs)), read)
    return asked


def _leads(git: TrustedGit, mirror: Path, blob: str) -> bool:
    try:
        return leads_elsewhere(_listed_config(git, mirror, blob))
    except GitError:
        return True  # what git cannot read, nobody follows


def _listed_config(git: TrustedGit, mirror: Path, blob: str) -> bytes:
    """As git itself reads it; a file given by name has no includes."""
    return git.run("config", f"--blob={blob}", "--no-includes", "--list", "-z", git_dir=mirror).stdout


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
