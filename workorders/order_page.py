"""The read model of one order's pages: its state, its activity and its changes, as frozen values.

A constant number of queries for each value, and everything that can grow is bounded; no git, no process, no
write. Texts are as they were stored: templates make them fit to be looked at.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2s
from typing import Any, NamedTuple
from urllib.parse import quote

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from github_app.models import Repository
from workorders import progress
from workorders.errors import WorkOrderNotFound
from workorders.models import (
    AgentPrompt,
    AgentWorkOrder,
    PhaseRun,
    WorkOrderCommit,
    WorkOrderFile,
    WorkOrderLog,
)
from workorders.models.git_cache import MAX_FILES, PatchState
from workorders.progress import AGENT_RUNS, PhaseHistoryEntry, WorkOrderView
from workorders.states import ACTIVE, RETRYABLE, AgentWorkOrderStatus, PromptStatus
from workorders.workflow_definitions import StepKind, steps_of

SHOWN_COMMITS = 30
SHOWN_FILES = 60
SHOWN_FAILURES = 50
SHOWN_PROMPTS = 10
FEED_ENTRIES = 100
FEED_POLL_ENTRIES = 200
INLINE_FILES = 20
LISTED_DIFFS = 100
INLINE_CHARACTERS = 80_000
INLINE_FILE_CHARACTERS = 20_000
_TREE_DEPTH = 12
_LAST_WORDS = timedelta(seconds=15)  # what a worker buffered when the order ended still arrives
_TRAILERS = ("Work-Order:", "Work-Order-Phase:", "Agent-Session:")

# Names of log events by who speaks; the rest is the server's. tests/pages/test_detail.py holds them to the agent's.
AGENT_EVENTS = frozenset(
    f"agent_{kind}"
    for kind in ("session_started", "message", "api_retried", "result", "other", "unreadable", "truncated")
)
TOOL_EVENTS = frozenset({"agent_tool_called", "agent_tool_finished"})
_PROBLEM = Q(level__in=["warning", "error", "critical"]) | Q(
    event="agent_tool_finished", fields__is_error=True
)
FEED_KINDS: dict[str, Q] = {
    "all": Q(),
    "agent": Q(event__in=AGENT_EVENTS),
    "tools": Q(event__in=TOOL_EVENTS),
    "server": ~Q(event__in=AGENT_EVENTS | TOOL_EVENTS),
    "problems": _PROBLEM,
}


@dataclass(frozen=True)
class Links:
    """Addresses outside, https all of them, '' where there is none."""

    repository: str = ""
    branch: str = ""
    issue: str = ""
    pull_request: str = ""


@dataclass(frozen=True)
class PhaseLine:
    """One phase, begun or not; `status` is a run's, `pending` before the first, `not_started` if it never will.

    `error`: why the last run failed, where it did.
    """

    key: str
    title: str
    status: str
    started_at: datetime | None = None
    completed_at: datetime | None = None
    commits: int = 0
    attempts: int = 0
    error: str = ""

    @property
    def seconds(self) -> float | None:
        if self.started_at is None:
            return None
        return ((self.completed_at or timezone.now()) - self.started_at).total_seconds()


@dataclass(frozen=True)
class CommitLine:
    """`body`: the message below its first line, without the product's trailers. `url` '' off GitHub."""

    sha: str
    subject: str
    body: str
    url: str
    phase: str
    author_name: str
    committed_at: datetime


@dataclass(frozen=True)
class TreeRow:
    """A folder or a file of a tree, in reading order. `closes`: one item for each folder that ends after it.

    `key` names the path in element ids; `files` counts a folder's files; lines are None for binary files.
    """

    key: str
    name: str
    is_folder: bool
    lines_added: int | None
    lines_removed: int | None
    files: int = 0
    path: str = ""
    position: int = 0
    status: str = ""
    closes: range = range(0)


@dataclass(frozen=True)
class PlanText:
    path: str
    markdown: str


@dataclass(frozen=True)
class FailedTest:
    name: str
    message: str


@dataclass(frozen=True)
class TestSummary:
    """The last testing phase's `test_results.json`; `failures` lists the first of the `failed`."""

    __test__ = False  # not one of pytest's

    passed: int
    failed: int
    skipped: int
    command: str
    summary: str
    failures: tuple[FailedTest, ...]


@dataclass(frozen=True)
class PromptLine:
    key: int
    text: str
    by: str
    status: PromptStatus
    created_at: datetime


@dataclass(frozen=True)
class OrderState:
    """All a page says of an order but its log. `position` changes whenever any of it may have."""

    order: WorkOrderView
    position: str
    title: str
    issue_title: str
    repository_name: str
    is_on_github: bool
    links: Links
    phases: tuple[PhaseLine, ...]
    commits: tuple[CommitLine, ...]
    tree: tuple[TreeRow, ...]
    plan: PlanText | None
    tests: TestSummary | None
    prompts: tuple[PromptLine, ...]
    retry_at: datetime | None = field(default=None)

    @property
    def is_active(self) -> bool:
        return self.order.status in ACTIVE

    @property
    def can_retry(self) -> bool:
        return self.order.status in RETRYABLE

    @property
    def is_cancelling(self) -> bool:
        return self.is_active and self.order.cancel_requested_at is not None

    @property
    def is_complete(self) -> bool:
        return self.order.status == AgentWorkOrderStatus.COMPLETED

    @property
    def seconds(self) -> float | None:
        """How long it took, or takes so far."""
        started = self.order.execution_started_at
        if started is None:
            return None
        return ((self.order.execution_completed_at or timezone.now()) - started).total_seconds()

    @property
    def failed_phase(self) -> PhaseLine | None:
        return next((phase for phase in self.phases if phase.status == "failed"), None)

    @property
    def commits_left_out(self) -> int:
        return max(0, self.order.git_commit_count - len(self.commits))

    @property
    def files_left_out(self) -> int:
        return max(0, self.order.git_files_changed - sum(not row.is_folder for row in self.tree))


@dataclass(frozen=True)
class FeedEntry:
    """`kind` is a filter's name; `text` what was said or done, `data` the tool's input, `mono`: it is code."""

    sequence: int
    at: datetime
    kind: str
    label: str
    text: str
    is_problem: bool
    mono: bool = False
    data: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Feed:
    """Oldest first. `cursor`: what to ask for next with `after`; `earlier`: with `before`, 0 for nothing.

    `is_tail`: it reaches to the present; `is_live`: more may come.
    """

    agent_work_order_id: str
    kind: str
    entries: tuple[FeedEntry, ...]
    cursor: int
    earlier: int
    is_tail: bool
    is_live: bool


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


@dataclass(frozen=True)
class Changes:
    """`diffs` are the first files; every file is in `tree`."""

    agent_work_order_id: str
    title: str
    order: WorkOrderView
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


def position(agent_work_order_id: str) -> str:
    """The `position` of the order's state now, by one small query. Raises `WorkOrderNotFound`."""
    glance = _glance(agent_work_order_id)
    return f"{glance.version}-{glance.log_sequence}"


def order_state(agent_work_order_id: str) -> OrderState:
    """Raises `WorkOrderNotFound`."""
    row = _row(agent_work_order_id)
    commits = _commits(row)[:SHOWN_COMMITS]
    return OrderState(
        order=WorkOrderView.model_validate(row),
        position=f"{row.version}-{row.log_sequence}",
        title=_title(row),
        issue_title=row.github_issue_title,
        repository_name=row.repository.full_name,
        is_on_github=not row.repository.is_local,
        links=_links(row),
        phases=_phases(row),
        commits=tuple(_commit(row.repository, commit) for commit in commits),
        tree=file_tree(_files(row).defer("patch").order_by("path")[:SHOWN_FILES]),
        plan=_plan(row),
        tests=_tests(row),
        prompts=_prompts(row),
        retry_at=_retry_at(row),
    )


def feed(
    agent_work_order_id: str, *, kind: str = "all", after: int | None = None, before: int | None = None
) -> Feed:
    """The newest entries, or those after or before a sequence number. Raises `WorkOrderNotFound`."""
    glance = _glance(agent_work_order_id)
    pk, last = glance.pk, glance.log_sequence
    entries: list[WorkOrderLog] = []
    more = False
    kind = kind if kind in FEED_KINDS else "all"
    matching = WorkOrderLog.objects.filter(FEED_KINDS[kind], agent_work_order=pk, sequence__lte=last)
    if after is None:
        older = matching.filter(sequence__lt=before) if before else matching
        newest = list(older.order_by("-sequence")[: FEED_ENTRIES + 1])
        more = len(newest) > FEED_ENTRIES
        entries = newest[FEED_ENTRIES - 1 :: -1] if more else newest[::-1]
    elif after < last:
        entries = list(matching.filter(sequence__gt=after).order_by("sequence")[:FEED_POLL_ENTRIES])
    is_full = after is not None and len(entries) == FEED_POLL_ENTRIES
    return Feed(
        agent_work_order_id=agent_work_order_id,
        kind=kind,
        entries=tuple(_entry(row) for row in entries),
        cursor=entries[-1].sequence if is_full else last,
        earlier=entries[0].sequence if more else 0,
        is_tail=before is None,
        is_live=is_full or _is_live(glance),
    )


def changes(agent_work_order_id: str) -> Changes:
    """Raises `WorkOrderNotFound`."""
    row = _row(agent_work_order_id)
    files = list(_files(row).defer("patch").annotate(patch_length=Length("patch")))
    inline = frozenset(_inline(files[:LISTED_DIFFS]))
    patches = dict(_files(row).filter(position__in=inline).values_list("position", "patch"))
    return Changes(
        agent_work_order_id=row.agent_work_order_id,
        title=_title(row),
        order=WorkOrderView.model_validate(row),
        links=_links(row),
        tree=file_tree(files),
        diffs=tuple(_diff(file, patches.get(file.position)) for file in files[:LISTED_DIFFS]),
        commits=tuple(_commit(row.repository, commit) for commit in _commits(row)),
        listed=frozenset(file.position for file in files[:LISTED_DIFFS]),
    )


def changed_file(agent_work_order_id: str, position: int) -> ChangedFile:
    """Raises `WorkOrderNotFound`, also where the order has no such file."""
    row = _row(agent_work_order_id)
    position = min(position, MAX_FILES)  # there are no more, and databases refuse numbers of any length
    near = {file.position: file for file in _files(row).filter(position__range=(position - 1, position + 1))}
    if (file := near.get(position)) is None:
        raise WorkOrderNotFound(f"Work order {agent_work_order_id} has no changed file {position}.")
    return ChangedFile(
        agent_work_order_id=row.agent_work_order_id,
        title=_title(row),
        file=_diff(file, file.patch),
        previous=position - 1 if position - 1 in near else None,
        following=position + 1 if position + 1 in near else None,
    )


# --- the order ---


class _Glance(NamedTuple):
    pk: int
    status: str
    version: int
    log_sequence: int


def _glance(agent_work_order_id: str) -> _Glance:
    """What every open page asks for every three seconds: plain SQL, a third of the ORM's time."""
    columns = ", ".join(("id", *_Glance._fields[1:]))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} FROM {AgentWorkOrder._meta.db_table} WHERE agent_work_order_id = %s",
            [progress.known_id(agent_work_order_id)],
        )
        found = cursor.fetchone()
    if found is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id!r}.")
    return _Glance(*found)


def _is_live(glance: _Glance) -> bool:
    """Whether more entries may come: the order is active, or has only just ended."""
    if glance.status in ACTIVE:
        return True
    since = timezone.now() - _LAST_WORDS
    return AgentWorkOrder.objects.filter(pk=glance.pk, execution_completed_at__gt=since).exists()


def _row(agent_work_order_id: str) -> AgentWorkOrder:
    rows = AgentWorkOrder.objects.select_related("repository")
    row = rows.filter(agent_work_order_id=progress.known_id(agent_work_order_id)).first()
    if row is None:
        raise WorkOrderNotFound(f"There is no work order {agent_work_order_id!r}.")
    return row


def _files(row: AgentWorkOrder) -> QuerySet[WorkOrderFile]:
    return WorkOrderFile.objects.filter(agent_work_order=row.pk)


def _commits(row: AgentWorkOrder) -> QuerySet[WorkOrderCommit]:
    return WorkOrderCommit.objects.filter(agent_work_order=row.pk).order_by("-position")


def _title(row: AgentWorkOrder) -> str:
    for text in (row.github_issue_title, row.initial_prompt):
        for line in text.splitlines():
            if words := line.strip().lstrip("#").strip():
                return words if len(words) <= 120 else f"{words[:117]}…"
    return f"Issue #{row.github_issue_number}" if row.github_issue_number else row.agent_work_order_id


def _https(url: str | None) -> str:
    return url if url and url.startswith("https://") else ""


def _links(row: AgentWorkOrder) -> Links:
    base = _address(row.repository)
    pull_request = _https(row.github_pull_request_url)
    if not base:
        return Links(pull_request=pull_request)
    issue = row.github_issue_number
    return Links(
        repository=base,
        branch=f"{base}/tree/{quote(row.git_branch_name)}" if row.head_sha else "",
        issue=f"{base}/issues/{quote(issue)}" if issue else "",
        pull_request=pull_request,
    )


def _address(repository: Repository) -> str:
    if repository.is_local:
        return ""
    return f"https://{repository.host}/{quote(repository.owner)}/{quote(repository.name)}"


def _retry_at(row: AgentWorkOrder) -> datetime | None:
    """When the next attempt is due, while the order waits for it."""
    waits = row.status in ACTIVE and not row.claim_owner and row.claimable_at is not None
    return row.claimable_at if waits and row.claimable_at and row.claimable_at > timezone.now() else None


def _phases(row: AgentWorkOrder) -> tuple[PhaseLine, ...]:
    columns = (
        "sequence",
        "kind",
        "phase",
        "status",
        "started_at",
        "completed_at",
        "commits",
        "error_message",
    )
    runs = list(PhaseRun.objects.filter(agent_work_order=row.pk).only(*columns).order_by("sequence"))
    agent_runs = [run for run in runs if run.kind in AGENT_RUNS]
    history = {entry.phase: entry for entry in progress.phases_of(agent_runs)}
    errors = {run.phase: run.error_message for run in agent_runs}
    not_begun = "pending" if row.status in ACTIVE else "not_started"
    lines = [
        _phase(step.phase, step.title, history.get(step.phase), errors.get(step.phase, ""), not_begun)
        for step in steps_of(row.workflow_type)
    ]
    title = "Delivery" if row.repository.is_local else "Pull request"
    deliveries = [run for run in runs if run.kind == StepKind.DELIVERY]
    return (*lines, _delivery(title, deliveries, not_begun))


def _phase(key: str, title: str, entry: PhaseHistoryEntry | None, error: str, not_begun: str) -> PhaseLine:
    if entry is None:
        return PhaseLine(key, title, not_begun)
    return PhaseLine(
        key=key,
        title=title,
        status=entry.status,
        started_at=entry.started_at,
        completed_at=entry.completed_at,
        commits=entry.commits,
        attempts=entry.attempts,
        error=error if entry.status == "failed" else "",
    )


def _delivery(title: str, runs: list[PhaseRun], not_begun: str) -> PhaseLine:
    if not runs:
        return PhaseLine("delivery", title, not_begun)
    last = runs[-1]
    return PhaseLine(
        key="delivery",
        title=title,
        status=last.status,
        started_at=last.started_at,
        completed_at=last.completed_at,
        attempts=len(runs),
        error=last.error_message if last.status == "failed" else "",
    )


def _commit(repository: Repository, commit: WorkOrderCommit) -> CommitLine:
    base = _address(repository)
    _subject, _, rest = commit.message.partition("\n")
    body = "\n".join(line for line in rest.splitlines() if not line.startswith(_TRAILERS))
    return CommitLine(
        sha=commit.sha,
        subject=commit.subject,
        body=body.strip(),
        url=f"{base}/commit/{quote(commit.sha)}" if base else "",
        phase=commit.phase or "",
        author_name=commit.author_name,
        committed_at=commit.committed_at,
    )


def _plan(row: AgentWorkOrder) -> PlanText | None:
    runs = PhaseRun.objects.filter(agent_work_order=row.pk).exclude(plan_text="").order_by("-sequence")
    found = runs.values_list("plan_path", "plan_text").first()
    return PlanText(*found) if found else None


def _tests(row: AgentWorkOrder) -> TestSummary | None:
    runs = PhaseRun.objects.filter(agent_work_order=row.pk, tests_passed__isnull=False).order_by("-sequence")
    found = runs.values_list("tests_passed", "tests_failed", "test_results").first()
    if found is None:
        return None
    passed, failed, results = found
    results = results if isinstance(results, dict) else {}
    cases = [case for case in results.get("tests") or () if isinstance(case, dict)]
    failures = [case for case in cases if case.get("status") == "failed"]
    return TestSummary(
        passed=passed or 0,
        failed=failed or 0,
        skipped=Counter(str(case.get("status")) for case in cases)["skipped"],
        command=str(results.get("command") or ""),
        summary=str(results.get("summary") or ""),
        failures=tuple(
            FailedTest(str(case.get("name") or ""), str(case.get("message") or ""))
            for case in failures[:SHOWN_FAILURES]
        ),
    )


def _prompts(row: AgentWorkOrder) -> tuple[PromptLine, ...]:
    newest = AgentPrompt.objects.filter(agent_work_order=row.pk).order_by("-pk")[:SHOWN_PROMPTS]
    return tuple(
        PromptLine(item.pk, item.prompt_text, item.by, PromptStatus(item.status), item.created_at)
        for item in reversed(newest)
    )


# --- files ---


@dataclass
class _Folder:
    folders: dict[str, "_Folder"] = field(default_factory=dict)
    files: dict[str, WorkOrderFile] = field(default_factory=dict)

    def all_files(self) -> Iterator[WorkOrderFile]:
        yield from self.files.values()
        for folder in self.folders.values():
            yield from folder.all_files()


def file_tree(files: Iterable[WorkOrderFile]) -> tuple[TreeRow, ...]:
    """Folders first, as file browsers show them; folders that hold but one folder share a row with it."""
    root = _Folder()
    for file in files:
        *parents, name = file.path.split("/", _TREE_DEPTH)
        folder = root
        for parent in parents:
            folder = folder.folders.setdefault(parent, _Folder())
        folder.files[name] = file
    return tuple(_rows(root, "", 0))


def _rows(folder: _Folder, path: str, closes: int) -> Iterator[TreeRow]:
    """`closes`: how many folders end with this one's last row."""
    folders, files = sorted(folder.folders.items()), sorted(folder.files.items())
    left = len(folders) + len(files)
    for name, inner in folders:
        left -= 1
        while not inner.files and len(inner.folders) == 1:
            ((only, inner),) = inner.folders.items()
            name = f"{name}/{only}"
        where = f"{path}{name}/"
        below = list(inner.all_files())
        yield TreeRow(
            key=_key(where),
            name=f"{name}/",
            is_folder=True,
            files=len(below),
            lines_added=sum(file.lines_added or 0 for file in below),
            lines_removed=sum(file.lines_removed or 0 for file in below),
        )
        yield from _rows(inner, where, 1 if left else closes + 1)
    for name, file in files:
        left -= 1
        yield TreeRow(
            key=_key(file.path),
            name=name,
            is_folder=False,
            lines_added=file.lines_added,
            lines_removed=file.lines_removed,
            path=file.path,
            position=file.position,
            status=file.status,
            closes=range(0 if left else closes),
        )


def _key(path: str) -> str:
    """A short name of a path for element ids, the same at every poll."""
    return blake2s(path.encode("utf-8", "replace"), digest_size=6).hexdigest()


def _inline(files: Iterable[WorkOrderFile]) -> Iterator[int]:
    """Positions of the files whose diff the page shows at once."""
    room, places = INLINE_CHARACTERS, INLINE_FILES
    for file in files:
        length: int = getattr(file, "patch_length", 0) or 0
        if file.patch_state != PatchState.STORED or length > min(room, INLINE_FILE_CHARACTERS):
            continue
        yield file.position
        room, places = room - length, places - 1
        if not places:
            return


def _diff(file: WorkOrderFile, patch: str | None) -> FileDiff:
    view = file.patch_state
    if view == PatchState.STORED:
        view = "diff" if patch is not None else "on_request"
    return FileDiff(
        position=file.position,
        key=_key(file.path),
        path=file.path,
        status=file.status,
        lines_added=file.lines_added,
        lines_removed=file.lines_removed,
        view=view,
        patch=(patch or "") if view == "diff" else "",
    )


# --- the log ---

# What the server's events say, filled from their fields; the others are shown by name with their fields.
_SENTENCES = {
    "agent_work_order_created": "Work order created by {by}",
    "agent_work_order_started": "Work started",
    "agent_work_order_retried": "Retried by {by}",
    "agent_work_order_cancel_requested": "Cancelled by {by}; ending the agent",
    "agent_work_order_cancelled": "Work order cancelled",
    "agent_work_order_completed": "Work order completed: {outcome}",
    "agent_work_order_failed": "Work order failed: {error}",
    "agent_prompt_queued": "Prompt from {by}: {prompt_text}",
    "workflow_phase_started": "Phase {phase} started, attempt {attempt}",
    "workflow_phase_completed": "Phase {phase} {status}: {commits} commits in {duration_seconds} s",
    "workflow_phase_failed": "Phase {phase} failed: {error}",
    "workflow_phase_retry_scheduled": "Trying {phase} again in {delay_seconds} s",
    "workflow_step_put_back": "The worker stopped; phase {phase} goes on elsewhere",
    "workflow_step_adopted": "Phase {phase} was found finished in git",
    "git_branch_created": "Branch {git_branch_name} from {base_branch}",
    "git_commit_created": "Commit {git_commit_sha:.10}: {message}",
    "git_push_completed": "Pushed {git_commit_sha:.10} to {git_branch_name}",
    "sandbox_created": "Sandbox {sandbox_identifier} ready",
    "sandbox_cleanup_completed": "Sandbox {sandbox_identifier} removed",
    "agent_command_started": "Agent starts {command_name} with {model}",
    "agent_command_completed": "Agent done in {duration_seconds} s, {turns} turns",
    "agent_command_failed": "Agent failed: {error}",
    "github_pull_request_created": "Pull request opened: {pull_request_url}",
    "github_pull_request_found": "Pull request found: {pull_request_url}",
    "github_issue_commented": "Commented on issue #{issue_number}: {comment_url}",
    "github_issue_read": "Read issue #{issue_number}: {title}",
}
_LABELS = {
    "agent_message": "Agent",
    "agent_result": "Result",
    "agent_session_started": "Session",
    "agent_api_retried": "Model",
}
_DATA_CHARACTERS = 1500
_FIELDS_CHARACTERS = 400


class _Texts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def _entry(row: WorkOrderLog) -> FeedEntry:
    fields: Mapping[str, Any] = row.fields if isinstance(row.fields, dict) else {}
    is_problem = row.level in {"warning", "error", "critical"} or fields.get("is_error") is True
    if row.event in TOOL_EVENTS:
        return _tool_entry(row, fields, is_problem)
    if row.event in AGENT_EVENTS:
        label = _LABELS.get(row.event, row.event.removeprefix("agent_").replace("_", " ").capitalize())
        text = str(fields.get("summary") or "")
        return FeedEntry(row.sequence, row.timestamp, "agent", label, text, is_problem)
    return FeedEntry(
        row.sequence, row.timestamp, "server", "Server", _sentence(row.event, fields), is_problem
    )


def _tool_entry(row: WorkOrderLog, fields: Mapping[str, Any], is_problem: bool) -> FeedEntry:
    tool = str(fields.get("tool") or "tool")
    text = str(fields.get("summary") or "")
    is_call = row.event == "agent_tool_called"
    given = fields.get("input")
    data = given.items() if is_call and isinstance(given, dict) else ()
    return FeedEntry(
        sequence=row.sequence,
        at=row.timestamp,
        kind="tools",
        label=tool if is_call else f"{tool} {'failed' if is_problem else 'done'}",
        text=text.removeprefix(f"{tool}: ") if is_call else text,
        is_problem=is_problem,
        mono=True,
        data=tuple(
            (str(name), str(value)[:_DATA_CHARACTERS]) for name, value in data if str(value) not in text
        ),
    )


def _sentence(event: str, fields: Mapping[str, Any]) -> str:
    texts = _Texts({name: str(value).replace("_", " ") if name in {"outcome", "status"} else str(value)
                    for name, value in fields.items()})  # fmt: skip
    if event in _SENTENCES:
        return _SENTENCES[event].format_map(texts)
    told = ", ".join(f"{name} {value}" for name, value in fields.items() if value not in (None, ""))
    return f"{event.replace('_', ' ').capitalize()}{f': {told}' if told else ''}"[:_FIELDS_CHARACTERS]
