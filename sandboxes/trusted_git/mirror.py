"""The per-repository bare mirror: the only repository the server trusts, and its lock.

Agents never reach it for writing. Order commits enter as bundles through `accept_bundle` and leave by
`push`; both name full shas. Objects are never pruned while the mirror exists.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote
from uuid import uuid4

from sandboxes.errors import (
    BaseBranchMissing,
    BranchMoved,
    BundleRejected,
    GitError,
    LockTimeout,
    PushTooLarge,
)
from sandboxes.processes.host_lock import exclusive_lock
from sandboxes.trusted_git.bundle_inspection import NOT_TAKEN, Inspector
from sandboxes.trusted_git.git import RemoteRefs, RemoteRepository, TrustedGit, is_sha
from sandboxes.trusted_git.mirror_repair import TRACKING, Repair, has_frame, is_sound, make_frame, repair

STALE_LOCK_SECONDS = 120.0
MOST_PACKS = 20
BUNDLE_LIMIT_BYTES = 512 * 1024 * 1024
SERVER_IDENTITY = "Work Orders agent <agent@work-orders.invalid>"  # as of all commits of an order


@dataclass(frozen=True)
class StartingPoint:
    """Where a step starts: the base branch's commit, and the order's branch on the remote if it is there."""

    default_branch: str
    base_branch: str
    base_sha: str
    branch_sha: str | None


def read_bundle_head(file: BinaryIO, expected_ref: str) -> str:
    """Read a version 2 bundle's header up to its pack and return the sha of its one, expected ref."""
    if file.readline(64) != b"# v2 git bundle\n":
        raise BundleRejected(f"{NOT_TAKEN}: what came from its place is no git bundle (version 2).")
    heads: list[tuple[str, str]] = []
    for _ in range(1000):
        line = file.readline(1000)
        if line == b"\n":
            break
        if not line.startswith(b"-"):
            sha, _, name = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
            heads.append((sha, name))
    else:
        raise BundleRejected(f"{NOT_TAKEN}: the bundle they come in has more than 1000 lines before them.")
    if len(heads) != 1:
        raise BundleRejected(f"{NOT_TAKEN}: they must be of one branch, and come with {len(heads)}.")
    sha, name = heads[0]
    if name != expected_ref or not is_sha(sha):
        raise BundleRejected(f"{NOT_TAKEN}: they are of {name[:200]!r} instead of {expected_ref}.")
    return sha


class RepositoryMirror:
    """One repository's mirror at `<data dir>/mirrors/<repository key>.git`."""

    def __init__(self, data_dir: Path, repository_key: str, git: TrustedGit) -> None:
        self.path = data_dir / "mirrors" / f"{repository_key}.git"
        self._lock_path = data_dir / "locks" / f"{repository_key}.lock"
        self._quarantine_root = data_dir / "quarantine"
        self._git = git

    def refresh(
        self,
        remote: RemoteRepository,
        *,
        base_branch: str | None,
        git_branch_name: str,
        kept_as: str = "",
        seen: RemoteRefs | None = None,
    ) -> StartingPoint:
        """Ask the remote where the branches are and fetch what is missing. Raises typed `GitError`s.

        `kept_as`: the ref under which this host keeps the order's commits. `seen`: what the remote said of both
        branches a moment ago, where somebody asked.
        """
        wanted = [git_branch_name, *([base_branch] if base_branch else [])]
        default, refs = self._git.default_branch_refs(remote, wanted, seen=seen)
        base = base_branch or default
        if not base or base not in refs.branches:
            raise BaseBranchMissing(
                f"The base branch {base or '(none)'} does not exist on the remote.", default_branch=default
            )
        point = StartingPoint(default, base, refs.branches[base], refs.branches.get(git_branch_name))
        wanted_here = {base: point.base_sha, git_branch_name: point.branch_sha or ""}
        named = {base: _tracking_ref(base), git_branch_name: kept_as}
        framed = has_frame(self.path)
        unsure = {
            name: sha
            for name, sha in wanted_here.items()
            if sha and not (framed and self._names(named[name], sha))
        }
        if unsure:
            self._ensure(remote, unsure)
        return point

    def _names(self, ref: str, sha: str) -> bool:
        """Whether a ref of the mirror is at that commit, which then is here. No git is asked."""
        with suppress(OSError):
            return (self.path / ref).read_bytes().strip() == sha.encode()
        with suppress(OSError):
            return f"\n{sha} {ref}\n".encode() in (self.path / "packed-refs").read_bytes()
        return False

    def _ensure(self, remote: RemoteRepository, branches: dict[str, str]) -> None:
        if has_frame(self.path) and not self._missing(branches):
            return
        with exclusive_lock(self._lock_path):
            self._create()
            if missing := self._missing(branches):
                self._clear_stale_locks()
                refspecs = [f"+refs/heads/{name}:{_tracking_ref(name)}" for name in missing]
                self._git.fetch(self.path, remote, refspecs)
                for name in self._missing(missing):  # it moved between asking and fetching
                    raise GitError(f"The branch {name} moved while it was fetched.", retryable=True)

    def _missing(self, branches: dict[str, str]) -> dict[str, str]:
        known = self._git.known_commits(self.path, list(branches.values()))
        return {name: sha for name, sha in branches.items() if sha not in known}

    def _create(self) -> None:
        if self.path.is_dir():
            make_frame(self.path, self._git)
            return
        fresh = self.path.with_name(f"{self.path.name}.{uuid4().hex}")
        fresh.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._git.run("init", "--quiet", "--bare", "--template=", str(fresh))
        fresh.rename(self.path)

    def fetch_commit(self, remote: RemoteRepository, sha: str, *, limit_bytes: int, seconds: float) -> None:
        """One commit and its files, without history: for mirrors of submodules only. Raises typed `GitError`s.

        Asks nobody where it is here; the folder's time says when it was last of use.
        """
        ref = f"refs/commits/{sha}"
        if not (has_frame(self.path) and self._names(ref, sha)):
            with exclusive_lock(self._lock_path):
                self._create()
                self._clear_stale_locks()
                try:
                    self._git.fetch_commit(
                        self.path, remote, sha, ref=ref, limit_bytes=limit_bytes, seconds=seconds
                    )
                finally:  # what a git that was cut off has left
                    for part in (self.path / "objects" / "pack").glob("tmp_*"):
                        part.unlink(missing_ok=True)
        os.utime(self.path)

    def repair(self, remote: RemoteRepository) -> Repair | None:
        """Mend what a crash or the disk has damaged; None where nothing is. For after a failure: reads everything."""
        if not self.path.is_dir() or is_sound(self.path, self._git):
            return None
        with exclusive_lock(self._lock_path):
            self._clear_stale_locks()
            return repair(self.path, self._git, remote)

    def accept_bundle(
        self,
        bundle: Path,
        *,
        git_branch_name: str,
        descends_from: str,
        keep_as: str,
        may_be_rewritten: bool = False,
    ) -> str:
        """Take one bundle's commits into the mirror and return their head.

        The bundle must hold exactly `refs/heads/<git_branch_name>`, pass git's fsck in a quarantine folder that
        only borrows the mirror's objects, be complete, and descend from `descends_from` unless it `may_be_rewritten`:
        then `kept_on_top` makes of it what may be pushed. The server names the ref it is kept under (`keep_as`).
        Raises `BundleRejected` and `PushTooLarge`.
        """
        try:
            size = bundle.lstat().st_size
        except OSError as error:
            raise BundleRejected(
                f"{NOT_TAKEN}: its place left no bundle of them ({error.strerror})."
            ) from error
        if size > BUNDLE_LIMIT_BYTES:
            raise PushTooLarge(
                f"The agent's commits have {size} bytes, over the limit of {BUNDLE_LIMIT_BYTES}."
            )
        # named after the order, so that recovery knows whose it is when its worker died
        quarantine = self._quarantine_root / f"{keep_as.rpartition('/')[2]}-{uuid4().hex}"
        (quarantine / "pack").mkdir(mode=0o700, parents=True)
        try:
            with bundle.open("rb", buffering=0) as file:
                head = read_bundle_head(file, f"refs/heads/{git_branch_name}")
                inspector = Inspector(self._git, self.path, quarantine)
                descends = inspector.inspect(file, head=head, descends_from=descends_from)
            if not descends and not may_be_rewritten:
                raise BundleRejected(
                    f"The branch no longer descends from {descends_from[:12]}: its history was rewritten."
                )
            self._migrate(quarantine)
        finally:
            shutil.rmtree(quarantine, ignore_errors=True)
        if descends:
            self._git.note_descent(self.path, descends_from, head)
        self.keep(keep_as, head)
        self._tidy()
        return head

    def _commit_tree(self, like: str, parents: Sequence[str], message: str) -> str:
        """Write a commit of the server's with the tree of `like`; its sha.

        Its date is that of the youngest of them, so that the same history gives the same commit.
        """
        dates = self._git.text("log", "--no-walk", "--format=%ct", like, *parents, git_dir=self.path).split()
        tree = self._git.text("rev-parse", "--verify", f"{like}^{{tree}}", git_dir=self.path)
        now = int(time.time())  # old histories hold dates of any kind
        seconds = max((min(int(date), now) for date in dates if date.isdecimal()), default=0)
        lines = [f"tree {tree}", *(f"parent {sha}" for sha in parents)]
        lines += [f"{who} {SERVER_IDENTITY} {seconds} +0000" for who in ("author", "committer")]
        text = "\n".join(lines) + f"\n\n{message.strip()}\n"
        arguments = ("hash-object", "-t", "commit", "-w", "--stdin")
        return self._git.run(*arguments, git_dir=self.path, stdin=text.encode()).stdout.decode().strip()

    def kept_on_top(self, head: str, *, start_sha: str, keep_as: str, message: Callable[[str], str]) -> str:
        """The head, where it descends from `start_sha`; else a commit of the server's that joins both, with its tree.

        So the branch only moves forward, and nothing that was on it is lost. `message` is given the head.
        """
        if self._git.is_ancestor(self.path, start_sha, head):
            return head
        joined = self._commit_tree(head, [head, start_sha], message(head))
        self.keep(keep_as, joined)
        return joined

    def accept_rewind(
        self, sha: str, *, start_sha: str, keep_as: str, message: Callable[[str], str]
    ) -> str | None:
        """The branch was set back to `sha`, before `start_sha`: a commit on top of that with the tree it had then.

        None where the sandbox's word is no ancestor of it.
        """
        if not is_sha(sha) or sha == start_sha or not self._git.has_commit(self.path, sha):
            return None
        if not self._git.is_ancestor(self.path, sha, start_sha):
            return None
        made = self._commit_tree(sha, [start_sha], message(sha))
        self.keep(keep_as, made)
        return made

    def _migrate(self, quarantine: Path) -> None:
        """Move inspected packs into the mirror, index last, as git's own quarantine does."""
        found = sorted((quarantine / "pack").iterdir(), key=lambda path: path.suffix == ".idx")
        for path in found:
            path.rename(self.path / "objects" / "pack" / path.name)

    def _tidy(self) -> None:
        """Join small packs and pack the refs once there are many: git opens every pack, and a push reads every ref.

        A pack much larger than the rest stays as it is, and no object is dropped. Where somebody holds the lock, or
        git cannot, a later bundle brings the next chance.
        """
        packs = (self.path / "objects" / "pack").glob("*.pack")
        if sum(1 for _pack in packs) <= MOST_PACKS:
            return
        with suppress(LockTimeout, GitError), exclusive_lock(self._lock_path, timeout_seconds=0):
            self._git.run("repack", "--quiet", "--geometric=2", "-d", git_dir=self.path, timeout_seconds=300)
            self._git.run("pack-refs", "--all", git_dir=self.path)

    def push(
        self, remote: RemoteRepository, *, sha: str, git_branch_name: str, seen: str | None = None
    ) -> None:
        """Bring the remote branch to `sha`; look again after a failure, and leave others' commits alone.

        `seen` is where the branch was a moment ago ("" for: nowhere); the push happens only if it still is there, and
        only where `sha` descends from it. None: look first. Raises `BranchMoved`.
        """
        if seen is None:
            seen = self._look(remote, git_branch_name)
        self._require_descent(seen, sha, git_branch_name)
        if seen == sha:
            return
        try:
            self._git.push(self.path, remote, sha=sha, git_branch_name=git_branch_name, expected=seen)
        except GitError as error:
            now = self._look(remote, git_branch_name)
            if now == sha:
                return
            self._require_descent(now, sha, git_branch_name)
            if "stale info" in str(error):
                if now == seen:  # git's own look was cut, and so saw no branch at all
                    raise GitError(
                        f"The connection broke while the commits were pushed: {error}", retryable=True
                    ) from error
                raise _moved(git_branch_name, now, sha) from error
            raise

    def _look(self, remote: RemoteRepository, git_branch_name: str) -> str:
        return self._git.remote_refs(remote, [git_branch_name]).branches.get(git_branch_name, "")

    def _require_descent(self, found: str, sha: str, git_branch_name: str) -> None:
        if not found or found == sha:
            return
        if not self._git.is_ancestor(self.path, found, sha):  # nor a commit that is not here
            raise _moved(git_branch_name, found, sha)

    def keep(self, ref: str, sha: str) -> None:
        """Put an order's ref at a commit that is here. Raises `GitError` while another process writes it."""
        try:
            self._write_ref(ref, sha)
        except (
            FileExistsError,
            FileNotFoundError,
        ):  # a dead worker's lock, or git has just packed all refs away
            with exclusive_lock(self._lock_path):  # no git of ours packs refs now
                self._remove_dead_lock(ref)
                try:
                    self._write_ref(ref, sha)
                except FileExistsError as error:
                    raise _ref_is_locked(ref) from error

    def _write_ref(self, ref: str, sha: str) -> None:
        """As git does it: into a lock file beside the ref, which then takes its place. No process is started.

        The file is locked, too, so that others see whether its writer lives.
        """
        path, lock = self.path / ref, self.path / f"{ref}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("xb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(f"{sha}\n".encode())
                file.flush()
                os.fsync(file.fileno())
                lock.replace(path)
            except OSError:
                lock.unlink(missing_ok=True)
                raise

    def _remove_dead_lock(self, ref: str) -> None:
        """What a killed writer of this ref has left. Raises `GitError` where it lives."""
        lock = self.path / f"{ref}.lock"
        with suppress(FileNotFoundError), lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _ref_is_locked(ref) from error
            lock.unlink()

    def _clear_stale_locks(self) -> int:
        """Remove lock files of a git that died with its machine; one that lives is younger. Returns how many."""
        cleared = 0
        for lock in (*self.path.glob("*.lock"), *(self.path / "refs").rglob("*.lock")):
            with suppress(FileNotFoundError):
                if time.time() - lock.stat().st_mtime > STALE_LOCK_SECONDS:
                    lock.unlink()
                    cleared += 1
        return cleared


def _moved(git_branch_name: str, found: str, ours: str) -> BranchMoved:
    what = (
        f"Somebody else moved {git_branch_name} on the remote to {found[:12]}"
        if found
        else f"Somebody else deleted {git_branch_name} on the remote"
    )
    return BranchMoved(
        f"{what} while it was worked on; nothing there was overwritten.",
        advice="Retry: the step goes on from what is on the remote now, and is done again where that is needed. "
        f"What was made here stays in the server's copy of the repository as {ours[:12]}.",
    )


def _ref_is_locked(ref: str) -> GitError:
    return GitError(f"{ref} is locked: another process writes it.", retryable=True)


def _tracking_ref(branch: str) -> str:
    """One path component, so that a new branch `a/b` finds no old `a` in its way."""
    return f"{TRACKING}{quote(branch, safe='')}"
