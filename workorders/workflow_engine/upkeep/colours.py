"""Colours stored diffs, once, when their orders have ended or wait for approval: a worker's short task, in a child.

No order asks for it: a cluster's housekeeping looks for what waits, so that orders that end together share a child.
A file whose lexer takes too long stays plain, for good: `coloured_at` says that it was tried.
"""

import json
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import structlog
from django.db.models import Q, QuerySet
from django.utils import timezone

from sandboxes.processes import run as process
from sandboxes.processes.run import ExitReason, ProcessLimits
from workorders.domain.states import FINISHED, NEEDS_DECISION
from workorders.models import WorkOrderFile
from workorders.models.git_cache import WAITS_FOR_COLOURS
from workorders.queueing import queue

logger = structlog.get_logger("workorders")
COLOUR_TASK = "workorders.tasks.colour_changes"
FILES_AT_ONCE = 50
LOST_AFTER = timedelta(minutes=1)
_RUN_SECONDS = 20.0  # no child begins after that: verifications and the like wait for the same workers
_SECONDS = 40.0
# The program bounds its own processor time: where that was not to be had in so long, the machine is busy.
_NO_FILES_FAULT = frozenset({ExitReason.TIMED_OUT, ExitReason.STOPPED})
_OUTPUT_BYTES = 32 * 1024 * 1024
_PROGRAM = Path(__file__).with_name("colouring.py")  # not imported: its lexers are for the child only
# Files of orders that go on are replaced with their next step. Of the others all, so that none is looked at for ever.
_KEPT = Q(agent_work_order__status__in=sorted(FINISHED)) | Q(
    agent_work_order__waiting_reason__in=sorted(NEEDS_DECISION)
)


def waiting() -> QuerySet[WorkOrderFile]:
    """Files that nobody has tried to colour, the newest orders' first."""
    return WorkOrderFile.objects.filter(WAITS_FOR_COLOURS, _KEPT).order_by("-agent_work_order_id", "position")


def issue_missing_task() -> bool:
    """Have a worker colour what waits, unless one was asked to already; whether one was asked now."""
    if not waiting().exists() or queue.is_outstanding(COLOUR_TASK, lost_after=LOST_AFTER):
        return False
    queue.run_short_task(COLOUR_TASK)
    return True


def colour_changes() -> int:
    """How many files have got colours now, of what waits or of as many as take a while. Safe to run twice."""
    count, deadline = 0, time.monotonic() + _RUN_SECONDS
    while time.monotonic() < deadline:
        files = list(waiting().only("pk", "path", "patch")[:FILES_AT_ONCE])
        if not files:
            break
        for file, html in zip(files, _coloured([(file.path, file.patch) for file in files]), strict=False):
            untried = WorkOrderFile.objects.filter(pk=file.pk, coloured_at__isnull=True)
            if untried.update(coloured=html, coloured_at=timezone.now()) and html:
                count += 1
    return count


def _coloured(files: Sequence[tuple[str, str]]) -> list[str]:
    """A text a file, from the first on. One over which the child dies stays plain; those after it wait on."""
    result = process.run(
        [sys.executable, "-I", str(_PROGRAM)],
        env={"LANG": "C.UTF-8"},
        stdin=json.dumps(files).encode(),
        limits=ProcessLimits(total_seconds=_SECONDS, output_bytes=_OUTPUT_BYTES),
        nice=10,
    )
    answers = _answers(result.stdout)
    missing = files[len(answers) :]
    if result.reason is ExitReason.EXITED and result.exit_code == 0:
        return answers + [""] * len(missing)
    path = missing[0][0] if missing else ""
    logger.warning("diff_colouring_failed", reason=str(result.reason), path=path[:200])
    return answers if result.reason in _NO_FILES_FAULT else [*answers, ""]


def _answers(stdout: bytes) -> list[str]:
    answers: list[str] = []
    for line in stdout.split(b"\n"):
        try:
            answers.append(str(json.loads(line)))
        except ValueError:  # the last line may be cut
            break
    return answers
