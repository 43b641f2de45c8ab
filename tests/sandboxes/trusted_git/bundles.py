"""Bundles that are small and stand for much, written byte by byte: git itself would not make most of them."""

import hashlib
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

WHO = b"A <a@example.com> 1700000000 +0000"
_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_OFFSET_DELTA = 6
_COPY_MOST = 0xFFFFFF
_PIECE = 1 << 20


@dataclass(frozen=True)
class Made:
    """An object of the pack: its name, where it begins, how long it is."""

    sha: bytes
    at: int
    size: int


class Bundle:
    """A file that is written from its start to its end; how many objects come is said first, as a pack has it."""

    def __init__(self, path: Path, base: str, *, objects: int) -> None:
        self._path, self._base = path, base
        self._pack = path.with_suffix(".pack").open("wb")
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._at = 0
        self._write(b"PACK" + (2).to_bytes(4, "big") + objects.to_bytes(4, "big"))

    def whole(self, kind: str, data: bytes) -> Made:
        return self.streamed(kind, len(data), lambda: iter([data]))

    def streamed(
        self, kind: str, size: int, pieces: Callable[[], Iterator[bytes]], *, level: int = 1
    ) -> Made:
        at = self._at
        self._head(_KINDS[kind], size)
        packer = zlib.compressobj(level)
        for piece in pieces():
            self._write(packer.compress(piece))
        self._write(packer.flush())
        return Made(_name(kind, size, pieces()), at, size)

    def delta(self, onto: Made, commands: bytes, result: Made) -> Made:
        """`result` says what comes of it, but for where this one begins."""
        at = self._at
        data = _number(onto.size) + _number(result.size) + commands
        self._head(_OFFSET_DELTA, len(data))
        self._write(_offset(at - onto.at))
        self._write(zlib.compress(data, 1))
        return Made(result.sha, at, result.size)

    def commit(self, tree: bytes, parent: str, message: bytes = b"A commit\n") -> str:
        head = b"tree %b\nparent %b\n" % (tree.hex().encode(), parent.encode())
        text = b"%bauthor %b\ncommitter %b\n\n%b" % (head, WHO, WHO, message)
        return self.whole("commit", text).sha.hex()

    def close(self, head: str, *, more_refs: int = 0) -> None:
        self._pack.write(self._digest.digest())
        self._pack.close()
        pack = self._path.with_suffix(".pack")
        with self._path.open("wb") as file, pack.open("rb") as packed:
            file.write(f"# v2 git bundle\n-{self._base}\n{head} refs/heads/work\n".encode())
            file.writelines(f"{head} refs/heads/r{number}\n".encode() for number in range(more_refs))
            file.write(b"\n")
            while piece := packed.read(_PIECE):
                file.write(piece)
        pack.unlink()

    def _head(self, kind: int, size: int) -> None:
        first, size = (kind << 4) | (size & 15), size >> 4
        found = bytearray()
        while size:
            found.append(first | 0x80)
            first, size = size & 0x7F, size >> 7
        self._write(bytes([*found, first]))

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._pack.write(data)
        self._at += len(data)


def _name(kind: str, size: int, pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.sha1(b"%b %d\0" % (kind.encode(), size), usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append((value & 0x7F) | 0x80)
        value >>= 7
    return bytes([*found, value])


def _offset(value: int) -> bytes:
    found = [value & 0x7F]
    while value := value >> 7:
        value -= 1
        found.insert(0, (value & 0x7F) | 0x80)
    return bytes(found)


def _copy(start: int, size: int) -> bytes:
    """The command that takes so many bytes of what the delta is on."""
    return b"\xff" + start.to_bytes(4, "little") + size.to_bytes(3, "little")


def _tree(*entries: tuple[bytes, bytes, bytes]) -> bytes:
    return b"".join(b"%b %b\0%b" % entry for entry in entries)


def _one_file(bundle: Bundle, base: str, blob: bytes) -> None:
    tree = bundle.whole("tree", _tree((b"100644", b"file", blob)))
    bundle.close(bundle.commit(tree.sha, base))


# --- the shapes ---


def many_small_objects(path: Path, base: str) -> None:
    """As many files as are taken at all, each of another content."""
    files, folders = 300, 300
    bundle = Bundle(path, base, objects=files * folders + folders + 2)
    trees = []
    for folder in range(folders):
        blobs = [bundle.whole("blob", b"%d %d" % (folder, number)).sha for number in range(files)]
        entries = ((b"100644", b"f%05d" % number, sha) for number, sha in enumerate(blobs))
        trees.append(bundle.whole("tree", _tree(*entries)).sha)
    root = bundle.whole("tree", _tree(*((b"40000", b"d%05d" % at, sha) for at, sha in enumerate(trees))))
    bundle.close(bundle.commit(root.sha, base))


def deep_delta_chain(path: Path, base: str) -> None:
    """Each blob is the one before and a byte more."""
    deep, size = 1500, 200_000
    bundle = Bundle(path, base, objects=deep + 3)
    data = random.Random(1).randbytes(size)
    last = bundle.whole("blob", data)
    for _step in range(deep):
        data += b"x"
        result = Made(_name("blob", len(data), [data]), 0, len(data))
        last = bundle.delta(last, _copy(0, last.size) + b"\x01x", result)
    _one_file(bundle, base, last.sha)


def wide_deltas(path: Path, base: str) -> None:
    """Many blobs of some size, all on one."""
    wide, size = 60, 12 << 20
    bundle = Bundle(path, base, objects=wide + 3)
    data = random.Random(2).randbytes(size)
    first = last = bundle.whole("blob", data)
    for number in range(wide):
        more = b"%03d" % number
        result = Made(_name("blob", size + 3, [data, more]), 0, size + 3)
        last = bundle.delta(first, _copy(0, size) + b"\x03" + more, result)
    _one_file(bundle, base, last.sha)


def delta_bomb(path: Path, base: str) -> None:
    """A few commands whose result has many gigabytes; nobody ever gets as far as to see that its name is made up."""
    bundle = Bundle(path, base, objects=4)
    first = bundle.whole("blob", bytes(_COPY_MOST))
    result = Made(b"\7" * 20, 0, _COPY_MOST * 1000)
    bundle.delta(first, _copy(0, _COPY_MOST) * 1000, result)
    _one_file(bundle, base, result.sha)


def huge_blob(path: Path, base: str) -> None:
    """Nothing that can be compressed, nearly as large as a bundle may be."""
    pieces = 300

    def random_bytes() -> Iterator[bytes]:
        source = random.Random(3)
        return (source.randbytes(_PIECE) for _number in range(pieces))

    bundle = Bundle(path, base, objects=3)
    _one_file(bundle, base, bundle.streamed("blob", pieces * _PIECE, random_bytes, level=0).sha)


def zlib_bomb(path: Path, base: str) -> None:
    """A few megabytes that hold gigabytes of nothing."""
    pieces = 1500

    def zeros() -> Iterator[bytes]:
        return (bytes(_PIECE) for _number in range(pieces))

    bundle = Bundle(path, base, objects=3)
    _one_file(bundle, base, bundle.streamed("blob", pieces * _PIECE, zeros).sha)


def blobs_below_the_stream(path: Path, base: str) -> None:
    """Each as large as git still takes whole into its memory, and much like the others: worth a try as deltas."""
    many, size = 8, 31 << 20
    bundle = Bundle(path, base, objects=many + 2)
    data = random.Random(4).randbytes(size)
    blobs = [bundle.whole("blob", b"%03d" % number + data).sha for number in range(many)]
    tree = bundle.whole("tree", _tree(*((b"100644", b"f%03d" % at, sha) for at, sha in enumerate(blobs))))
    bundle.close(bundle.commit(tree.sha, base))


def long_lines(path: Path, base: str) -> None:
    """Texts that differ everywhere and are all read for a diff."""
    many, size = 10, 8 << 20
    bundle = Bundle(path, base, objects=many + 2)
    text = b"".join(b"%07d\n" % number for number in range(size // 8))
    blobs = [bundle.whole("blob", b"%03d" % number + text).sha for number in range(many)]
    tree = bundle.whole("tree", _tree(*((b"100644", b"f%03d" % at, sha) for at, sha in enumerate(blobs))))
    bundle.close(bundle.commit(tree.sha, base))


def huge_tree(path: Path, base: str) -> None:
    """One folder of two million files, all the same."""
    bundle = Bundle(path, base, objects=3)
    blob = bundle.whole("blob", b"x").sha
    entries = b"".join(b"100644 f%07d\0%b" % (number, blob) for number in range(2_000_000))
    bundle.close(bundle.commit(bundle.whole("tree", entries).sha, base))


def deep_tree(path: Path, base: str) -> None:
    """A folder in a folder in a folder …"""
    deep = 50_000
    bundle = Bundle(path, base, objects=deep + 2)
    sha, mode = bundle.whole("blob", b"x").sha, b"100644"
    for _level in range(deep):
        sha, mode = bundle.whole("tree", _tree((mode, b"d", sha))).sha, b"40000"
    bundle.close(bundle.commit(sha, base))


def many_refs(path: Path, base: str) -> None:
    bundle = Bundle(path, base, objects=3)
    blob = bundle.whole("blob", b"x").sha
    tree = bundle.whole("tree", _tree((b"100644", b"file", blob)))
    bundle.close(bundle.commit(tree.sha, base), more_refs=500_000)


def many_commits(path: Path, base: str) -> None:
    """A long history that changes nothing."""
    many = 150_000
    bundle = Bundle(path, base, objects=many + 2)
    blob = bundle.whole("blob", b"x").sha
    tree = bundle.whole("tree", _tree((b"100644", b"file", blob))).sha
    head = base
    for _number in range(many):
        head = bundle.commit(tree, head)
    bundle.close(head)


def long_messages(path: Path, base: str) -> None:
    many, size = 30, 20 << 20
    bundle = Bundle(path, base, objects=many + 2)
    blob = bundle.whole("blob", b"x").sha
    tree = bundle.whole("tree", _tree((b"100644", b"file", blob))).sha
    head = base
    for _number in range(many):
        head = bundle.commit(tree, head, b"word " * (size // 5))
    bundle.close(head)


def one_endless_message(path: Path, base: str) -> None:
    bundle = Bundle(path, base, objects=3)
    blob = bundle.whole("blob", b"x").sha
    tree = bundle.whole("tree", _tree((b"100644", b"file", blob))).sha
    bundle.close(bundle.commit(tree, base, b"word " * (60 << 20)))


SHAPES = (
    many_small_objects,
    deep_delta_chain,
    wide_deltas,
    delta_bomb,
    huge_blob,
    zlib_bomb,
    blobs_below_the_stream,
    long_lines,
    huge_tree,
    deep_tree,
    many_refs,
    many_commits,
    long_messages,
    one_endless_message,
)
