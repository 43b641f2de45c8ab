"""Files in a folder that an agent could write, looked at and replaced from the trusted side without following anything.

Every step is relative to an open folder and refuses links, so that whatever was planted leads nowhere else; reads are
bounded, and a pipe or a device is no file. Not for while somebody is at work there: it is safe then, but not exact.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sandboxes.files.disk import open_up, remove_tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_NAMES = 20_000
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class WaryFolder:
    """An open folder. What is in the way of something that is put there goes to `trash` first. Raises `OSError`."""

    def __init__(self, descriptor: int, trash: Path) -> None:
        self._descriptor = descriptor
        self._trash = trash

    @contextmanager
    def folder(self, name: str, *, make: bool = True) -> Iterator["WaryFolder"]:
        """A folder in this one, to be used by its owner again; made where there is none, with `make`."""
        kind = self.kind(name)
        if make and kind != stat.S_IFDIR:
            if kind:
                self.remove(name)
            os.mkdir(name, 0o700, dir_fd=self._descriptor)  # relative to an open folder
        with _opened(name, self._trash, self._descriptor) as found:
            yield found

    def names(self) -> list[str]:
        """In order. More than anything of git's own makes is no folder of its, and an `OSError`."""
        found = os.listdir(self._descriptor)  # noqa: PTH208  # of an open folder
        if len(found) > _MOST_NAMES:
            raise OSError(errno.E2BIG, f"{len(found)} files in one folder")
        return sorted(found)

    def kind(self, name: str) -> int:
        """`stat.S_IFREG`, `stat.S_IFDIR`, …; 0 where there is nothing."""
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        return stat.S_IFMT(found.st_mode)

    def read(self, name: str, most: int) -> bytes | None:
        """A regular file's content; None for anything else, and where it is longer than `most` bytes."""
        try:
            descriptor = os.open(name, _FILE, dir_fd=self._descriptor)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        with open(descriptor, "rb") as file:  # noqa: PTH123  # of an open folder
            found = file.read(most + 1)
        return found if len(found) <= most else None

    def put(self, name: str, content: bytes, mode: int = 0o600) -> None:
        """A file with this content and mode, never missing for a moment where there was one; as it is if it is so."""
        if self._is(name, content, mode):
            return
        if self.kind(name) == stat.S_IFDIR:
            self.remove(name)
        fresh = f".{uuid4().hex}"
        with open(os.open(fresh, _NEW, mode, dir_fd=self._descriptor), "wb") as file:  # noqa: PTH123  # likewise
            os.fchmod(file.fileno(), mode)
            file.write(content)
        os.replace(fresh, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def _is(self, name: str, content: bytes, mode: int) -> bool:
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        same = stat.S_IMODE(found.st_mode) & 0o700 == mode & 0o700 and found.st_size == len(content)
        return plain and same and self.read(name, len(content)) == content

    def remove(self, name: str) -> None:
        """Whatever it is; a folder by renaming it away first."""
        if self.kind(name) == stat.S_IFDIR:
            remove_tree(self.move_away(name, self._trash))
            return
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)  # relative to an open folder

    def move_away(self, name: str, where: Path) -> Path:
        """A folder, under a name of its own in another one on the trusted side; its path there."""
        open_up(name, self._descriptor)  # a folder that moves must be writable
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        away = where / f"{name}-{uuid4().hex}"
        os.rename(name, away, src_dir_fd=self._descriptor)  # from an open folder
        return away

    def rename(self, name: str, to: str) -> None:
        """Within this folder."""
        open_up(name, self._descriptor)
        os.rename(name, to, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)  # in an open folder

    def keep_only(self, *names: str) -> None:
        for name in self.names():
            if name not in names:
                self.remove(name)

    def open_up(self, name: str) -> None:
        open_up(name, self._descriptor)


@contextmanager
def wary_folder(path: Path, trash: Path) -> Iterator[WaryFolder]:
    """The folder at `path`, whose last part alone may have been planted. Raises `OSError` where it is none."""
    with _opened(str(path), trash) as found:
        yield found


@contextmanager
def _opened(name: str, trash: Path, parent: int | None = None) -> Iterator[WaryFolder]:
    open_up(name, parent)
    descriptor = os.open(name, _FOLDER, dir_fd=parent)
    try:
        yield WaryFolder(descriptor, trash)
    finally:
        os.close(descriptor)
