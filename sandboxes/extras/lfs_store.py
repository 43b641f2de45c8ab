"""Contents that Git LFS keeps beside git, by their sha256: one folder for each repository, on the trusted side.

Nothing enters that was not seen to be what its name says; sandboxes see it read-only.
"""

import hashlib
import os
import tarfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from sandboxes.errors import SandboxError
from sandboxes.extras.lfs_pointers import LfsPointer

_PIECE_BYTES = 1024 * 1024
_STALE_SECONDS = 24 * 3600.0


class LfsStore:
    """`<data dir>/lfs/<repository key>.git/aa/bb/<oid>`."""

    def __init__(self, data_dir: Path, repository_key: str) -> None:
        self.path = data_dir / "lfs" / f"{repository_key}.git"

    def place_of(self, oid: str) -> Path:
        return self.path / oid[:2] / oid[2:4] / oid

    def has(self, pointer: LfsPointer) -> bool:
        try:
            return self.place_of(pointer.oid).stat().st_size == pointer.size
        except OSError:
            return False

    def prepare(self) -> None:
        """Make the folder, note that it is of use, and clear what a dead worker left half-written."""
        (self.path / "incoming").mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in (self.path / "incoming").iterdir():
            with suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                    part.unlink()
        os.utime(self.path)

    def take(self, pointer: LfsPointer, pieces: Iterable[bytes]) -> bool:
        """Keep a content, where it is the pointer's; never more than its size is written."""
        (self.path / "incoming").mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path / "incoming" / uuid4().hex
        digest, size = hashlib.sha256(), 0
        try:
            with part.open("xb") as file:
                for piece in pieces:
                    size += len(piece)
                    if size > pointer.size:
                        return False
                    digest.update(piece)
                    file.write(piece)
            if size != pointer.size or digest.hexdigest() != pointer.oid:
                return False
            place = self.place_of(pointer.oid)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.rename(place)
            return True
        finally:
            part.unlink(missing_ok=True)

    def take_archive(self, archive: Path) -> tuple[LfsPointer, ...]:
        """Keep those of a tar archive's plain files that are what they are called; what an agent packed is untrusted.

        Nothing is ever unpacked to a path of the archive's own. Raises `SandboxError` where it is no archive.
        """
        taken: list[LfsPointer] = []
        try:
            with tarfile.open(archive, mode="r|") as packed:
                for member in packed:
                    oid = member.name.rpartition("/")[2]
                    if not member.isreg() or member.issparse() or not is_oid(oid):
                        continue
                    pointer = LfsPointer(oid, member.size)
                    content = packed.extractfile(member)
                    if content is None or self.has(pointer):
                        continue
                    if self.take(pointer, _pieces(content)):
                        taken.append(pointer)
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise SandboxError(
                f"The archive of the sandbox's LFS objects cannot be read: {error}."
            ) from error
        return tuple(taken)


def is_oid(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _pieces(file: IO[bytes]) -> Iterable[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
