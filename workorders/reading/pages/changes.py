"""What an order changed: all its files, the diffs of the first ones, and each file's diff by itself."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.models.functions import Length

from workorders.domain.errors import ChangedFileNotFound
from workorders.domain.states import ShownState
from workorders.models import WorkOrderFile
from workorders.models.git_cache import MAX_FILES, PatchState
from workorders.models.shown_state import shown_state
from workorders.reading.pages.commits import CommitLine, commit_line
from workorders.reading.pages.file_tree import TreeRow, file_tree, path_key
from workorders.reading.pages.naming import Links, links, order_title
from workorders.reading.pages.rows import commits_of, files_of, order_row
from workorders.reading.progress import WorkOrderView

INLINE_FILES = 20
LISTED_DIFFS = 100
INLINE_CHARACTERS = 80_000
INLINE_FILE_CHARACTERS = 20_000
INLINE_LINES = 3000


@dataclass(frozen=True)
class FileDiff:
    """`view`: `diff`, `on_request` (its own address has it), or why there is none: `binary`, `too_large`, `pending`."""

    position: int
    key: str
    path: str
    status: str
    lines_added: int | None
    lines_removed: int | None
    view: str
    patch: str = ""
    coloured: str = ""


@dataclass(frozen=True)
class Changes:
    """`diffs` are the first files; every file is in `tree`."""

    agent_work_order_id: str
    title: str
    order: WorkOrderView
    state: ShownState
    links: Links
    tree: tuple[TreeRow, ...]
    diffs: tuple[FileDiff, ...]
    commits: tuple[CommitLine, ...]
    listed: frozenset[int]


@dataclass(frozen=True)
class ChangedFile:
    """One file and its neighbours' positions."""

    agent_work_order_id: str
    title: str
    file: FileDiff
    previous: int | None
    following: int | None


def changes(agent_work_order_id: str) -> Changes:
    """Raises `WorkOrderNotFound`."""
    row = order_row(agent_work_order_id)
    files = list(files_of(row).defer("patch", "coloured").annotate(patch_length=Length("patch")))
    inline = frozenset(_inline(files[:LISTED_DIFFS]))
    shown = {file.position: file for file in files_of(row).filter(position__in=inline)}
    return Changes(
        agent_work_order_id=row.agent_work_order_id,
        title=order_title(row.github_issue_title, row.initial_prompt, row.github_issue_number),
        order=WorkOrderView.model_validate(row),
        state=shown_state(row),
        links=links(row),
        tree=file_tree(files),
        diffs=tuple(diff_of(file, shown.get(file.position)) for file in files[:LISTED_DIFFS]),
        commits=tuple(commit_line(row.repository, commit) for commit in commits_of(row)),
        listed=frozenset(file.position for file in files[:LISTED_DIFFS]),
    )


def changed_file(agent_work_order_id: str, position: int) -> ChangedFile:
    """Raises `WorkOrderNotFound`, also where the order has no such file."""
    row = order_row(agent_work_order_id)
    position = min(position, MAX_FILES)  # there are no more, and databases refuse numbers of any length
    near = {
        file.position: file for file in files_of(row).filter(position__range=(position - 1, position + 1))
    }
    if (file := near.get(position)) is None:
        raise ChangedFileNotFound(f"Work order {agent_work_order_id} has no changed file {position}.")
    return ChangedFile(
        agent_work_order_id=row.agent_work_order_id,
        title=order_title(row.github_issue_title, row.initial_prompt, row.github_issue_number),
        file=diff_of(file, file),
        previous=position - 1 if position - 1 in near else None,
        following=position + 1 if position + 1 in near else None,
    )


def _inline(files: Iterable[WorkOrderFile]) -> Iterator[int]:
    """Positions of the files whose diff the page shows at once."""
    room, lines_left, places = INLINE_CHARACTERS, INLINE_LINES, INLINE_FILES
    for file in files:
        length: int = getattr(file, "patch_length", 0) or 0
        lines = (file.lines_added or 0) + (file.lines_removed or 0)
        if file.patch_state != PatchState.STORED or length > min(room, INLINE_FILE_CHARACTERS):
            continue
        if lines > lines_left:
            continue
        yield file.position
        room, lines_left, places = room - length, lines_left - lines, places - 1
        if not places:
            return


def diff_of(file: WorkOrderFile, whole: WorkOrderFile | None) -> FileDiff:
    """`whole`: the same with its patch; None: that is shown at its own address."""
    view = file.patch_state
    if view == PatchState.STORED:
        view = "diff" if whole is not None else "on_request"
    return FileDiff(
        position=file.position,
        key=path_key(file.path),
        path=file.path,
        status=file.status,
        lines_added=file.lines_added,
        lines_removed=file.lines_removed,
        view=view,
        patch=whole.patch if whole is not None and view == "diff" else "",
        coloured=whole.coloured if whole is not None and view == "diff" else "",
    )
