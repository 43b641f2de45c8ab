"""Text of a repository's guidance: decoding, imports, what a rule is about. Pure; every byte may be an attacker's.

All work grows with the text at most linearly (`outside_code`, `imports_in`), or is bounded (globs).
"""

import codecs
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import groupby

MOST_IMPORTS = 100
_BINARY_SHARE = 0.02
_LFS = "version https://git-lfs.github.com/spec/"
_FENCE = re.compile(r"[\s>]*(?:(?:[-*+]|[0-9]{1,9}[.)])[ \t]+)?(?P<run>`{3,}|~{3,})(?P<info>[^\n]*)")
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|[0-9]{1,9}[.)])\s")
_INDENTED = re.compile(r"(?: {4}|\t)")
_TICKS = re.compile(r"`+")
# As Claude Code reads them, and also behind a bracket, a quote or emphasis.
_IMPORT = re.compile(r"""(?:^|(?<=[\s(\["'*>|]))@(?P<path>(?:[^\s\\]|\\[^\n])+)""", re.MULTILINE)
_IMPORT_START = re.compile(r"\.{1,2}/|~|/|[A-Za-z]:[\\/]|[\w.-]")
_TRAILING = ".,;:!?)]}\"'*>|_`"
_LOOKS_LIKE_FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}$")
_KEY = re.compile(r"(?P<key>[A-Za-z]{1,20}):(?P<value>.*)")
_LONGEST_FRONT_MATTER = 100
_SCOPE_KEYS = ("paths", "globs", "applyTo")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_ALTERNATIVES = 16
_MOST_PATTERNS = 40
_MOST_SEGMENTS = 20
_EVERYTHING = frozenset({"**", "*", "**/*", "**/**", "**/*.*", "*.*", "/"})
_PATH_LIKE = re.compile(r"[\w.@+~/-]{1,400}")
_MOST_NAMED = 20_000
_MOST_TRIED = 100
_MOST_OF_A_KIND = 10


def as_text(data: bytes) -> str | None:
    """The text in whatever encoding it is likely to be, with plain line ends and no NUL; None for what is no text."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")):
        if data.startswith(mark):
            return _plain(data[len(mark) :].decode(encoding, "replace"))
    if data.startswith(codecs.BOM_UTF16_BE):
        return _plain(data[2:].decode("utf-16-be", "replace"))
    if (nuls := data.count(0)) > len(data) * _BINARY_SHARE:
        if nuls < len(data) * 0.3:
            return None
        odd = data[1::2].count(0) >= data[::2].count(0)
        text = data.decode("utf-16-le" if odd else "utf-16-be", "replace")
        return _plain(text) if text.isascii() else None
    try:
        return _plain(
            codecs.getincrementaldecoder("utf-8")().decode(data)
        )  # a last character may be cut through
    except UnicodeDecodeError:
        return _plain(data.decode("cp1252", "replace"))


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def is_lfs_pointer(text: str) -> bool:
    return text.startswith(_LFS)


def linked_by_text(text: str) -> str | None:
    """The path in a file that was a symbolic link until somebody committed it from where there are none."""
    target = text.strip()
    one_path = "\n" not in target and " " not in target and 0 < len(target) <= 200
    return target if one_path and _LOOKS_LIKE_FILE.search(target) and target[0] not in "@#<[`" else None


def resolved(folder: str, path: str) -> str | None:
    """A path relative to a folder of the repository, as git names it; None where it leads out of it."""
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", path):
        return None
    joined = posixpath.normpath(posixpath.join(folder, path))
    return None if joined.startswith("..") and joined[2:3] in {"", "/"} else joined


# --- imports ---


def imports_in(text: str) -> tuple[str, ...]:
    """What follows each `@` that may be an import, as written, in order; neither in code nor in a comment."""
    found: dict[str, None] = {}
    for match in _IMPORT.finditer(_outside_comments(outside_code(text))):
        path = match["path"]
        if _IMPORT_START.match(path) and len(path) <= 500:
            found.setdefault(path)
        if len(found) >= MOST_IMPORTS:
            break
    return tuple(found)


def spellings(path: str) -> tuple[str, ...]:
    """The paths an import may mean: without a fragment, without what ends the sentence, without escapes."""
    whole = path.replace("\\ ", " ")
    bare = whole.partition("#")[0]
    candidates = (whole, bare, bare.rstrip(_TRAILING), bare.rstrip(_TRAILING).rstrip("/"))
    return tuple(dict.fromkeys(candidate for candidate in candidates if candidate))


def looks_like_file(path: str) -> bool:
    """Whether a person meant a file: `@docs/x.md`, but neither `@somebody` nor `@scope/package`."""
    bare = path.partition("#")[0].rstrip(_TRAILING)
    return bare.startswith(("~", "/", "./", "../")) or _LOOKS_LIKE_FILE.search(bare) is not None


def without_marks(text: str) -> str:
    """The same with every import of a file told by its name alone."""
    return _IMPORT.sub(lambda found: found["path"] if looks_like_file(found["path"]) else found[0], text)


def outside_code(text: str) -> str:
    """The text without fenced blocks, indented blocks and code spans."""
    kept: list[str] = []
    fence = ""
    in_list, after_blank = False, True
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            closes = mark is not None and mark["run"].startswith(fence) and not mark["info"].strip()
            fence = "" if closes else fence
            kept.append("")
            continue
        if mark is not None and not (mark["run"][0] == "`" and "`" in mark["info"]):
            fence = mark["run"]
            kept.append("")
            continue
        if not line.strip():
            after_blank = True
            kept.append("")
            continue
        if _INDENTED.match(line) and after_blank and not in_list:
            kept.append("")  # still after a blank line, as far as the next line of the block is concerned
            continue
        if _LIST_ITEM.match(line):
            in_list = True
        elif not line[0].isspace():
            in_list = in_list and not after_blank
        after_blank = False
        kept.append(line)
    blocks = groupby(kept, key=bool)
    return "\n".join(
        _outside_spans("\n".join(lines)) if filled else "\n".join(lines) for filled, lines in blocks
    )


def _outside_spans(block: str) -> str:
    """One paragraph without its code spans: a run of backticks up to the next of the same length."""
    runs = [(found.start(), found.end()) for found in _TICKS.finditer(block)]
    if not runs:
        return block
    later: dict[int, list[int]] = {}
    for number in range(len(runs) - 1, -1, -1):
        start, end = runs[number]
        later.setdefault(end - start, []).append(number)
    kept: list[str] = []
    at = number = 0
    while number < len(runs):
        start, end = runs[number]
        same = later[end - start]
        while same and same[-1] <= number:
            same.pop()
        if not same:
            number += 1
            continue
        closing = same[-1]
        kept.append(block[at:start])
        at = runs[closing][1]
        number = closing + 1
    return "`".join([*kept, block[at:]])


def _outside_comments(text: str) -> str:
    kept: list[str] = []
    at = 0
    while (start := text.find("<!--", at)) >= 0:
        kept.append(text[at:start])
        end = text.find("-->", start + 4)
        if end < 0:
            return "".join(kept)
        at = end + 3
    return "".join([*kept, text[at:]])


# --- what a rule is about ---


def front_matter(text: str) -> tuple[Mapping[str, tuple[str, ...]], str]:
    """The values by key, and the text after it. Line by line, since rules write globs that no YAML accepts bare."""
    lines = text.split("\n", _LONGEST_FRONT_MATTER)
    if lines[0].strip() != "---":
        return {}, text
    values: dict[str, list[str]] = {}
    key = ""
    for number, line in enumerate(lines[1:], start=1):
        if line.strip() == "---":
            rest = "\n".join(lines[number + 1 :]).lstrip("\n")
            return {name: tuple(items) for name, items in values.items()}, rest
        if item := re.match(r"\s*-\s+(.*)", line):
            values.setdefault(key, []).extend(_items(item[1]))
        elif found := _KEY.match(line.strip()):
            key = found["key"]
            values[key] = _items(found["value"])
    return {}, text


def _items(value: str) -> list[str]:
    """Parts between commas that are in no braces, without quotes and brackets."""
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        value = value[1:-1]
    parts = re.findall(r"(?:\{[^{}]*\}|[^,{}])+", value)
    return [stripped for part in parts if (stripped := part.strip().strip("\"'").strip())][:50]


def scope_of(values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The globs a rule is about; () for all of the repository."""
    if values.get("alwaysApply", ("",))[0:1] == ("true",):
        return ()
    globs = [glob for key in _SCOPE_KEYS for glob in values.get(key, ())]
    return () if any(glob in _EVERYTHING for glob in globs) else tuple(globs)


def is_about(scope: Sequence[str], named: frozenset[str]) -> bool:
    """Whether one of the paths lies where one of the globs looks. `named` holds the folders above each path too."""
    patterns = [pattern for glob in scope[:_MOST_ALTERNATIVES] for pattern in _alternatives(glob)]
    return any(_is_near(pattern, named) for pattern in patterns[:_MOST_PATTERNS])


def _is_near(pattern: Sequence[str], named: frozenset[str]) -> bool:
    """A folder that is named counts, as does a glob's fixed beginning; only globs without one are tried on paths."""
    fixed: list[str] = []
    for segment in pattern:
        if any(sign in segment for sign in "*?["):
            break
        fixed.append(segment)
    if fixed:
        return "/".join(fixed) in named
    return any(_matches(pattern, path) for path in _tried(named))


@lru_cache(maxsize=4)
def _tried(named: frozenset[str]) -> tuple[str, ...]:
    """Some files of each kind among the paths, since such a glob is mostly about a kind of files."""
    by_ending: dict[str, list[str]] = {}
    for path in sorted(named):
        ending = posixpath.splitext(path)[1]
        if ending and len(same := by_ending.setdefault(ending, [])) < _MOST_OF_A_KIND:
            same.append(path)
    return tuple(path for same in by_ending.values() for path in same)[:_MOST_TRIED]


def _alternatives(glob: str) -> list[list[str]]:
    """The glob's segments, once for each alternative in braces; a bare name is meant in any folder."""
    globs = [glob.removeprefix("./").strip("/")[:500]]
    while len(globs) < _MOST_ALTERNATIVES and (braces := _BRACES.search(globs[0])):
        head, tail = globs[0][: braces.start()], globs[0][braces.end() :]
        globs = [*globs[1:], *(f"{head}{choice}{tail}" for choice in braces[1].split(",")[:8])]
    segments = [item.split("/") for item in globs]
    return [
        (["**", *item] if len(item) == 1 and "*" in item[0] else item)[:_MOST_SEGMENTS] for item in segments
    ]


def _matches(pattern: Sequence[str], path: str) -> bool:
    """Segment by segment; `**` stands for any number of them."""
    parts = path.split("/")[:_MOST_SEGMENTS]
    if pattern[-1] != "**" and not fnmatchcase(parts[-1], pattern[-1]):
        return False
    reachable = {0}
    for segment in pattern:
        if not reachable:
            return False
        if segment == "**":
            reachable = set(range(min(reachable), len(parts) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(parts) and fnmatchcase(parts[at], segment)}
    return len(parts) in reachable


def named_paths(texts: Iterable[str]) -> frozenset[str]:
    """Every word that may be a path, and the folders above it."""
    found: set[str] = set()
    for text in texts:
        for word in _PATH_LIKE.findall(text):
            path = word.removeprefix("./").strip("/").rstrip(".")
            while path and path not in found and len(found) < _MOST_NAMED:
                found.add(path)
                path = path.rpartition("/")[0]
    return frozenset(found)
