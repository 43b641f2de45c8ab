"""What local sandboxes leave on this host when a worker dies: places to work, transfers on their way, trash.

Knows identifiers and folders, not orders; who is alive it is told (`SweepScope`).
"""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from sandboxes.base import SweepScope

TRANSFER_SECONDS = 3600.0


def sweep_orphans(scope: SweepScope) -> tuple[str, ...]:
    """Workspaces no live order owns, transfers no living worker can be at, trash; an agent's HOME stays."""
    return (*_remove_workspaces(scope), *_remove_transfers(scope))


def _remove_workspaces(scope: SweepScope) -> list[str]:
    found = _children(scope.data_dir / "sandboxes")
    active = scope.active_identifiers()
    orphans = [folder for folder in found if folder.name not in active]
    if not scope.dry_run:
        for folder in orphans:
            trash = scope.data_dir / "trash" / f"{folder.name}-{uuid4().hex}"
            trash.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another pass was faster
                folder.rename(trash)
        for folder in _children(scope.data_dir / "trash"):
            shutil.rmtree(folder, ignore_errors=True)
    return [f"workspace {folder.name}" for folder in orphans]


def _remove_transfers(scope: SweepScope) -> list[str]:
    """Bundles and quarantines on their way when their worker died; a living worker's are younger."""
    removed = []
    for path in (*_children(scope.data_dir / "outbox"), *_children(scope.data_dir / "quarantine")):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > TRANSFER_SECONDS:
                removed.append(f"transfer {path.name}")
                if not scope.dry_run:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    return removed


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
