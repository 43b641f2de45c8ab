"""The folder in which the bundle script's git works on this host: it borrows a place's refs, objects and index.

None of what an agent has set is in it. Made here and not by the script, for each process there costs more than all of
this; no agent ever sees it.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from sandboxes.errors import SandboxError
from sandboxes.sweep.bundle_script import BORROWED, BORROWING_CONFIG


@dataclass(frozen=True)
class Borrowed:
    """`variables` tell the script; `folders` must be writable for it."""

    variables: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()


NOTHING_BORROWED = Borrowed()


@contextmanager
def borrowing(root: Path, *, git_dir: Path, common_dir: Path, objects: Path) -> Iterator[Borrowed]:
    """A folder below `root`, gone afterwards. `objects`: the mirror's, for an agent may have changed the note of them.

    Raises `SandboxError` where it cannot be made.
    """
    own = root / f"sweep-{uuid4().hex}"
    try:
        try:
            own.mkdir(mode=0o700)
            (own / "config").write_text(BORROWING_CONFIG)
            for name in BORROWED:
                (own / name).symlink_to(common_dir / name)
        except OSError as error:
            raise SandboxError(f"The place's commits cannot be looked at: {error}.") from error
        variables = {
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
            "WORKORDERS_BORROWING": str(own),
            "WORKORDERS_GIT_FOLDER": str(git_dir),
            "WORKORDERS_COMMON_FOLDER": str(common_dir),
        }
        yield Borrowed(variables, (own,))
    finally:
        shutil.rmtree(own, ignore_errors=True)
