"""Mends a mirror that a crash of the machine, or its disk, has damaged: in place, for sandboxes borrow its objects.

Whole objects stay. What is damaged is set aside, what the remote has is fetched again, and refs whose commits
are nowhere any more are dropped. The caller holds the mirror's lock.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sandboxes.trusted_git.git import RemoteRepository, TrustedGit

TRACKING = "refs/remotes/origin/"
_PIECE_BYTES = 1024 * 1024
_SECONDS = 300.0


@dataclass(frozen=True)
class Repair:
    """`set_aside`: files now below the mirror's folder `damaged`; `lost`: refs whose commits are gone."""

    set_aside: tuple[str, ...]
    lost: tuple[str, ...]


def has_frame(path: Path) -> bool:
    """Whether git would take the folder for a repository; a crash may leave files empty, or full of NULs."""
    with suppress(OSError):
        head, config = (path / "HEAD").read_bytes(), (path / "config").read_bytes()
        folders = (path / "objects").is_dir() and (path / "refs").is_dir()
        return (
            folders
            and head.startswith(b"ref: refs/")
            and config.startswith(b"[core]")
            and b"\0" not in config
        )
    return False


def is_sound(path: Path, git: TrustedGit) -> bool:
    """Reads every object: for after a failure that damage may explain."""
    return has_frame(path) and not any(_damaged(path, git)) and _complete(path, git, ["--all"])


def repair(path: Path, git: TrustedGit, remote: RemoteRepository) -> Repair:
    """Raises typed `GitError`s where the remote cannot be read; what was done by then stays done."""
    make_frame(path, git)
    set_aside = tuple(_set_aside(path, git))
    refs = _refs(path, git)
    known = git.known_commits(path, list(refs.values()))
    tipless = {name: sha for name, sha in refs.items() if sha not in known}
    _drop(path, git, tipless)
    branches = {unquote(name.removeprefix(TRACKING)): name for name in refs if name.startswith(TRACKING)}
    there = git.remote_refs(remote, list(branches)).branches
    if refspecs := [f"+refs/heads/{branch}:{name}" for branch, name in branches.items() if branch in there]:
        git.fetch(path, remote, refspecs, again=True)
    return Repair(set_aside, _keep_or_drop(path, git, refs, tipless))


def make_frame(path: Path, git: TrustedGit) -> None:
    """What `git init` writes beside objects and refs, anew where it is damaged."""
    if has_frame(path):
        return
    for name in ("HEAD", "config"):
        (path / name).unlink(missing_ok=True)
    git.run("init", "--quiet", "--bare", "--template=", str(path))


def _set_aside(path: Path, git: TrustedGit) -> Iterator[str]:
    """Move each damaged object away, with what belongs to it; their names."""
    for file in _damaged(path, git):
        place = path / "damaged" / file.relative_to(path / "objects")
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a repack took it away meanwhile
            file.rename(place)
            yield str(file.relative_to(path / "objects"))


def _damaged(path: Path, git: TrustedGit) -> Iterator[Path]:
    packs = path / "objects" / "pack"
    for index in sorted(packs.glob("*.idx")):
        verified = git.run("verify-pack", str(index), git_dir=path, check=False, timeout_seconds=_SECONDS)
        if verified.exit_code != 0:
            yield from sorted(packs.glob(f"{index.stem}.*"), key=lambda file: file.suffix != ".idx")
    for file in sorted((path / "objects").glob("??/*")):
        if not _is_whole(file):
            yield file


def _is_whole(file: Path) -> bool:
    """Whether a loose object is what its name says."""
    digest = hashlib.new("sha256" if len(file.name) > 40 else "sha1", usedforsecurity=False)
    inflate = zlib.decompressobj()
    try:
        with file.open("rb") as source:
            while piece := source.read(_PIECE_BYTES):
                while piece:
                    digest.update(inflate.decompress(piece, _PIECE_BYTES))
                    piece = inflate.unconsumed_tail
    except FileNotFoundError:
        return True
    except (OSError, zlib.error):
        return False
    return inflate.eof and digest.hexdigest() == file.parent.name + file.name


def _refs(path: Path, git: TrustedGit) -> dict[str, str]:
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)", git_dir=path, check=False)
    lines = (line.split(" ", 1) for line in listed.stdout.decode("utf-8", "replace").split("\n") if line)
    return {name: sha for sha, name in lines}


def _drop(path: Path, git: TrustedGit, refs: dict[str, str]) -> None:
    for name in refs:
        git.run("update-ref", "--no-deref", "-d", name, git_dir=path)


def _complete(path: Path, git: TrustedGit, what: Sequence[str]) -> bool:
    """Whether all that is reachable from these is here."""
    walk = git.run(
        "rev-list", "--objects", "--quiet", *what, git_dir=path, check=False, timeout_seconds=_SECONDS
    )
    return walk.exit_code == 0


def _keep_or_drop(
    path: Path, git: TrustedGit, refs: dict[str, str], tipless: dict[str, str]
) -> tuple[str, ...]:
    """The orders' refs as they were, where their commits are here after all; the others are dropped and returned."""
    lost = []
    for name, sha in refs.items():
        if name.startswith(TRACKING):
            continue
        if _complete(path, git, [sha, "--not", "--remotes=origin"]):
            if name in tipless:
                git.run("update-ref", name, sha, git_dir=path)
        else:
            lost.append(name)
            if name not in tipless:
                _drop(path, git, {name: sha})
    return tuple(lost)
