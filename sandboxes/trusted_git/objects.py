"""What git says of commits and files: the formats asked for, and typed values out of the answers.

Pure: no process, no database. Every byte read here may be an author's own choice.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice

REGULAR_MODES = frozenset({"100644", "100755"})
# Framed by NUL, the one byte git never prints from inside a commit; `-z` ends each record with one as well. The paths
# a commit changes follow it, as `\n:mode mode sha sha status` and the path.
_LOG_START = b"\1"
_LOG_FIELDS = ("%x01%H", "%P", "%an", "%ad", "%cd", "%B", "%(trailers:only,unfold)")
LOG_FORMAT = "%x00".join(_LOG_FIELDS)
LOG_PATHS = ("--date=raw", "--raw", "-r", "-c", "--root", "--no-abbrev", "--no-renames")
DIFFERENCE = ("-r", "-z", "--raw", "--numstat", "-p", "--no-renames", "--no-ext-diff", "--no-textconv")
_NO_BLOB = "0" * 40
_GITLINK = "160000"
_MINUTES_OF_A_DAY = 24 * 60
_LAST_SECOND = 253402128000  # 30 December 9999: in every time zone a day that can be counted from


@dataclass(frozen=True)
class Touched:
    """One path that a commit changes against all of its parents. `blob`: the new content, '' where there is none.

    Bytes of a path that are no UTF-8 are kept as surrogates.
    """

    commit_sha: str
    path: str
    blob: str


@dataclass(frozen=True)
class Commit:
    """One commit, as git tells it; times are RFC 3339 with offset, `trailers` in order of appearance."""

    sha: str
    parents: tuple[str, ...]
    author_name: str
    authored_at: str
    committed_at: str
    message: str
    trailers: tuple[tuple[str, str], ...]
    touched: tuple[Touched, ...] = ()

    @property
    def subject(self) -> str:
        return self.message.split("\n", 1)[0]

    def trailer(self, name: str) -> str | None:
        """The last value of that trailer, as git itself would take it."""
        values = [value for key, value in self.trailers if key.lower() == name.lower()]
        return values[-1] if values else None


@dataclass(frozen=True)
class FileChange:
    """One changed path between two commits; lines are None for binary files. `status` is git's letter.

    `mode` and `blob` are those of the newer side, zeros where the path is gone.
    """

    path: str
    status: str
    lines_added: int | None
    lines_removed: int | None
    mode: str = ""
    blob: str = ""

    @property
    def is_regular_file(self) -> bool:
        return self.mode in REGULAR_MODES


type Difference = tuple[tuple[FileChange, ...], tuple[str, ...]]
"""Changed paths between two commits, and a unified diff for each of them, in their order."""


def reachable(sha: str, parents: Mapping[str, Sequence[str]]) -> set[str]:
    """The commits of the mapping that are reachable from one of them; what is not in it ends the walk."""
    seen: set[str] = set()
    stack = [sha]
    while stack:
        current = stack.pop()
        if current in parents and current not in seen:
            seen.add(current)
            stack.extend(parents[current])
    return seen


def parse_log(output: bytes) -> Iterator[Commit]:
    """One by one, so that no text of an author's is taken for a start or a path."""
    tokens = iter(output.split(b"\0")[:-1])
    token = next(tokens, None)
    while token is not None:
        fields = [token.removeprefix(_LOG_START), *islice(tokens, len(_LOG_FIELDS) - 1)]
        commit = _parse_commit([item.decode("utf-8", "replace") for item in fields])
        touched = []
        while (token := next(tokens, None)) is not None and not token.startswith(_LOG_START):
            if meta := token.strip(b"\n"):  # nothing for a merge that changes no path against all its parents
                touched.append(_parse_touched(commit.sha, meta, next(tokens)))
        yield replace(commit, touched=tuple(touched))


def _parse_touched(commit_sha: str, meta: bytes, path: bytes) -> Touched:
    """`:mode mode sha sha status`; a merge has a colon, a mode and a sha more for each further parent."""
    parents = len(meta) - len(meta.lstrip(b":"))
    fields = meta.lstrip(b":").decode().split(" ")
    mode, blob = fields[parents], fields[2 * parents + 1]
    has_content = mode != _GITLINK and not blob.startswith(_NO_BLOB)
    return Touched(commit_sha, path.decode("utf-8", "surrogateescape"), blob if has_content else "")


def _parse_commit(fields: Sequence[str]) -> Commit:
    sha, parents, author, authored, committed, message, trailers = fields
    pairs = (line.partition(":") for line in trailers.split("\n") if ":" in line)
    return Commit(
        sha=sha,
        parents=tuple(parents.split()),
        author_name=author,
        authored_at=as_time(authored),
        committed_at=as_time(committed),
        message=message.strip(),
        trailers=tuple((key.strip(), value.strip()) for key, _, value in pairs),
    )


def as_time(raw: str) -> str:
    """git's `<seconds> <zone>` as RFC 3339 with offset; of year 10000, or zone +9999, the nearest that calendars have.

    git itself would refuse to show some of them, though it accepts such commits.
    """
    seconds, _, zone = raw.partition(" ")
    number = int(seconds) if re.fullmatch(r"-?[0-9]{1,25}", seconds) else 0
    offset = UTC
    if (found := re.fullmatch(r"([+-])(\d\d)(\d\d)", zone)) is not None:
        minutes = (int(found[2]) * 60 + int(found[3])) * (-1 if found[1] == "-" else 1)
        if abs(minutes) < _MINUTES_OF_A_DAY:
            offset = timezone(timedelta(minutes=minutes))
    return datetime.fromtimestamp(min(max(number, 0), _LAST_SECOND), offset).isoformat()


def parse_difference(output: bytes) -> Difference:
    listed, separator, text = output.partition(b"\0\0")
    # Within a patch every line starts with a space, +, -, @ or a backslash: this can only be a header.
    patches = re.split(r"^(?=diff --git )", text.decode("utf-8", "replace"), flags=re.MULTILINE)[1:]
    return parse_changes(listed + b"\0" if separator else listed), tuple(patches)


def parse_changes(output: bytes) -> tuple[FileChange, ...]:
    """First `:modes shas status`, path, …; then `added TAB removed TAB path`, …; all NUL-terminated.

    Paths are compared as bytes: two that are no UTF-8 may look alike as text.
    """
    tokens = output.split(b"\0")[:-1]
    raw: dict[bytes, list[str]] = {}
    while tokens and len(raw) * 2 < len(tokens) and tokens[len(raw) * 2].startswith(b":"):
        start = len(raw) * 2
        raw[tokens[start + 1]] = tokens[start].decode().split(" ")
    counts = tokens[len(raw) * 2 :]
    found = []
    for entry in counts:
        added, removed, path = entry.split(b"\t", 2)
        _old_mode, mode, _old_blob, blob, status = raw.get(path, ["", "", "", "", "M"])
        found.append(
            FileChange(
                path=path.decode("utf-8", "replace"),
                status=status,
                lines_added=None if added == b"-" else int(added),
                lines_removed=None if removed == b"-" else int(removed),
                mode=mode,
                blob=blob,
            )
        )
    return tuple(found)
