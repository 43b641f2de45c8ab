"""Git LFS of a repository that is a folder of this machine: its contents lie in its git folder, as git-lfs has them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from sandboxes.extras.lfs_client import LfsUnavailable
from sandboxes.extras.lfs_pointers import LfsPointer

_PIECE_BYTES = 1024 * 1024


class LfsFolder:
    """`repository` is a bare repository, or a folder with a `.git`."""

    def __init__(self, repository: Path) -> None:
        inner = repository / ".git"
        self._objects = (inner if inner.is_dir() else repository) / "lfs" / "objects"

    def has(self, pointer: LfsPointer) -> bool:
        try:
            return self._place(pointer).stat().st_size == pointer.size
        except OSError:
            return False

    def read(self, pointer: LfsPointer) -> Iterator[bytes]:
        """The content in pieces, unverified. Raises `LfsUnavailable`."""
        try:
            with self._place(pointer).open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
        except OSError as error:
            raise LfsUnavailable(f"the repository's folder cannot be read ({error.strerror})") from error

    def write(self, pointer: LfsPointer, content: Path) -> None:
        """Nothing where it is there. Raises `LfsUnavailable`."""
        if self.has(pointer):
            return
        place = self._place(pointer)
        fresh = place.with_name(uuid4().hex)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(content, fresh)
            fresh.rename(place)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise LfsUnavailable(f"the repository's folder cannot be written ({error.strerror})") from error

    def _place(self, pointer: LfsPointer) -> Path:
        return self._objects / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid
