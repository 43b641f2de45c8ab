"""Paths that an order must not push without a person's word: patterns as in `.gitignore`, matched strictly.

Pure. A path counts as protected in every spelling that some file system or git takes for the same: other letter case,
invisible characters, trailing dots. A file, link or submodule in the place of a protected folder counts too.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

DEFAULT_PROTECTED_PATHS = ".github/workflows/**\n.gitmodules"
MOST_PATTERNS = 100
LONGEST_PATTERN = 200


def parse_patterns(text: str) -> tuple[str, ...]:
    """One pattern a line; empty lines and `#` comments are left out. Raises `ValueError` with what to correct."""
    patterns = [line.strip() for line in text.splitlines()]
    patterns = [line for line in patterns if line and not line.startswith("#")]
    if len(patterns) > MOST_PATTERNS:
        raise ValueError(f"There are more than {MOST_PATTERNS} patterns.")
    for pattern in patterns:
        if len(pattern) > LONGEST_PATTERN or pattern.count("*") > 8:
            raise ValueError(f"{pattern[:60]!r} is too long or has too many stars.")
        if not pattern.isprintable() or {"", ".", ".."} & set(pattern.strip("/").split("/")):
            raise ValueError(f"{pattern[:60]!r} is no path inside a repository.")
        if pattern.startswith("!"):
            raise ValueError(f"{pattern[:60]!r}: exceptions are not supported; name what is protected.")
    return tuple(dict.fromkeys(patterns))


def protected_among(paths: Iterable[str], patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the paths that one of the patterns protects, in their order."""
    matchers = [_matcher(pattern) for pattern in patterns]
    return tuple(path for path in paths if any(matcher.fullmatch(_folded(path)) for matcher in matchers))


def _folded(path: str) -> str:
    """As the most forgiving file system reads it."""
    text = unicodedata.normalize("NFKC", path).replace("\\", "/")
    text = "".join(character for character in text if unicodedata.category(character) != "Cf").casefold()
    return "/".join(part.rstrip(" .") or part for part in text.split("/"))


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> re.Pattern[str]:
    """`**` stands for any folders, `*` and `?` for characters of one name; without a slash, at any depth."""
    anchored = pattern.strip("/")
    parts = [part if part == "**" else _folded(part) for part in anchored.split("/")]
    if pattern.endswith("/"):
        parts.append("**")
    if "/" not in anchored and not pattern.startswith("/"):
        parts.insert(0, "**")
    choices = ["".join(_piece(part, last=False) for part in parts[:-1]) + _piece(parts[-1], last=True)]
    solid = parts[: parts.index("**")] if "**" in parts else parts[:-1]
    choices += ["/".join(_name(part) for part in solid[:count]) for count in range(1, len(solid) + 1)]
    return re.compile("|".join(f"(?:{choice})" for choice in choices), re.DOTALL)


def _piece(part: str, *, last: bool) -> str:
    if part == "**":
        return ".*" if last else "(?:.*/)?"
    return _name(part) if last else f"{_name(part)}/"


def _name(part: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character)) for character in part)
