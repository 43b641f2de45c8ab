"""New contents of Git LFS reach the repository's own LFS before the commits that point to them are pushed.

A pointer to nothing is never delivered: whoever pulls it could not check it out.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from github_app.references import RepositoryReference
from sandboxes.extras.lfs_client import LfsClient, LfsUnavailable
from sandboxes.extras.lfs_folder import LfsFolder
from sandboxes.extras.lfs_pointers import LfsPointer
from sandboxes.extras.lfs_store import LfsStore
from sandboxes.extras.tree_survey import survey
from workorders.domain.errors import WorkOrderError
from workorders.text import redaction
from workorders.text.redaction import shapes_in
from workorders.workflow_engine.outward.push_gate import SecretInCommits
from workorders.workflow_engine.place.workplace import Place
from workorders.workflow_engine.record.claimed_step import ClaimedStep

_NAMED_PATHS = 5
_PIECE_BYTES = 1024 * 1024
_OVERLAP_BYTES = 8192  # longer than anything looked for


class LfsContentMissing(WorkOrderError):
    """New commits point to contents of Git LFS that nobody has; nothing of them was pushed."""

    category = "lfs_content_missing"
    retryable = True
    advice = (
        "Ask for the files themselves, at most WORKORDERS_LFS_MAX_MB in all, and for no pointers written by hand; the "
        "order starts again from what was pushed before."
    )


class LfsUploader:
    """For one claimed step. `pointers` are those that new commits bring, each with a path for people."""

    def __init__(self, step: ClaimedStep, reference: RepositoryReference) -> None:
        self._step = step
        self._reference = reference
        self._store = LfsStore(step.parts.settings.data_dir, step.plan.order.mirror_key)

    def upload(self, place: Place, head: str, pointers: Mapping[LfsPointer, str]) -> None:
        """Raises `LfsContentMissing`, `SecretInCommits`, and `LfsUnavailable` where another try may help."""
        if not pointers or not self._uses_lfs(place, head):
            return
        try:
            if self._reference.local_path is not None:
                count = self._into_folder(LfsFolder(self._reference.local_path), pointers)
            else:
                count = self._to_endpoint(pointers)
        except LfsUnavailable as error:
            raise LfsUnavailable(
                f"New contents could not be stored in the repository's Git LFS: {error}. Nothing was pushed.",
                retryable=error.retryable,
            ) from error
        if count:
            self._step.log.info("git_lfs_objects_uploaded", count=count)

    def _uses_lfs(self, place: Place, head: str) -> bool:
        """Text that looks like a pointer is none where no path is LFS's."""
        git, mirror = self._step.parts.git, place.mirror.path
        return survey(git, mirror, place.base_sha).uses_lfs or survey(git, mirror, head).uses_lfs

    def _into_folder(self, folder: LfsFolder, pointers: Mapping[LfsPointer, str]) -> int:
        new = [pointer for pointer in pointers if not folder.has(pointer)]
        self._require([pointer for pointer in new if not self._store.has(pointer)], pointers)
        for pointer in new:
            self._refuse_secrets(pointer, pointers[pointer])
            folder.write(pointer, self._store.place_of(pointer.oid))
        return len(new)

    def _to_endpoint(self, pointers: Mapping[LfsPointer, str]) -> int:
        settings = self._step.parts.settings.lfs
        client = LfsClient(self._step.parts.remote_for(self._reference), settings)
        ref = f"refs/heads/{self._step.plan.order.git_branch_name}"
        found = client.batch("upload", list(pointers), ref=ref)
        new = [item for item in found if "upload" in item.actions]
        if refused := [item.reason for item in found if item.reason]:
            raise LfsUnavailable(refused[0])
        self._require([item.pointer for item in new if not self._store.has(item.pointer)], pointers)
        for item in new:
            self._step.control.check()
            self._refuse_secrets(item.pointer, pointers[item.pointer])
            client.upload(item, self._store.place_of(item.pointer.oid))
        return len(new)

    def _refuse_secrets(self, pointer: LfsPointer, path: str) -> None:
        """What is not in git passes no other gate. Raises `SecretInCommits`."""
        redactor = redaction.current()
        for piece in _overlapping(self._store.place_of(pointer.oid)):
            known, looks = next(iter(redactor.find(piece)), ""), next(iter(shapes_in(piece)), None)
            if known or looks:
                name = known or f"What looks like a secret ({looks[0] if looks else ''})"
                words = f"{name} is in the content of {path!r} in Git LFS. Nothing was pushed."
                raise SecretInCommits(redactor.redact(words), retryable=not known)

    def _require(self, missing: list[LfsPointer], pointers: Mapping[LfsPointer, str]) -> None:
        if missing:
            self._refuse([pointers[pointer] for pointer in missing])

    def _refuse(self, paths: list[str]) -> NoReturn:
        names = ", ".join(repr(path) for path in paths[:_NAMED_PATHS])
        more = f" and {len(paths) - _NAMED_PATHS} more" if len(paths) > _NAMED_PATHS else ""
        raise LfsContentMissing(
            f"New files are pointers of Git LFS whose contents are nowhere ({names}{more}). Nothing was pushed."
        )


def _overlapping(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        kept = b""
        while piece := file.read(_PIECE_BYTES):
            yield kept + piece
            kept = piece[-_OVERLAP_BYTES:]
