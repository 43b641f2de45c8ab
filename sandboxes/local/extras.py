"""What a local place has of its extras on the trusted side, so that every worker that comes to it finds it.

The settings are git's "system" ones there: read-only, and in no folder that an agent, or another order, could write.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sandboxes.base import CommandExecutionResult
from sandboxes.errors import SandboxError
from sandboxes.extras.placed import (
    CHANGED_SUBMODULES,
    LFS_EXPORT,
    LFS_FILTER,
    PLACE_SUBMODULES,
    Extras,
    changed_submodules,
    git_settings,
    submodule_arguments,
)
from sandboxes.processes.run import ProcessLimits
from sandboxes.sweep.rules import LeftOut, shown

_SETTINGS_INSIDE = Path("/run/work-order-gitconfig")
_FILTER_INSIDE = Path("/run/work-order-lfs")
_LIMITS = ProcessLimits(total_seconds=600.0, output_bytes=1024 * 1024)


class Run(Protocol):
    """One isolated command in the checkout."""

    def __call__(
        self, argv: Sequence[str], *, limits: ProcessLimits | None = ..., stdout_path: Path | None = ...
    ) -> CommandExecutionResult: ...


class LocalExtras:
    """`folder` is the place's trusted one, `git_dir` the checkout's own git folder."""

    def __init__(self, folder: Path, git_dir: Path, *, isolated: bool) -> None:
        self._settings = folder / "gitconfig"
        self._filter = folder / "lfs-filter"
        self._note = folder / "extras.json"
        self._git_dir = git_dir
        self._own_lfs = git_dir / "lfs"
        self._isolated = isolated

    def write(self, extras: Extras) -> None:
        """Nothing where there are none: then no command sees anything of this."""
        if not extras:
            return
        self._filter.write_text(LFS_FILTER)
        where = _FILTER_INSIDE if self._isolated else self._filter
        text = git_settings(extras, lfs_filter=str(where), own_lfs=str(self._own_lfs))
        self._settings.write_text(text)
        self._note.write_text(
            json.dumps(
                {
                    "borrowed": [str(path) for path in extras.borrowed],
                    "lfs": str(extras.lfs_objects or ""),
                    "submodules": [one.path for one in extras.submodules],
                }
            )
        )

    def environment(self) -> dict[str, str]:
        if not self._settings.is_file():
            return {}
        where = _SETTINGS_INSIDE if self._isolated else self._settings
        return {"GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_SYSTEM": str(where)}

    def files(self) -> dict[Path, Path]:
        """Path inside → what is shown there."""
        if not self._settings.is_file():
            return {}
        return {_SETTINGS_INSIDE: self._settings, _FILTER_INSIDE: self._filter}

    def readable(self) -> tuple[Path, ...]:
        return tuple(Path(path) for path in self._noted("borrowed", []))

    @property
    def known_lfs(self) -> str:
        """The repository's contents that the place reads, '' where there are none."""
        return str(self._noted("lfs", ""))

    # --- by commands inside ---

    def place_submodules(self, extras: Extras, run: Run) -> tuple[str, ...]:
        """Fill them; the paths of those that could not be. Raises `SandboxError`."""
        if not extras.submodules:
            return ()
        arguments = (str(self._git_dir), *submodule_arguments(extras.submodules))
        result = run(("sh", "-c", PLACE_SUBMODULES, "sh", *arguments), limits=_LIMITS)
        if not result.ok:
            raise SandboxError(f"The submodules could not be filled: {_words(result)}")
        said = result.stdout.decode("utf-8", "replace").splitlines()
        return tuple(one.path for one in extras.submodules if one.path in said)

    def changed(self, run: Run) -> tuple[LeftOut, ...]:
        """Submodules inside which something is uncommitted."""
        if not (paths := self._noted("submodules", [])):
            return ()
        said = run(("sh", "-c", CHANGED_SUBMODULES, "sh", *paths)).stdout
        changed = changed_submodules(paths, said.decode("utf-8", "replace"))
        return tuple(LeftOut("submodule_changes", shown(path)) for path in changed)

    def export_lfs(self, destination: Path, run: Run, *, limit_bytes: int) -> bool:
        """As the Protocol has it; no command is started where a look from outside shows nothing of LFS."""
        shared = (
            self._git_dir.parents[1] / "lfs" if self._git_dir.parent.name == "worktrees" else self._own_lfs
        )
        if not (self._filter.is_file() or self._own_lfs.is_dir() or shared.is_dir()):
            return False
        shell = ("sh", "-c", LFS_EXPORT, "sh", str(self._own_lfs), self.known_lfs)
        limits = ProcessLimits(total_seconds=_LIMITS.total_seconds, output_bytes=limit_bytes)
        result = run(shell, stdout_path=destination, limits=limits)
        if not result.ok or result.truncated:
            reason = f"are over {limit_bytes} bytes" if result.truncated else f"failed: {_words(result)}"
            raise SandboxError(f"The LFS objects of the sandbox {reason}.")
        return True

    def _noted(self, key: str, default: Any) -> Any:
        try:
            return json.loads(self._note.read_text()).get(key, default)
        except (OSError, ValueError, AttributeError):
            return default


def _words(result: CommandExecutionResult) -> str:
    return result.stderr.decode("utf-8", "replace").strip()[-500:] or f"exit code {result.exit_code}"
