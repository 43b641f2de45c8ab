"""The repository's own pull request template, wherever and however GitHub lets a repository name it.

Read from git objects of the base commit, never from a working tree.
"""

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

from sandboxes.trusted_git.git import TrustedGit

MOST_BYTES = 30_000
_NAME = re.compile(r"pull[_-]request[_-]template(?:\.(?:md|markdown|txt))?", re.IGNORECASE)
_FOLDER = re.compile(r"pull[_-]request[_-]template", re.IGNORECASE)
_IN_FOLDER = re.compile(r".+\.(?:md|markdown|txt)", re.IGNORECASE)
_DEFAULT = re.compile(r"(?:default|pull[_-]request[_-]template)\.(?:md|markdown|txt)", re.IGNORECASE)
_PLACES = (".github", "", "docs")  # GitHub's own order
_MOST_LINKS = 5
_LINK = "120000"


@dataclass(frozen=True)
class _Entry:
    """One line of a tree: `path` from the tree's root."""

    path: str
    mode: str
    blob: str

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def is_folder(self) -> bool:
        return self.mode == "040000"


def find_template(git: TrustedGit, git_dir: Path, sha: str) -> str:
    """Its text, cut at `MOST_BYTES`, or "" where there is none. A symbolic link is followed inside the tree."""
    root = _listed(git, git_dir, sha)
    folders = [entry.path for entry in root if entry.is_folder and entry.path.lower() in _PLACES]
    below = _listed(git, git_dir, sha, *folders) if folders else ()
    by_place = {
        place: [entry for entry in (*root, *below) if posixpath.dirname(entry.path).lower() == place]
        for place in _PLACES
    }
    for place in _PLACES:
        for entry in sorted(by_place[place], key=_preference):
            is_one = not entry.is_folder and _NAME.fullmatch(entry.name)
            if is_one and (text := _text(git, git_dir, sha, entry)):
                return text
    chosen = [entry.path for place in _PLACES for entry in by_place[place] if _is_choice(entry)]
    for folder in chosen:
        if (only := _only_one(_listed(git, git_dir, sha, folder))) and (
            text := _text(git, git_dir, sha, only)
        ):
            return text
    return ""


def _preference(entry: _Entry) -> tuple[bool, str]:
    return not entry.name.lower().endswith(".md"), entry.path


def _is_choice(entry: _Entry) -> bool:
    return entry.is_folder and _FOLDER.fullmatch(entry.name) is not None


def _only_one(entries: tuple[_Entry, ...]) -> _Entry | None:
    """A folder offers a choice; nobody is asked here, so that it counts where there is none, or a default."""
    files = [entry for entry in entries if not entry.is_folder and _IN_FOLDER.fullmatch(entry.name)]
    if len(files) == 1:
        return files[0]
    return next((entry for entry in files if _DEFAULT.fullmatch(entry.name)), None)


def _listed(git: TrustedGit, git_dir: Path, sha: str, *folders: str) -> tuple[_Entry, ...]:
    """What is right in the tree, or right in these folders of it."""
    paths = ["--", *(f"{folder}/" for folder in folders)] if folders else []
    output = git.run("ls-tree", "-z", sha, *paths, git_dir=git_dir).stdout.decode("utf-8", "replace")
    entries = []
    for line in filter(None, output.split("\0")):
        head, _, path = line.partition("\t")
        mode, _kind, blob = head.split(" ", 2)
        entries.append(_Entry(path, mode, blob))
    return tuple(entries)


def _text(git: TrustedGit, git_dir: Path, sha: str, entry: _Entry) -> str:
    for _ in range(_MOST_LINKS):
        if entry.mode != _LINK:
            content = git.read_file(git_dir, sha, entry.path, limit_bytes=MOST_BYTES)
            return (content or b"").decode("utf-8-sig", "replace").strip()
        target = git.read_blob(git_dir, entry.blob, limit_bytes=1000).decode("utf-8", "replace")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), target))
        folder = posixpath.dirname(path)
        if target.startswith("/") or path.startswith(".."):
            return ""
        beside = _listed(git, git_dir, sha, *([folder] if folder else []))
        found = next((item for item in beside if item.path == path), None)
        if found is None:
            return ""
        entry = found
    return ""
