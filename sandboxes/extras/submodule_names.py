"""What a `.gitmodules` names: a stranger's text becomes typed values, or is refused with a reason. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MOST_SUBMODULES = 50
_LONGEST = 200
_NO_PART = frozenset({"", ".", ".."})


@dataclass(frozen=True)
class NamedSubmodule:
    """One section of a `.gitmodules` with all it needs; `name` and `path` are plain relative paths."""

    name: str
    path: str
    address: str


@dataclass(frozen=True)
class RefusedSubmodule:
    """`path` is text for people: where a submodule would have been; `reason` goes on after "submodule … (" ."""

    path: str
    reason: str


@dataclass(frozen=True)
class Named:
    submodules: tuple[NamedSubmodule, ...]
    refused: tuple[RefusedSubmodule, ...]


def parse_listed_config(output: bytes) -> dict[str, dict[str, str]]:
    """What `git config --list -z` says of a `.gitmodules`: settings of each submodule by its name, the last counts."""
    found: dict[str, dict[str, str]] = {}
    for entry in output.decode("utf-8", "replace").split("\0"):
        key, _, value = entry.partition("\n")
        section, _, rest = key.partition(".")
        name, dot, setting = rest.rpartition(".")
        if section == "submodule" and dot:
            found.setdefault(name, {})[setting] = value
    return found


def named_submodules(sections: Mapping[str, Mapping[str, str]], gitlinks: Iterable[str]) -> Named:
    """The submodules that can be taken, of the gitlinks (paths) in a commit's tree; the other gitlinks are refused.

    What is named without a gitlink is not there, and nothing is said of it.
    """
    links = list(gitlinks)
    there, paths = set(links), Counter(settings.get("path", "") for settings in sections.values())
    taken: dict[str, NamedSubmodule] = {}
    refused: dict[str, str] = {}
    names: list[str] = []
    for name, settings in sections.items():
        path = settings.get("path", "")
        if path not in there:
            continue
        if reason := _refusal(name, path, settings, paths, names):
            refused[path] = reason
            taken.pop(path, None)
        elif len(taken) >= MOST_SUBMODULES:
            refused[path] = f"there are more than {MOST_SUBMODULES}"
        else:
            names.append(name)
            taken[path] = NamedSubmodule(name, path, settings["url"].strip())
    for path in links:
        if path not in taken:
            refused.setdefault(path, "the base commit's .gitmodules does not name it")
    return Named(tuple(taken.values()), tuple(RefusedSubmodule(path, why) for path, why in refused.items()))


def _refusal(name: str, path: str, settings: Mapping[str, str], paths: Counter[str], names: list[str]) -> str:
    if not is_plain_path(path):
        return "its path is not a plain one"
    if not is_plain_path(name):
        return "its name is not a plain one"
    if paths[path] > 1:
        return "two sections of .gitmodules have its path"
    if any(one.startswith(f"{name}/") or name.startswith(f"{one}/") for one in names):
        return "its name is part of another's"  # their git folders would lie in each other
    if not settings.get("url", "").strip():
        return "it has no address"
    return ""


def is_plain_path(text: str) -> bool:
    """A relative path that no program takes for an option, another folder, a git folder, or two lines."""
    parts = text.split("/")
    return (
        len(text) <= _LONGEST
        and text.isprintable()
        and "\\" not in text
        and not _NO_PART & set(parts)
        and not any(part.startswith("-") or part.lower() == ".git" for part in parts)
    )
