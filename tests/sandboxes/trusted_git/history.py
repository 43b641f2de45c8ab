"""Builds repositories with exactly the commits a test wants, many at once, by `git fast-import`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.git_http import git

AUTHOR = b"Agent <agent@example.com>"
FIRST_SECOND = 1767225600


@dataclass(frozen=True)
class Entry:
    """A tree entry that is no ordinary file: mode 120000 with the target, 160000 with a commit's sha."""

    mode: str
    data: bytes


@dataclass
class History:
    """A bare repository at `path` and its commits by name. Nothing is written before `write`."""

    path: Path
    shas: dict[str, str] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _stream: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path.is_dir():
            return
        git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(self.path))

    def commit(
        self,
        name: str,
        message: str | bytes = "A commit\n",
        *,
        after: str | Sequence[str] = (),
        files: Mapping[str | bytes, str | bytes | Entry | None] | None = None,
        author: bytes = AUTHOR,
        branch: str = "",
    ) -> str:
        """A commit on top of the named one (of several: a merge); a file that is None is deleted. Its name."""
        parents = [after] if isinstance(after, str) else list(after)
        self._names.append(name)
        mark = len(self._names)
        second = FIRST_SECOND + mark * 60
        words = message.encode() if isinstance(message, str) else message
        lines = [f"commit refs/made/{mark}\nmark :{mark}\n".encode()]
        lines.append(b"author %b %d +0100\n" % (author, second))
        lines.append(b"committer Committer <committer@example.com> %d +0000\n" % second)
        lines.append(b"data %d\n%b\n" % (len(words), words))
        for number, parent in enumerate(parents):
            lines.append(f"{'merge' if number else 'from'} :{self._names.index(parent) + 1}\n".encode())
        for path, content in (files or {}).items():
            lines.append(_change(path.encode() if isinstance(path, str) else path, content))
        if branch:
            lines.append(f"reset refs/heads/{branch}\nfrom :{mark}\n".encode())
        self._stream += lines
        return name

    def copy_at(self, path: Path) -> "History":
        """The same history, in a copy of its folder that was made already."""
        return History(path, dict(self.shas), list(self._names))

    def write(self) -> dict[str, str]:
        """Put everything new into the repository; the shas of all commits by name."""
        marks = self.path / "fast-import-marks"
        options = (f"--import-marks-if-exists={marks}", f"--export-marks={marks}", "--force")
        git("fast-import", "--quiet", *options, folder=self.path, stdin=b"".join(self._stream))
        self._stream.clear()
        for line in marks.read_text().splitlines():
            mark, sha = line.split()
            self.shas[self._names[int(mark[1:]) - 1]] = sha
        return self.shas


def _change(path: bytes, content: str | bytes | Entry | None) -> bytes:
    quoted = b'"' + b"".join(b"\\%03o" % byte for byte in path) + b'"'
    if content is None:
        return b"D %b\n" % quoted
    entry = content if isinstance(content, Entry) else Entry("100644", _bytes(content))
    if entry.mode == "160000":
        return b"M 160000 %b %b\n" % (entry.data, quoted)
    return b"M %b inline %b\ndata %d\n%b\n" % (entry.mode.encode(), quoted, len(entry.data), entry.data)


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def raw_commit(path: Path, text: bytes) -> str:
    """A commit object of exactly these bytes, also where git would refuse to make it."""
    return git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", folder=path, stdin=text)


def raw_tree(path: Path, entries: Sequence[tuple[bytes, bytes, str]]) -> str:
    """A tree object of exactly these entries (mode, name, sha)."""
    data = b"".join(b"%b %b\0%b" % (mode, name, bytes.fromhex(sha)) for mode, name, sha in entries)
    return git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", folder=path, stdin=data)
