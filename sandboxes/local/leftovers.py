"""What local sandboxes leave on this host when a worker dies: processes, places to work, locks, transfers, trash.

Knows identifiers and folders, not orders; who is alive it is told (`SweepScope`).
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sandboxes.base import SweepScope
from sandboxes.files.disk import discard, remove_tree
from sandboxes.kinds import SandboxType
from sandboxes.local.workspace_lock import remove_if_free
from sandboxes.processes import guard

TRANSFER_SECONDS = 3600.0
OWN_GIT_FOLDER = "repository.git"
"""Beside the workspace, in each `git_worktree` place since release 0.2."""
_WORKTREE_PLACE = f"{SandboxType.GIT_WORKTREE.replace('_', '-')}-"


def tag_prefix(data_dir: Path, sandbox_identifier: str = "") -> str:
    """What the tags of all processes of one sandbox start with; without an identifier, of all of this data folder."""
    server = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    return f"{server}.{sandbox_identifier}." if sandbox_identifier else f"{server}."


def workspace_lock_path(data_dir: Path, sandbox_identifier: str) -> Path:
    return data_dir / "locks" / "workspaces" / f"{sandbox_identifier}.lock"


def kept_places(data_dir: Path) -> Path:
    """Where places are that hold work which could not be brought into git, `<identifier>.<suffix>` each."""
    return data_dir / "kept"


def shared_clone(data_dir: Path, repository_key: str) -> Path:
    """The git folder that the `git_worktree` orders of a repository shared in release 0.1."""
    return data_dir / "clones" / f"{repository_key}.git"


def is_of_shared_clone(place: Path) -> bool:
    """Whether a place, at work or set aside, is one of release 0.1 that has no git folder of its own."""
    is_worktree = place.name.startswith(_WORKTREE_PLACE) and place.is_dir()
    return is_worktree and not os.path.lexists(place / OWN_GIT_FOLDER)


def sweep_orphans(scope: SweepScope) -> tuple[str, ...]:
    """What dead attempts left (processes, places, locks, transfers), old shared clones, and trash; HOMEs stay."""
    return (
        *_end_processes(scope),
        *_remove_workspaces(scope),
        *_remove_shared_clones(scope),
        *_remove_locks(scope),
        *_remove_transfers(scope),
    )


def _end_processes(scope: SweepScope) -> list[str]:
    prefix = tag_prefix(scope.data_dir)
    found = guard.tags_of_processes(prefix)
    if not found:
        return []
    at_work = scope.identifiers_at_work_here()
    ended = []
    for pid, tag in sorted(found.items()):
        identifier = tag.removeprefix(prefix).rpartition(".")[0]
        if identifier not in at_work:
            ended.append(f"process {pid} of {identifier}")
            if not scope.dry_run:
                guard.end_tagged(tag)
    return ended


def _remove_shared_clones(scope: SweepScope) -> list[str]:
    """Those of release 0.1 that no place of that time needs any more. A place no clone knows may need any of them."""
    root = scope.data_dir / "clones"
    clones = list(_clones_below(root))
    if not clones:
        return []
    places = (*_children(scope.data_dir / "sandboxes"), *_children(kept_places(scope.data_dir)))
    old = {place.name.partition(".")[0] for place in places if is_of_shared_clone(place)}
    known = {clone: _worktrees_of(clone) for clone in clones}
    lost = old.difference(*known.values())
    unused = [clone for clone in clones if not lost and not old & known[clone]]
    if not scope.dry_run:
        for gone in [root] if unused == clones else unused:
            discard(gone, scope.data_dir / "trash")
    return [f"shared clone {clone.relative_to(root)}" for clone in unused]


def _clones_below(folder: Path) -> Iterator[Path]:
    """In folders of their hosts and owners, where no agent could write."""
    for path in _children(folder):
        if path.name.endswith(".git"):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _clones_below(path)


def _worktrees_of(clone: Path) -> frozenset[str]:
    """Only names are read here, for agents could write in it."""
    folder = clone / "worktrees"
    return frozenset() if folder.is_symlink() else frozenset(path.name for path in _children(folder))


def _remove_locks(scope: SweepScope) -> list[str]:
    """Of workspaces that are gone, and of clusters that have ended. Their holders would keep the lock."""
    found = _children(scope.data_dir / "locks" / "workspaces")
    active = scope.active_identifiers() if found else frozenset()
    orphans = [path for path in found if path.stem not in active]
    slots = (scope.data_dir / "run").glob("supervisor-*.lock")
    orphans += [path for path in slots if not Path("/proc", path.stem.split("-")[1]).exists()]
    return [f"lock {path.stem}" for path in orphans if scope.dry_run or remove_if_free(path)]


def _remove_workspaces(scope: SweepScope) -> list[str]:
    found = _children(scope.data_dir / "sandboxes")
    active = scope.active_identifiers()
    orphans = [folder for folder in found if folder.name not in active]
    if scope.dry_run:
        return [f"workspace {folder.name}" for folder in orphans]
    removed = []
    for folder in orphans:
        # asked again: looking into it may have taken long, and somebody may have wanted the order retried meanwhile
        if scope.may_remove(folder.name) and folder.name not in scope.active_identifiers():
            discard(folder, scope.data_dir / "trash")
            removed.append(f"workspace {folder.name}")
    for folder in _children(scope.data_dir / "trash"):
        remove_tree(folder)
    return removed


def _remove_transfers(scope: SweepScope) -> list[str]:
    """Bundles and quarantines on their way when their worker died: of nobody at work here, or too old."""
    removed = []
    found = (*_children(scope.data_dir / "outbox"), *_children(scope.data_dir / "quarantine"))
    at_work = {identifier[-11:] for identifier in scope.identifiers_at_work_here()} if found else set()
    for path in found:
        with suppress(FileNotFoundError):
            old = time.time() - path.stat().st_mtime > TRANSFER_SECONDS
            if old or (path.name.startswith("wo-") and path.name[:11] not in at_work):
                removed.append(f"transfer {path.name}")
                if not scope.dry_run:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    return removed


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
