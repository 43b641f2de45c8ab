"""What programs leave beside somebody's work and nobody means to commit: a kept list as data, and matching against it.

`caches.txt` names its source. Pure; used by the sweep on both sides of the border.
"""

import re
from collections.abc import Set
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from pathlib import Path

_LIST = Path(__file__).with_name("caches.txt")
_BESIDE = " beside "
_DEEPEST = 40  # folders; what lies deeper is looked at no closer, for a path can be made to cost much
# A file that says of its own folder what it is: bford.info/cachedir, and Python's virtual environments.
TAGS = frozenset({"CACHEDIR.TAG", "pyvenv.cfg"})


@dataclass(frozen=True)
class CachePattern:
    """`parts`: a glob for each of the last components of a path; `is_folder`: only a folder, with all in it.

    `beside`: only where one of these files is in the folder that holds it.
    """

    parts: tuple[str, ...]
    is_folder: bool
    beside: frozenset[str] = frozenset()

    def matches(self, parts: tuple[str, ...], *, is_folder: bool) -> bool:
        if (self.is_folder and not is_folder) or len(parts) < len(self.parts):
            return False
        end = parts[len(parts) - len(self.parts) :]
        return all(fnmatchcase(part, glob) for part, glob in zip(end, self.parts, strict=True))


def _parse(text: str) -> tuple[CachePattern, ...]:
    lines = (line.strip() for line in text.splitlines())
    found = []
    for line in lines:
        if line and line[0] != "[" and not line.startswith("# "):
            glob, _, beside = line.partition(_BESIDE)
            parts = tuple(glob.strip("/").split("/"))
            found.append(CachePattern(parts, glob.endswith("/"), frozenset(filter(None, beside.split("|")))))
    return tuple(found)


@lru_cache(maxsize=1)
def patterns() -> tuple[CachePattern, ...]:
    return _parse(_LIST.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _special() -> tuple[CachePattern, ...]:
    """Those that need more than one name to be decided."""
    return tuple(pattern for pattern in patterns() if pattern.beside or len(pattern.parts) > 1)


@lru_cache(maxsize=2)
def _plain(is_folder: bool) -> re.Pattern[str]:
    """All the others in one, for a folder's name or a file's: there may be very many paths."""
    globs = [
        pattern.parts[0]
        for pattern in patterns()
        if pattern not in _special() and (is_folder or not pattern.is_folder)
    ]
    return re.compile("|".join(map(translate, globs)))


def as_git_excludes() -> str:
    """The patterns that need to see nothing else, as lines of a git exclude file."""
    lines = []
    for pattern in patterns():
        if not pattern.beside:
            start = "**/" if len(pattern.parts) > 1 else ""
            glob = "/".join(pattern.parts)
            lines.append(f"{start}{_escaped(glob)}{'/' if pattern.is_folder else ''}")
    return "\n".join(lines) + "\n"


def _escaped(glob: str) -> str:
    return f"\\{glob}" if glob[0] in "#!" else glob


def neighbours() -> frozenset[str]:
    """Names of files that decide on folders beside them."""
    return frozenset().union(*(pattern.beside for pattern in patterns()))


def names_beside() -> frozenset[str]:
    """Names of the folders that are judged by their neighbours."""
    return frozenset(pattern.parts[-1] for pattern in patterns() if pattern.beside)


def cache_of(path: str, present: Set[str]) -> str:
    """The folder (with a slash at its end) or file by which a path is a program's own; '' where it is not.

    `present`: paths that are there, as far as `TAGS` and `neighbours` need them.
    """
    parts = tuple(path.split("/", _DEEPEST)[:_DEEPEST])
    for end in range(1, len(parts) + 1):
        is_folder = end < len(parts)
        above = parts[: end - 1]
        here = "/".join(parts[:end])
        if is_folder and any(f"{here}/{tag}" in present for tag in TAGS):
            return f"{here}/"
        if _plain(is_folder).match(parts[end - 1]):
            return f"{here}/" if is_folder else here
        for pattern in _special():
            if pattern.matches(parts[:end], is_folder=is_folder) and (
                not pattern.beside or any("/".join((*above, name)) in present for name in pattern.beside)
            ):
                return f"{here}/" if is_folder else here
    return ""
