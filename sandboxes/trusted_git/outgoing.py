"""What a push would add to a remote: the commits it does not have, the paths each touches, and their raw bytes.

Reads a trusted repository only. Every new commit counts, not only the difference in the end: what one commit brings
and the next takes away is pushed all the same. Knows nothing of what is looked for in it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandboxes.errors import GitError, PushTooLarge
from sandboxes.trusted_git.git import TrustedGit
from sandboxes.trusted_git.objects import Commit, Touched, reachable

SCAN_SECONDS = 300.0
SCAN_LIMIT_BYTES = 2 * 1024 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_OVERLAP_BYTES = 8192  # longer than anything looked for


OutgoingTooLarge = PushTooLarge


class FileTooLarge(PushTooLarge):
    """One object is larger than git hosts take."""


@dataclass(frozen=True)
class Outgoing:
    """`commits` are full shas."""

    commits: tuple[str, ...]
    touched: tuple[Touched, ...]
    has_merge: bool = False


def outgoing_among(commits: Sequence[Commit], *, pushed: Sequence[str]) -> Outgoing:
    """Those of a head's own commits that none of the `pushed` reaches. `commits` must be complete."""
    parents = {commit.sha: commit.parents for commit in commits}
    there = set[str]().union(*(reachable(sha, parents) for sha in pushed))
    new = [commit for commit in commits if commit.sha not in there]
    return Outgoing(
        commits=tuple(commit.sha for commit in new),
        touched=tuple(touched for commit in new for touched in commit.touched),
        has_merge=any(len(commit.parents) > 1 for commit in new),
    )


def object_sizes(git: TrustedGit, git_dir: Path, shas: Sequence[str]) -> dict[str, int]:
    """Bytes of each object's content; none of them is read."""
    asked = "".join(f"{sha}\n" for sha in shas).encode()
    batch = ("cat-file", "--buffer", "--batch-check=%(objectname) %(objectsize)")
    lines = (
        git.run(*batch, git_dir=git_dir, stdin=asked, timeout_seconds=SCAN_SECONDS)
        .stdout.decode()
        .split("\n")
    )
    return {sha: int(line.split(" ")[1]) for sha, line in zip(shas, lines, strict=False)}


def read_objects(
    git: TrustedGit,
    git_dir: Path,
    shas: Sequence[str],
    on_piece: Callable[[str, bytes], None],
    *,
    limit_bytes: int = 0,
) -> None:
    """Hand over the content of each object in pieces that overlap.

    Raises `OutgoingTooLarge` and `GitError`, and `FileTooLarge` at the first object over `limit_bytes` (0: none is).
    """
    if not shas:
        return
    reader = _BatchReader(on_piece, limit_bytes)
    git.run(
        *("cat-file", "--batch", "--buffer"),
        git_dir=git_dir,
        stdin="".join(f"{sha}\n" for sha in shas).encode(),
        on_stdout=reader.feed,
        timeout_seconds=SCAN_SECONDS,
    )
    reader.finish(len(shas))


class _BatchReader:
    """Reads `<sha> <type> <size>`, content and a newline, again and again, from chunks of any size."""

    def __init__(self, on_piece: Callable[[str, bytes], None], limit_bytes: int = 0) -> None:
        self._on_piece = on_piece
        self._limit = limit_bytes
        self._steps = self._read()
        self._buffer = bytearray()
        self._wanted = 0
        self._total = 0
        self._objects = 0
        next(self._steps)

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        next(self._steps)

    def finish(self, expected: int) -> None:
        if self._objects != expected or self._buffer:
            raise GitError("Git could not show all that the new commits hold, to be searched for secrets.")

    def _read(self) -> Iterator[None]:
        while True:
            while (end := self._buffer.find(b"\n")) < 0:
                yield
            header = self._buffer[:end].decode("ascii", "replace").split(" ")
            del self._buffer[: end + 1]
            if len(header) != 3 or not header[2].isdigit():
                raise GitError(
                    f"Git could not read a part of the new commits (object {' '.join(header)[:100]})."
                )
            yield from self._read_content(header[0], int(header[2]))
            self._objects += 1

    def _read_content(self, sha: str, size: int) -> Iterator[None]:
        if self._limit and size > self._limit:
            raise FileTooLarge(f"The object {sha[:12]} has {size} bytes.")
        self._total += size
        if self._total > SCAN_LIMIT_BYTES:
            raise OutgoingTooLarge(f"The new commits hold more than {SCAN_LIMIT_BYTES >> 20} MiB.")
        left = size + 1  # and a newline
        while left:
            wanted = min(left, _PIECE_BYTES)
            while len(self._buffer) < wanted:
                yield
            is_last = wanted == left
            self._on_piece(sha, bytes(self._buffer[: wanted - 1 if is_last else wanted]))
            done = wanted if is_last else wanted - _OVERLAP_BYTES
            del self._buffer[:done]
            left -= done
