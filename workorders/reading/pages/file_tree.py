"""Changed files as a tree of rows in reading order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2s

from workorders.models import WorkOrderFile

_TREE_DEPTH = 12


@dataclass(frozen=True)
class TreeRow:
    """A folder or a file of a tree, in reading order. `closes`: one item for each folder that ends after it.

    `key` names the path in element ids; `files` counts a folder's files; lines are None for binary files.
    """

    key: str
    name: str
    is_folder: bool
    lines_added: int | None
    lines_removed: int | None
    files: int = 0
    path: str = ""
    position: int = 0
    status: str = ""
    closes: range = range(0)


@dataclass
class _Folder:
    folders: dict[str, "_Folder"] = field(default_factory=dict)
    files: dict[str, WorkOrderFile] = field(default_factory=dict)

    def all_files(self) -> Iterator[WorkOrderFile]:
        yield from self.files.values()
        for folder in self.folders.values():
            yield from folder.all_files()


def file_tree(files: Iterable[WorkOrderFile]) -> tuple[TreeRow, ...]:
    """Folders first, as file browsers show them; folders that hold but one folder share a row with it."""
    root = _Folder()
    for file in files:
        *parents, name = file.path.split("/", _TREE_DEPTH)
        folder = root
        for parent in parents:
            folder = folder.folders.setdefault(parent, _Folder())
        folder.files[name] = file
    return tuple(_rows(root, "", 0))


def _rows(folder: _Folder, path: str, closes: int) -> Iterator[TreeRow]:
    """`closes`: how many folders end with this one's last row."""
    folders, files = sorted(folder.folders.items()), sorted(folder.files.items())
    left = len(folders) + len(files)
    for name, inner in folders:
        left -= 1
        while not inner.files and len(inner.folders) == 1:
            ((only, inner),) = inner.folders.items()
            name = f"{name}/{only}"
        where = f"{path}{name}/"
        below = list(inner.all_files())
        yield TreeRow(
            key=path_key(where),
            name=f"{name}/",
            is_folder=True,
            files=len(below),
            lines_added=sum(file.lines_added or 0 for file in below),
            lines_removed=sum(file.lines_removed or 0 for file in below),
        )
        yield from _rows(inner, where, 1 if left else closes + 1)
    for name, file in files:
        left -= 1
        yield TreeRow(
            key=path_key(file.path),
            name=name,
            is_folder=False,
            lines_added=file.lines_added,
            lines_removed=file.lines_removed,
            path=file.path,
            position=file.position,
            status=file.status,
            closes=range(0 if left else closes),
        )


def path_key(path: str) -> str:
    """A short name of a path for element ids, the same at every poll."""
    return blake2s(path.encode("utf-8", "replace"), digest_size=6).hexdigest()
