"""Git LFS as text: pointers, attributes that ask for it, and settings that would lead elsewhere. Pure."""

import re
from dataclasses import dataclass

POINTER_BYTES = 1024
_FIRST_LINE = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:ext-[0-9]-[^\n]*\n)*oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,15})\n?"
)
_ATTRIBUTE = re.compile(rb"^[ \t]*[^#\s][^\n]*[ \t]filter=lfs(?:[ \t\r]|$)", re.MULTILINE)
_ELSEWHERE = re.compile(r"(?:lfs|remote\.[^\n]*)\.(?:lfs)?(?:push)?url|lfs\.[^\n]*url", re.IGNORECASE)


@dataclass(frozen=True)
class LfsPointer:
    """The sha256 of a content, in hex, and its size in bytes."""

    oid: str
    size: int

    @property
    def text(self) -> bytes:
        """As git-lfs writes it."""
        return _FIRST_LINE + f"oid sha256:{self.oid}\nsize {self.size}\n".encode()


def parse_pointer(data: bytes) -> LfsPointer | None:
    """What a blob points to, where it is a pointer."""
    if len(data) > POINTER_BYTES or not data.startswith(_FIRST_LINE):
        return None
    found = _POINTER.fullmatch(data)
    return LfsPointer(found["oid"].decode(), int(found["size"])) if found else None


def asks_for_lfs(gitattributes: bytes) -> bool:
    """Whether a `.gitattributes` gives some path the filter of git-lfs."""
    return bool(_ATTRIBUTE.search(gitattributes))


def leads_elsewhere(listed_config: bytes) -> bool:
    """Whether a `.lfsconfig`, as `git config --list -z` shows it, names an address; this server follows none."""
    keys = (entry.partition("\n")[0] for entry in listed_config.decode("utf-8", "replace").split("\0"))
    return any(_ELSEWHERE.fullmatch(key) for key in keys)
