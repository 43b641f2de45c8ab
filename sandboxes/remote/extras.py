"""Submodules and contents of Git LFS for a place elsewhere: packed here, brought in as files, laid out inside.

A place elsewhere has no folder of this host to borrow from. What is in it an agent can reach, as everything there.
"""

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sandboxes.extras.placed import LFS_FILTER, Extras, git_settings
from sandboxes.trusted_git.git import TrustedGit

LFS_LIMIT_BYTES = 64 * 1024 * 1024  # it crosses the network for each new place, and this process's memory
_PACK_SECONDS = 300.0

# 1 archive of contents · 2 where they go
UNPACK_LFS = """rm -rf -- "$2" && mkdir -p -- "$2" && tar -xf "$1" -C "$2" && rm -f -- "$1"
"""


class RemoteExtras:
    """`own` makes a path inside of a name; `workspace` is the checkout there."""

    def __init__(self, extras: Extras, own: Callable[[str], str], workspace: str) -> None:
        self.extras = extras
        self._own = own
        self.own_lfs = f"{workspace}/.git/lfs"
        self.known_lfs = own("lfs-known")
        self.archive = own("lfs-known.tar")

    def files(self, git: TrustedGit, folder: Path) -> dict[str, bytes | Path]:
        """Path inside → what is put there; packs and archives are made in `folder`. Raises `GitError`."""
        if not self.extras:
            return {}
        inside = self.extras
        found: dict[str, bytes | Path] = {self._own("lfs-filter"): LFS_FILTER.encode()}
        if self.extras.lfs_objects is not None:
            inside = replace(inside, lfs_objects=Path(self.known_lfs))
            found[self.archive] = self._packed_lfs(self.extras.lfs_objects, folder)
        settings = git_settings(inside, lfs_filter=self._own("lfs-filter"), own_lfs=self.own_lfs)
        found[self._own("gitconfig")] = settings.encode()
        for number, one in enumerate(self.extras.submodules):
            stem = folder / f"submodule-{number}"
            git.run(
                *("pack-objects", "--revs", "--quiet", "--delta-base-offset", str(stem)),
                git_dir=one.objects.parent,
                stdin=f"{one.sha}\n".encode(),
                timeout_seconds=_PACK_SECONDS,
            )
            [found[self._pack(number)]] = folder.glob(f"{stem.name}-*.pack")
        return found

    def submodule_arguments(self) -> list[str]:
        """For `PLACE_SUBMODULES`, with packs in the place of folders to borrow from."""
        return [
            value
            for number, one in enumerate(self.extras.submodules)
            for value in (one.name, one.path, one.sha, self._pack(number), one.url)
        ]

    def _pack(self, number: int) -> str:
        return self._own(f"submodule-{number}.pack")

    def _packed_lfs(self, store: Path, folder: Path) -> Path:
        path = folder / "lfs.tar"
        with tarfile.open(path, "w") as packed:
            for oid in self.extras.lfs_oids:
                name = f"{oid[:2]}/{oid[2:4]}/{oid}"
                packed.add(store / name, arcname=name, recursive=False, filter=_of_nobody)
        return path


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
