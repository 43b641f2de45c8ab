"""Judges on the trusted side what a sandbox committed unasked, by the sweep's rules, from the mirror's objects.

What breaks them is taken out again: a sweep is made anew without it, or dropped where nothing is left; links to
repositories that nobody else can reach are taken out by a commit of the server's own, whoever committed them.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandboxes.sweep.caches import cache_of, names_beside, neighbours
from sandboxes.sweep.conflict_markers import conflict_markers
from sandboxes.sweep.private_files import below, git_folders, is_secret_file
from sandboxes.sweep.rules import (
    GITLINKS_SUBJECT,
    LEFTOVERS,
    SWEEP_TRAILER,
    LeftOut,
    SweepLimits,
    merged,
    shown,
    too_large,
)
from sandboxes.trusted_git.git import TrustedGit
from sandboxes.trusted_git.outgoing import read_objects
from sandboxes.trusted_git.rewriting import (
    GITLINK,
    RawChange,
    Signature,
    blob_sizes,
    on_top,
    raw_changes,
    without,
)
from workorders.text.redaction import Redactor, shapes_in

_GITMODULES_BYTES = 1024 * 1024
_POINTER = b"gitdir: "  # how git begins a file that stands for a folder of its own
_LONGEST_POINTER = 4200


@dataclass(frozen=True)
class Judged:
    """`head` after what broke the rules was taken out of it; that is `left_out`."""

    head: str
    left_out: tuple[LeftOut, ...] = ()


class SweepGate:
    """Judges commits of one mirror. Every method may raise `GitError`."""

    def __init__(self, git: TrustedGit, git_dir: Path, *, redactor: Redactor, limits: SweepLimits) -> None:
        self._git = git
        self._git_dir = git_dir
        self._redactor = redactor
        self._limits = limits

    def judge(self, head: str, *, start: str) -> Judged:
        """The head, where it is a sweep of commits after `start`; any other is as its author made it."""
        [commit] = self._git.commits(self._git_dir, head=head, base=start, limit=1) or (None,)
        if commit is None or len(commit.parents) != 1 or commit.trailer(SWEEP_TRAILER) != LEFTOVERS:
            return Judged(head)
        [parent] = commit.parents
        changes = raw_changes(self._git, self._git_dir, parent, head)
        broken: dict[RawChange, LeftOut] = {}
        for rule in (self._gitlinks, self._names, self._caches, self._large, self._conflicts, self._contents):
            left = [change for change in changes if change not in broken]
            broken.update(rule(left, parent, head))
        left_out = [*broken.values()]
        new = [change for change in changes if change.is_new and change not in broken]
        if len(new) > self._limits.new_files:
            broken.update(dict.fromkeys(new, LeftOut("too_many_files", "", f"{len(new)} new files")))
            left_out.insert(0, broken[new[0]])
        if not broken:
            return Judged(head)
        undo = list(broken)
        made = without(self._git, self._git_dir, head=head, parent=parent, undo=undo)
        return Judged(made, merged(left_out))

    def without_gitlinks(self, head: str, *, base: str, by: Signature) -> Judged:
        """The head without new links that `.gitmodules` does not know, compared with `base`."""
        changes = raw_changes(self._git, self._git_dir, base, head)
        broken = dict(self._gitlinks(changes, base, head, rule="new_gitlink"))
        if not broken:
            return Judged(head)
        made = on_top(self._git, self._git_dir, head=head, undo=list(broken), subject=GITLINKS_SUBJECT, by=by)
        return Judged(made, merged(broken.values()))

    # --- one rule each ---

    def _gitlinks(
        self, changes: Sequence[RawChange], _parent: str, head: str, *, rule: str = "nested_repository"
    ) -> Iterable[tuple[RawChange, LeftOut]]:
        links = [change for change in changes if change.is_new_gitlink]
        known = self._submodules(head) if links else frozenset()
        for change in links:
            if change.path not in known:
                yield change, LeftOut(rule, shown(change.path), "a repository of its own")

    def _submodules(self, head: str) -> frozenset[str]:
        """Paths that `.gitmodules` names; read by git itself, as a file of the tree."""
        found = self._git.run(
            *("config", "-z", f"--blob={head}:.gitmodules", "--get-regexp", r"^submodule\..*\.path$"),
            git_dir=self._git_dir,
            check=False,
            output_bytes=_GITMODULES_BYTES,
        )
        text = found.stdout.decode("utf-8", "surrogateescape")
        return frozenset(record.partition("\n")[2].rstrip("/") for record in text.split("\0") if record)

    def _names(
        self, changes: Sequence[RawChange], _parent: str, _head: str
    ) -> Iterable[tuple[RawChange, LeftOut]]:
        new = [change for change in changes if change.is_new]
        gits = git_folders(change.path for change in new)
        for change in new:
            if folder := below(change.path, gits):
                yield change, LeftOut("nested_repository", shown(folder), "a repository of its own")
            elif is_secret_file(change.path):
                yield change, LeftOut("secret_file", shown(change.path))

    def _caches(
        self, changes: Sequence[RawChange], _parent: str, head: str
    ) -> Iterable[tuple[RawChange, LeftOut]]:
        new = [change for change in changes if change.is_new]
        present = {change.path for change in new}
        if any(names_beside().intersection(change.path.split("/")[:-1]) for change in new):
            listed = self._git.run("ls-tree", "-r", "-z", "--name-only", head, git_dir=self._git_dir).stdout
            names = listed.decode("utf-8", "surrogateescape").split("\0")
            present |= {name for name in names if name.rpartition("/")[2] in neighbours()}
        for change in new:
            if cache := cache_of(change.path, present):
                yield change, LeftOut("cache", shown(cache))

    def _large(
        self, changes: Sequence[RawChange], _parent: str, _head: str
    ) -> Iterable[tuple[RawChange, LeftOut]]:
        there = [change for change in changes if change.is_there and change.mode != GITLINK]
        sizes = blob_sizes(self._git, self._git_dir, [change.blob for change in there])
        for change in there:
            if (size := sizes.get(change.blob, 0)) > self._limits.file_bytes:
                yield change, too_large(change.path, size, self._limits)

    def _conflicts(
        self, changes: Sequence[RawChange], parent: str, head: str
    ) -> Iterable[tuple[RawChange, LeftOut]]:
        listed, patches = self._git.difference(self._git_dir, base=parent, head=head)
        found = {item.path: item for item in conflict_markers(listed, patches)}
        for change in changes:
            if item := found.get(shown(change.path)):
                yield change, item

    def _contents(
        self, changes: Sequence[RawChange], parent: str, _head: str
    ) -> Iterable[tuple[RawChange, LeftOut]]:
        places: defaultdict[str, list[RawChange]] = defaultdict(list)
        for change in changes:
            if change.is_there and change.mode != GITLINK:
                places[change.blob].append(change)
        for change in changes:
            for name in self._redactor.find(change.path.encode("utf-8", "surrogateescape")):
                yield change, LeftOut("secret", "a file's name", name)
        names: dict[str, str] = {}
        tokens: dict[tuple[str, bytes], str] = {}
        pointers: set[str] = set()

        def look(sha: str, data: bytes) -> None:
            if data.startswith(_POINTER) and len(data) < _LONGEST_POINTER:
                pointers.add(sha)
            for name in self._redactor.find(data):
                names.setdefault(sha, name)
            for name, token in shapes_in(data):
                tokens.setdefault((sha, token), name)

        read_objects(self._git, self._git_dir, list(places), look)
        for (sha, token), name in list(tokens.items())[:100]:
            if sha not in names and not self._is_old(token, parent):
                names[sha] = f"what looks like a secret: {name}"
        for change in (change for sha in pointers for change in places[sha] if change.is_new):
            yield (
                change,
                LeftOut("nested_repository", shown(change.path), "a file that leads to a git folder"),
            )
        for sha, name in names.items():
            for change in places[sha]:
                yield change, LeftOut("secret", shown(change.path), name)

    def _is_old(self, token: bytes, parent: str) -> bool:
        line = max(token.splitlines(), key=len)
        pattern = ("--quiet", "--text", "--fixed-strings", "-f", "/dev/stdin")
        found = self._git.run(
            "grep", *pattern, parent, "--", git_dir=self._git_dir, stdin=line + b"\n", check=False
        )
        return found.exit_code == 0
