"""What the trusted side notes of a place on this host: whether there may be work in it that is in no git yet.

Kept beside the checkout, where no agent reaches it. A place without a note is half made, or all of it is in git.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class PlaceNote:
    """`start_sha`: an agent may have worked here since that commit, and nobody has taken its work.

    `left_out`: what is known to be in no git, in words. `head_sha`: a step ended well there, so the next may go on.
    """

    start_sha: str = ""
    left_out: str = ""
    head_sha: str = ""

    @property
    def holds_work(self) -> bool:
        return bool(self.start_sha or self.left_out)

    def write(self, path: Path) -> None:
        """Whole or not at all. Raises `OSError`."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)


def read_note(path: Path) -> PlaceNote:
    """An empty one where there is none; one that cannot be read says that there may be work."""
    try:
        found = json.loads(path.read_text())
        return PlaceNote(**{field.name: str(found[field.name]) for field in fields(PlaceNote)})
    except FileNotFoundError:
        return PlaceNote()
    except (OSError, ValueError, LookupError, TypeError):
        return PlaceNote(left_out="all of it, maybe: what was noted of the place cannot be read")
