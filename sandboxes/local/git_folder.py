"""The git folder of a place on this host: what the server writes in it, when it is made and after an agent had it.

Each order has a folder of its own, so that nothing in it is another's. Objects are borrowed from the mirror, read-only
where there is isolation; configuration, hooks and what else rules git are the server's texts, put back whenever an
agent has ended; commits, refs, stash, logs and the index are the order's. git is never started here.
"""

import hashlib
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandboxes.git_texts import HOOK, HOOK_NAME, git_config
from sandboxes.local.wary_folder import WaryFolder, wary_folder

_REFS_BYTES = 16 * 1024 * 1024
_INDEX_BYTES = 64 * 1024 * 1024  # a larger one is taken as it is
_DEEPEST_REF = 20
_MOST_REFS = 10_000
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HEAD = re.compile(rf"ref: refs/heads/([^\x00-\x20\x7f]+)\n?|({_SHA.pattern})\n?")
_PACKED_LINE = re.compile(rf"#.*|\^{_SHA.pattern}|{_SHA.pattern} refs/[^\x00-\x20\x7f]+")


@dataclass(frozen=True)
class Worktree:
    """A workspace whose git folder lies elsewhere: `name` below its `worktrees/`; `pointer` leads there from it."""

    workspace: Path
    name: str
    pointer: str


@dataclass(frozen=True)
class GitFolder:
    """One place's git folder at `path`; `objects` are the mirror's.

    `is_shared`: of release 0.1, where other orders have places too. What is in the way goes to `trash`; folders that an
    agent put in the place of the workspace's `.git` file are moved to `replaced`.
    """

    path: Path
    objects: Path
    branch: str
    start_sha: str
    base_branch: str
    base_sha: str
    trash: Path
    replaced: Path
    worktree: Worktree | None = None
    is_shared: bool = False

    @property
    def own_path(self) -> Path:
        """Where HEAD and the index are."""
        return self.path if self.worktree is None else self.path / "worktrees" / self.worktree.name

    @property
    def outside_workspace(self) -> tuple[Path, ...]:
        """What git must be able to write beside the workspace."""
        return () if self.worktree is None else (self.path,)

    def make(self) -> None:
        """What `git init` (and `git worktree add`) would write. Raises `OSError`."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.put_back()

    def put_back(self) -> None:
        """Give git what it needs to take the folder for a repository, and the server's texts; nobody is at work there.

        The branch and HEAD stay as they are while git could read them. Raises `OSError` where there is no such folder,
        or a link in its place.
        """
        with wary_folder(self.path, self.trash) as folder:
            for name in folder.names():
                folder.open_up(name)
            if not self.is_shared:
                _remove_locks(folder)
            self._put_settings(folder)
            self._put_objects(folder)
            self._put_refs(folder)
            if self.worktree is None:
                self._put_head(folder)
                _remove_damaged_index(folder)
            else:
                folder.put("HEAD", b"ref: refs/heads/main\n")
                self._link(folder, self.worktree)

    def make_anew(self) -> None:
        """Where an agent removed it, or put something else in its place: the one it moved aside, or an empty one.

        An empty one has the order's branch at `start_sha`, and no index. Raises `OSError`.
        """
        if self.worktree is None:
            with wary_folder(self.path.parent, self.trash) as workspace:
                if workspace.kind(self.path.name) != stat.S_IFDIR:
                    workspace.remove(self.path.name)
                    if moved := self._moved_in(workspace):
                        workspace.rename(moved, self.path.name)
        self.make()

    def _moved_in(self, workspace: WaryFolder) -> str:
        """The folder right in the workspace that borrows the mirror's objects, as no other does; '' for none."""
        for name in workspace.names():
            if workspace.kind(name) == stat.S_IFDIR and self._is_ours(workspace, name):
                return name
        return ""

    def _is_ours(self, workspace: WaryFolder, name: str) -> bool:
        try:
            with (
                workspace.folder(name, make=False) as folder,
                folder.folder("objects", make=False) as objects,
                objects.folder("info", make=False) as info,
            ):
                return info.read("alternates", 4096) == self._alternates
        except OSError:
            return False

    @property
    def _alternates(self) -> bytes:
        return f"{self.objects}\n".encode()

    def head_sha(self) -> str:
        """The commit HEAD is at, read without git; '' where that cannot be told."""
        with suppress(OSError), self._opened() as (folder, own):
            name = _head_of(own.read("HEAD", 4096) or b"")
            return _ref(folder, name) if name.startswith("refs/") else name
        return ""

    def stand_on_branch(self) -> None:
        """HEAD, which is at `start_sha` now, is on the order's branch, and that is there too. Raises `OSError`."""
        with self._opened() as (folder, own):
            if _ref(folder, f"refs/heads/{self.branch}") != self.start_sha:
                _put_ref(folder, self.branch, self.start_sha)
            self._put_head(own, always=True)

    @contextmanager
    def _opened(self) -> Iterator[tuple[WaryFolder, WaryFolder]]:
        """The folder, and the one in it that is the workspace's own."""
        with wary_folder(self.path, self.trash) as folder:
            if self.worktree is None:
                yield folder, folder
                return
            with (
                folder.folder("worktrees", make=False) as entries,
                entries.folder(self.worktree.name, make=False) as entry,
            ):
                yield folder, entry

    def has_index(self) -> bool:
        with suppress(OSError), self._opened() as (_folder, own):
            return own.kind("index") != 0
        return True

    def _put_settings(self, folder: WaryFolder) -> None:
        folder.put("config", git_config(bare=self.worktree is not None).encode())
        for name in ("config.worktree", "commondir", "info"):
            folder.remove(name)
        with folder.folder("hooks") as hooks:
            hooks.keep_only(HOOK_NAME)
            hooks.put(HOOK_NAME, HOOK.encode(), 0o755)

    def _put_objects(self, folder: WaryFolder) -> None:
        with folder.folder("objects") as objects:
            for name in objects.names():
                objects.open_up(name)
            with objects.folder("info") as info:  # beside the alternates there are only caches
                info.keep_only("alternates")
                info.put("alternates", self._alternates)
            if objects.kind("pack"):
                with objects.folder("pack") as pack:
                    pack.remove("multi-pack-index")

    def _put_refs(self, folder: WaryFolder) -> None:
        """Also written as packed refs, so that a base branch's name is never a path."""
        with folder.folder("refs") as refs:
            _tidy_refs(refs, self.branch if self.is_shared else "")
        ours = f"refs/heads/{self.branch}"
        packed = folder.read("packed-refs", _REFS_BYTES)
        kind = folder.kind("packed-refs")
        if kind != stat.S_IFREG or (packed is not None and not _is_packed(packed)):
            text = f"{self.start_sha} {ours}\n{self.base_sha} refs/remotes/origin/{self.base_branch}\n"
            folder.put("packed-refs", text.encode())
        if not _ref(folder, ours):
            _put_ref(folder, self.branch, self.start_sha)

    def _put_head(self, folder: WaryFolder, *, always: bool = False) -> None:
        found = folder.read("HEAD", 4096)
        if always or found is None or not _head_of(found):
            folder.put("HEAD", f"ref: refs/heads/{self.branch}\n".encode())

    def _link(self, folder: WaryFolder, worktree: Worktree) -> None:
        """Locked in git's sense: where a place is set aside, the path in `gitdir` is no more."""
        with folder.folder("worktrees") as entries, entries.folder(worktree.name) as entry:
            for name in entry.names():
                entry.open_up(name)
            _remove_locks(entry)
            for name in ("config.worktree", "info"):
                entry.remove(name)
            entry.put("commondir", b"../..\n")
            entry.put("gitdir", f"{worktree.workspace}/.git\n".encode())
            entry.put("locked", b"a work order's place\n")
            self._put_head(entry)
            _remove_damaged_index(entry)
        with wary_folder(worktree.workspace, self.trash) as workspace:
            pointer = f"gitdir: {worktree.pointer}\n".encode()
            if workspace.kind(".git") == stat.S_IFDIR:
                workspace.move_away(".git", self.replaced)
            elif workspace.kind(".git") != stat.S_IFREG:
                _remove_moved(workspace, pointer)
            workspace.put(".git", pointer, 0o644)


def _remove_moved(workspace: WaryFolder, pointer: bytes) -> None:
    """The server's own `.git` file under another name: it is nobody's work."""
    with suppress(OSError):
        for name in workspace.names():
            if workspace.kind(name) == stat.S_IFREG and workspace.read(name, len(pointer)) == pointer:
                workspace.remove(name)


def _remove_locks(folder: WaryFolder) -> None:
    for name in folder.names():
        if name.endswith(".lock"):
            folder.remove(name)


def _tidy_refs(refs: WaryFolder, only: str) -> None:
    """Open what was closed, and remove lock files: all, or where others are at work too those of one branch only."""
    seen = 0

    def tidy(folder: WaryFolder, path: str, depth: int) -> None:
        nonlocal seen
        for name in folder.names():
            seen += 1
            if seen > _MOST_REFS or depth > _DEEPEST_REF:
                return
            if name.endswith(".lock") and (not only or f"{path}{name}" == f"heads/{only}.lock"):
                folder.remove(name)
                continue
            folder.open_up(name)
            if folder.kind(name) == stat.S_IFDIR:
                with folder.folder(name, make=False) as below:
                    tidy(below, f"{path}{name}/", depth + 1)

    tidy(refs, "", 0)


def _remove_damaged_index(folder: WaryFolder) -> None:
    """One that git cannot read would end every command of the steps to come; without one it is made anew."""
    kind = folder.kind("index")
    if kind == stat.S_IFREG:
        content = folder.read("index", _INDEX_BYTES)
        if content is None or _is_index(content):
            return
    if kind:
        folder.remove("index")


def _is_index(content: bytes) -> bool:
    """By its head, and by the hash at its end, which git can be told to leave zero."""
    if content[:4] != b"DIRC" or not 2 <= int.from_bytes(content[4:8]) <= 4:
        return False
    for make in (hashlib.sha1, hashlib.sha256):
        size = make().digest_size
        if content[-size:] in {bytes(size), make(content[:-size]).digest()}:
            return True
    return False


def _is_packed(content: bytes) -> bool:
    text = content.decode("utf-8", "surrogateescape")
    return all(_PACKED_LINE.fullmatch(line) for line in text.split("\n") if line)


def _head_of(content: bytes) -> str:
    """What HEAD says: a branch's full name, or a commit; '' where git could make nothing of it."""
    found = _HEAD.fullmatch(content.decode("utf-8", "surrogateescape"))
    if found is None:
        return ""
    name = found[1]
    return found[2] or (f"refs/heads/{name}" if _is_path(name) else "")


def _is_path(name: str) -> bool:
    """Whether each part of a ref's name is a plain file name that git takes, too."""
    return all(part and part[0] != "." and not part.endswith(".lock") for part in name.split("/"))


def _ref(folder: WaryFolder, name: str) -> str:
    """The commit a branch is at; '' where it is not there, or not to be read."""
    loose = _loose(folder, name.split("/"))
    if loose is not None:
        text = loose.decode("ascii", "replace").rstrip("\n")
        return text if _SHA.fullmatch(text) else ""
    packed = folder.read("packed-refs", _REFS_BYTES) or b""
    found = re.search(rf"^({_SHA.pattern}) {re.escape(name)}$".encode(), packed, re.MULTILINE)
    return found[1].decode() if found else ""


def _loose(folder: WaryFolder, parts: list[str]) -> bytes | None:
    """The file of a ref; None where there is none, b'' where it is something else."""
    name, *rest = parts
    if rest:
        if folder.kind(name) != stat.S_IFDIR:
            return None
        with folder.folder(name, make=False) as below:
            return _loose(below, rest)
    kind = folder.kind(name)
    if kind in {0, stat.S_IFDIR}:
        return None
    return folder.read(name, 4096) or b""


def _put_ref(folder: WaryFolder, branch: str, sha: str) -> None:
    """A branch as a file, unless other branches' names are in its way."""
    if not _is_path(branch):
        return

    def put(below: WaryFolder, parts: list[str]) -> None:
        name, *rest = parts
        if not rest:
            if below.kind(name) != stat.S_IFDIR:
                below.put(name, f"{sha}\n".encode(), 0o644)
        elif below.kind(name) != stat.S_IFREG:
            with below.folder(name) as deeper:
                put(deeper, rest)

    put(folder, ["refs", "heads", *branch.split("/")])
