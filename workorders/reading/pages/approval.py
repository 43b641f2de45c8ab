"""What a person decides about: the commit that waits, the protected paths in it, and their diffs."""

from dataclasses import dataclass

from workorders.domain.states import WaitingReason
from workorders.models import AgentWorkOrder
from workorders.reading.pages.changes import FileDiff, diff_of
from workorders.reading.pages.rows import files_of

SHOWN_PATHS = 50
SHOWN_CHARACTERS = 200_000


@dataclass(frozen=True)
class ProtectedPath:
    """`commit_sha` is the newest commit that changes it; without a diff, a later one took the change back."""

    path: str
    commit_sha: str
    has_diff: bool


@dataclass(frozen=True)
class Approval:
    sha: str
    paths: tuple[ProtectedPath, ...]
    diffs: tuple[FileDiff, ...]


def approval_of(row: AgentWorkOrder) -> Approval | None:
    """None where the order waits for no approval; one query where it does."""
    if row.waiting_reason != WaitingReason.APPROVAL_REQUIRED:
        return None
    asked = [(str(item["path"]), str(item["commit_sha"])) for item in row.approval_paths[:SHOWN_PATHS]]
    files = list(files_of(row).filter(path__in=[path for path, _ in asked]))
    changed = {file.path for file in files}
    diffs, room = [], SHOWN_CHARACTERS
    for file in files:
        room -= len(file.patch)
        diffs.append(diff_of(file, file if room > 0 else None))
    paths = tuple(ProtectedPath(path, sha, path in changed) for path, sha in asked)
    return Approval(row.approval_sha, paths, tuple(diffs))
