"""Fetches what a checkout needs beside the repository's own commits: submodules and contents of Git LFS.

On the trusted side, with bounds, before any agent is there (docs/adr/0018). What is not fetched stops no order: it is
said in one line of the agent's prompt and of the order's log.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from github_app.references import ReferenceInvalid, RepositoryReference
from github_app.submodule_addresses import parse_allowed, submodule_reference
from sandboxes.errors import ExpectedError, GitTimeout, RemoteAccessDenied, RemoteNotFound
from sandboxes.extras.lfs_client import LfsClient, LfsObject, LfsUnavailable
from sandboxes.extras.lfs_folder import LfsFolder
from sandboxes.extras.lfs_pointers import LfsPointer
from sandboxes.extras.lfs_store import LfsStore
from sandboxes.extras.placed import Extras, PlacedSubmodule
from sandboxes.extras.submodule_names import NamedSubmodule, RefusedSubmodule, named_submodules
from sandboxes.extras.tree_survey import MOST_POINTERS, TreeSurvey, gitlinks_at, pointers_in, survey
from sandboxes.trusted_git.git import RemoteRepository
from sandboxes.trusted_git.mirror import RepositoryMirror
from workorders.domain.errors import WorkOrderError
from workorders.workflow_engine.record.claimed_step import ClaimedStep

_SUBMODULES_SECONDS = 600.0
_NAMED = 10
_ODD_POINTER = "their pointers are not as git-lfs writes them"


@dataclass(frozen=True)
class Fetched:
    """What can be put into the checkout, and what not: a phrase each, ready for people and agents."""

    extras: Extras = field(default_factory=Extras)
    submodules_left_out: tuple[str, ...] = ()
    lfs_left_out: tuple[str, ...] = ()
    lfs_files: int = 0
    lfs_bytes: int = 0

    @property
    def not_fetched(self) -> tuple[str, ...]:
        return (*_some(self.submodules_left_out), *_some(self.lfs_left_out))

    def without(self, paths: tuple[str, ...]) -> "Fetched":
        """As it is once those submodules could not be filled."""
        if not paths:
            return self
        kept = tuple(one for one in self.extras.submodules if one.path not in paths)
        failed = tuple(f"submodule {_shown(path)} (git could not check it out)" for path in paths)
        return replace(
            self,
            extras=replace(self.extras, submodules=kept),
            submodules_left_out=(*self.submodules_left_out, *failed),
        )

    def events(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Level, name and fields of what the order's log says."""
        if placed := self.extras.submodules:
            listed = [f"{_shown(one.path)} at {one.sha[:12]} from {one.url}" for one in placed]
            yield "info", "git_submodules_fetched", {"count": len(placed), "submodules": listed}
        if self.lfs_files:
            yield "info", "git_lfs_objects_fetched", {"files": self.lfs_files, "bytes": self.lfs_bytes}
        if self.submodules_left_out:
            reason = "; ".join(_some(self.submodules_left_out))
            yield (
                "warning",
                "git_submodules_left_out",
                {"count": len(self.submodules_left_out), "reason": reason},
            )
        if self.lfs_left_out:
            yield "warning", "git_lfs_objects_left_out", {"reason": "; ".join(_some(self.lfs_left_out))}


class ExtrasFetcher:
    """For one step of an order on `reference`, whose commits are in `mirror`."""

    def __init__(self, step: ClaimedStep, reference: RepositoryReference, mirror: RepositoryMirror) -> None:
        self._step = step
        self._parts = step.parts
        self._reference = reference
        self._mirror = mirror
        self._data_dir = step.parts.settings.data_dir

    def fetch(self, *, base_sha: str, start_sha: str, lfs_limit_bytes: int | None = None) -> Fetched:
        """For a checkout of `start_sha`; nothing is asked of anybody where the base commit has no such thing.

        `lfs_limit_bytes` is what the place takes of LFS, if it has a limit. Raises `GitError` where the mirror cannot
        be read.
        """
        found = survey(self._parts.git, self._mirror.path, base_sha)
        if not found.gitlinks and not found.uses_lfs:
            return Fetched()
        return self._lfs(self._submodules(found, start_sha), found, start_sha, lfs_limit_bytes)

    # --- submodules ---

    def _submodules(self, found: TreeSurvey, start_sha: str) -> Fetched:
        if not found.gitlinks:
            return Fetched()
        if found.unreadable_modules:
            return Fetched(submodules_left_out=("all submodules (.gitmodules cannot be read)",))
        named = named_submodules(found.sections, found.gitlinks)
        paths = tuple(one.path for one in named.submodules)
        wanted = gitlinks_at(self._parts.git, self._mirror.path, start_sha, paths)
        placed: list[PlacedSubmodule] = []
        left_out = list(named.refused)
        budget = _Budget(self._parts.settings.submodules_max_bytes)
        for one in named.submodules:
            if one.path not in wanted:
                continue  # the order's own commits took it away
            self._step.control.check()
            try:
                placed.append(self._submodule(one, wanted[one.path], budget))
            except (ReferenceInvalid, _LeftOut) as error:
                left_out.append(RefusedSubmodule(one.path, str(error)))
        phrases = [f"submodule {_shown(one.path)} ({one.reason})" for one in left_out]
        inside = [phrase for one in placed for phrase in self._left_out_inside(one)]
        return Fetched(extras=Extras(submodules=tuple(placed)), submodules_left_out=(*phrases, *inside))

    def _left_out_inside(self, placed: PlacedSubmodule) -> Iterator[str]:
        """What a submodule itself would need; the base commit does not name it."""
        inside = survey(self._parts.git, placed.objects.parent, placed.sha)
        if inside.gitlinks:
            yield f"submodules of the submodule {_shown(placed.path)} (only those of the repository itself come)"
        if inside.uses_lfs:
            yield f"files of Git LFS in the submodule {_shown(placed.path)} (only those of the repository itself come)"

    def require_commits(self, *, base_sha: str, head: str) -> None:
        """What new commits name in the base commit's submodules is in those repositories, for others to fetch.

        A commit that was made inside a submodule is only in the place. Where the submodule cannot be read at all
        nothing is known, and nothing said. Raises `SubmoduleCommitMissing`.
        """
        found = survey(self._parts.git, self._mirror.path, base_sha)
        if not found.sections:
            return
        named = named_submodules(found.sections, found.gitlinks).submodules
        after = gitlinks_at(self._parts.git, self._mirror.path, head, tuple(one.path for one in named))
        budget = _Budget(self._parts.settings.submodules_max_bytes)
        for one in named:
            before, sha = found.gitlinks[one.path], after.get(one.path, "")
            if (
                sha in {"", before}
                or self._can_fetch(one, sha, budget)
                or not self._can_fetch(one, before, budget)
            ):
                continue
            raise SubmoduleCommitMissing(
                f"Commit {sha[:12]}, which the new commits name for the submodule {_shown(one.path)}, is not in that "
                "submodule's repository. Nothing was pushed."
            )

    def _can_fetch(self, named: NamedSubmodule, sha: str, budget: "_Budget") -> bool:
        try:
            self._submodule(named, sha, budget)
        except (ReferenceInvalid, _LeftOut):
            return False
        return True

    def _submodule(self, named: NamedSubmodule, sha: str, budget: "_Budget") -> PlacedSubmodule:
        """Raises `ReferenceInvalid` and `_LeftOut`."""
        mirror, remote = self._source(named)
        before = _size(mirror)
        try:
            limit, seconds = budget.left()
            mirror.fetch_commit(remote, sha, limit_bytes=limit, seconds=seconds)
        except ExpectedError as error:
            raise _LeftOut(_in_words(error, bool(remote.token))) from error
        budget.spend(_size(mirror) - before)
        return PlacedSubmodule(named.name, named.path, sha, mirror.path / "objects", remote.url)

    def _source(self, named: NamedSubmodule) -> tuple[RepositoryMirror, RemoteRepository]:
        """Where a submodule comes from: with the credential only where that was said of exactly this repository.

        What was fetched with it is kept apart, for a repository that may not see it must not find it in a mirror.
        Raises `ReferenceInvalid`.
        """
        target = submodule_reference(
            named.address, parent=self._reference, github_host=self._parts.settings.github_host
        )
        remote = self._parts.remote_for(target)
        own = not self._reference.is_local and target.key == self._reference.key
        kind = "signed-in"
        if not own and not self._is_allowed(target):
            kind, remote = "anonymous", replace(remote, token="")  # nosec B106  # none
        key = f"_submodules/{kind}/{target.key}"
        return RepositoryMirror(self._data_dir, key, self._parts.git), remote

    def _is_allowed(self, target: RepositoryReference) -> bool:
        allowed = parse_allowed(self._step.plan.repository.submodules_allowed)
        return target.full_name.lower() in allowed and self._step.journal.is_connected(
            target.host, target.owner, target.name
        )

    # --- LFS ---

    def _lfs(self, fetched: Fetched, found: TreeSurvey, start_sha: str, limit_bytes: int | None) -> Fetched:
        if not found.uses_lfs:
            return fetched
        pointers = pointers_in(self._parts.git, self._mirror.path, start_sha)
        files = Counter(one.pointer for one in pointers if one.is_plain)
        store = LfsStore(self._data_dir, self._step.plan.order.mirror_key)
        store.prepare()  # the filter keeps pointers pointers, also where there is nothing to put in their place
        reasons = Counter({_ODD_POINTER: odd} if (odd := len(pointers) - files.total()) else {})
        for pointer, reason in self._missing(store, list(files)):
            reasons[reason] += files[pointer]
        chosen, total = [], 0
        for pointer in sorted(files, key=lambda one: (one.size, one.oid)):
            if not store.has(pointer):
                continue
            if limit_bytes is not None and total + pointer.size > limit_bytes:
                reasons[f"sandboxes of this type take {limit_bytes >> 20} MB"] += files[pointer]
                continue
            total += pointer.size
            chosen.append(pointer)
        left_out = [_files(count, reason) for reason, count in reasons.items()]
        if len(pointers) == MOST_POINTERS:
            left_out.append(f"files of Git LFS after the first {MOST_POINTERS}")
        if found.lfs_leads_elsewhere:
            left_out.append("the address in .lfsconfig (only the repository's own LFS is asked)")
        oids = tuple(pointer.oid for pointer in chosen)
        return replace(
            fetched,
            extras=replace(fetched.extras, lfs_objects=store.path, lfs_oids=oids),
            lfs_left_out=tuple(left_out),
            lfs_files=sum(files[pointer] for pointer in chosen),
            lfs_bytes=total,
        )

    def _missing(self, store: LfsStore, wanted: list[LfsPointer]) -> Iterator[tuple[LfsPointer, str]]:
        """Download what is not here; the pointers that did not come, and why."""
        if not self._parts.settings.lfs.max_bytes:
            yield from (
                (one, "WORKORDERS_LFS_MAX_MB=0 turns LFS off") for one in wanted if not store.has(one)
            )
            return
        room = self._lfs_room(sum(one.size for one in wanted if store.has(one)))
        asked: list[LfsPointer] = []
        for pointer in sorted((one for one in wanted if not store.has(one)), key=lambda one: one.size):
            if pointer.size > room:
                yield pointer, "together larger than WORKORDERS_LFS_MAX_MB, or than the free disk"
                continue
            room -= pointer.size
            asked.append(pointer)
        if not asked:
            return
        if self._reference.local_path is not None:
            folder = LfsFolder(self._reference.local_path)
            yield from ((one, reason) for one in asked if (reason := self._copy(folder, store, one)))
            return
        client = LfsClient(self._parts.remote_for(self._reference), self._parts.settings.lfs)
        ref = f"refs/heads/{self._step.plan.order.base_branch or 'main'}"
        try:
            found = client.batch("download", asked, ref=ref)
        except LfsUnavailable as error:
            yield from ((pointer, str(error)) for pointer in asked)
            return
        broken = ""  # a host that does not answer is not asked again for every file
        for item in found:
            self._step.control.check()
            reason = broken or self._download(client, store, item)
            if reason.startswith(("the connection", "it took")):
                broken = reason
            if reason:
                yield item.pointer, reason

    def _lfs_room(self, held: int) -> int:
        settings = self._parts.settings
        free = shutil.disk_usage(self._data_dir).free - settings.disk_floor_bytes
        return max(0, min(settings.lfs.max_bytes - held, free // 2))  # the checkout has them a second time

    @staticmethod
    def _copy(folder: LfsFolder, store: LfsStore, pointer: LfsPointer) -> str:
        if not folder.has(pointer):
            return "the repository's folder does not have them"
        return "" if store.take(pointer, folder.read(pointer)) else "they are not what the pointer names"

    @staticmethod
    def _download(client: LfsClient, store: LfsStore, item: LfsObject) -> str:
        if item.reason or (action := item.actions.get("download")) is None:
            return item.reason or "the server does not have them"
        if refusal := client.refusal_of(action):
            return refusal
        try:
            if store.take(item.pointer, client.download(item)):
                return ""
            return "what the server sent is not what the pointer names"
        except LfsUnavailable as error:
            return str(error)


class SubmoduleCommitMissing(WorkOrderError):
    """New commits name a commit of a submodule that its repository does not have; nothing of them was pushed."""

    category = "submodule_commit_missing"
    retryable = True
    advice = (
        "Make the submodule's change in its own repository first, then ask for its commit here; the order starts again "
        "from what was pushed before."
    )


class _LeftOut(Exception):
    """A submodule that is not there, and why."""


class _Budget:
    """What all submodules of one checkout may take together."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._until = time.monotonic() + _SUBMODULES_SECONDS

    def left(self) -> tuple[int, float]:
        """Bytes and seconds. Raises `_LeftOut`."""
        seconds = self._until - time.monotonic()
        if self._left <= 0:
            raise _LeftOut("submodules are larger together than WORKORDERS_SUBMODULES_MAX_MB")
        if seconds <= 0:
            raise _LeftOut(f"fetching submodules took more than {_SUBMODULES_SECONDS:.0f} s")
        return self._left, seconds

    def spend(self, size: int) -> None:
        self._left -= size


def _in_words(error: ExpectedError, signed_in: bool) -> str:
    """Without git's own words, which name addresses and files of this server."""
    match error:
        case RemoteAccessDenied() | RemoteNotFound() if signed_in:
            return "the server's credential cannot read it"
        case RemoteAccessDenied() | RemoteNotFound():
            return "it is not public, and not one that this repository's `submodules_allowed` lets in"
        case GitTimeout():
            return "it could not be fetched in time"
        case _:
            return "it could not be fetched: too large, gone, or moved to another address"


def _files(count: int, reason: str) -> str:
    return f"{count} {'file' if count == 1 else 'files'} of Git LFS ({reason})"


def _some(phrases: tuple[str, ...]) -> tuple[str, ...]:
    more = len(phrases) - _NAMED
    return (*phrases[:_NAMED], f"{more} more") if more > 0 else phrases


def _shown(path: str) -> str:
    """A stranger's text on one line of a prompt and a log."""
    return "".join(character if character.isprintable() else "?" for character in path)[:120]


def _size(mirror: RepositoryMirror) -> int:
    return sum(path.stat().st_size for path in (mirror.path / "objects" / "pack").glob("*.pack"))
