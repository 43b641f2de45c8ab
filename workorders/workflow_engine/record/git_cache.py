"""Stores what git says of an order for the pages: its commits, files and patches, replaced as a whole."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sandboxes.trusted_git.objects import Commit, FileChange
from workorders.models import WorkOrderCommit, WorkOrderFile, statements
from workorders.models.git_cache import MAX_COMMITS, MAX_FILES, PatchState
from workorders.workflow_engine.planning.phase_tracker import GitProgress

_PATCH_CHARACTERS = 200_000


def store_git_cache(order_pk: int, progress: GitProgress, patches: Sequence[str] | None) -> None:
    """Inside the caller's fenced transaction. `patches` None: the step still runs, they come at its end."""
    statements.delete(WorkOrderCommit, {"agent_work_order": order_pk})
    commits = enumerate(progress.commits[-MAX_COMMITS:], start=1)
    statements.insert_all(
        WorkOrderCommit, [_commit(order_pk, position, commit, progress) for position, commit in commits]
    )
    statements.delete(WorkOrderFile, {"agent_work_order": order_pk})
    files = [
        _file(order_pk, position, change, None if patches is None else _patch(patches, position))
        for position, change in enumerate(progress.changes[:MAX_FILES])
    ]
    statements.insert_all(WorkOrderFile, files)


def _patch(patches: Sequence[str], position: int) -> str:
    return patches[position] if position < len(patches) else ""


def _commit(order_pk: int, position: int, commit: Commit, progress: GitProgress) -> dict[str, Any]:
    return {
        "agent_work_order": order_pk,
        "position": position,
        "sha": commit.sha,
        "message": _storable(commit.message)[:4000],
        "author_name": _storable(commit.author_name)[:200],
        "committed_at": datetime.fromisoformat(commit.committed_at),
        "phase": progress.phase_of.get(commit.sha),
    }


def _file(order_pk: int, position: int, change: FileChange, patch: str | None) -> dict[str, Any]:
    state = PatchState.PENDING
    if patch is not None:
        complete = bool(patch) and len(patch) <= _PATCH_CHARACTERS
        state = PatchState.STORED if complete else PatchState.TOO_LARGE
        if change.lines_added is None:
            state = PatchState.BINARY
    return {
        "agent_work_order": order_pk,
        "position": position,
        "path": _storable(change.path),
        "status": change.status[:1],
        "lines_added": change.lines_added,
        "lines_removed": change.lines_removed,
        "patch": _storable(patch or "") if state is PatchState.STORED else "",
        "patch_state": state,
    }


def _storable(text: str) -> str:
    return text.replace("\x00", "\ufffd")
