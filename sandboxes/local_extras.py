"""What a local place has of its extras on the trusted side, so that every worker that comes to it finds it.

The settings are git's "system" ones there: read-only, and in no folder that an agent, or another order, could write.
"""

import json
from pathlib import Path
from typing import Any

from sandboxes.extras import LFS_FILTER, Extras, git_settings

_SETTINGS_INSIDE = Path("/run/work-order-gitconfig")
_FILTER_INSIDE = Path("/run/work-order-lfs")


class LocalExtras:
    """`folder` is the place's trusted one, `git_dir` the checkout's own git folder."""

    def __init__(self, folder: Path, git_dir: Path, *, isolated: bool) -> None:
        self._settings = folder / "gitconfig"
        self._filter = folder / "lfs-filter"
        self._note = folder / "extras.json"
        self._own_lfs = git_dir / "lfs"
        self._isolated = isolated

    @property
    def own_lfs(self) -> str:
        """Where contents go that an agent adds."""
        return str(self._own_lfs)

    @property
    def may_hold_lfs(self) -> bool:
        """Whether the place's own git folder has contents of LFS, as far as a look from outside tells."""
        return self._filter.is_file() or self._own_lfs.is_dir()

    def write(self, extras: Extras) -> None:
        """Nothing where there are none: then no command sees anything of this."""
        if not extras:
            return
        self._filter.write_text(LFS_FILTER)
        where = _FILTER_INSIDE if self._isolated else self._filter
        text = git_settings(extras, lfs_filter=str(where), own_lfs=self.own_lfs)
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
    def submodules(self) -> tuple[str, ...]:
        """Paths of those that were put into the checkout."""
        return tuple(self._noted("submodules", []))

    @property
    def known_lfs(self) -> str:
        """The repository's contents that the place reads, '' where there are none."""
        return str(self._noted("lfs", ""))

    def _noted(self, key: str, default: Any) -> Any:
        try:
            return json.loads(self._note.read_text()).get(key, default)
        except (OSError, ValueError, AttributeError):
            return default
