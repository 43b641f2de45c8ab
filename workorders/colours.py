"""Colours the diffs of an order, once, after they were stored: a worker's short task, in a child with limits.

A file whose lexer takes too long stays plain, for good: `coloured_at` says that it was tried.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
from django.utils import timezone

from sandboxes import process
from sandboxes.process import ExitReason, ProcessLimits
from workorders import colouring
from workorders.models import WorkOrderFile
from workorders.models.git_cache import PatchState

logger = structlog.get_logger("workorders")
FILES_AT_ONCE = 50
MOST_FILES = 300  # of an order; whoever looks at the three hundred and first sees it plain
_SECONDS = 60.0
_OUTPUT_BYTES = 32 * 1024 * 1024


def colour_changes(order_pk: int) -> int:
    """How many of its files have got colours now. Safe to run twice."""
    count = 0
    waiting = WorkOrderFile.objects.filter(
        agent_work_order=order_pk,
        patch_state=PatchState.STORED,
        coloured_at__isnull=True,
        position__lt=MOST_FILES,
    )
    while files := list(waiting.only("pk", "path", "patch")[:FILES_AT_ONCE]):
        for file, html in zip(files, _coloured([(file.path, file.patch) for file in files]), strict=True):
            WorkOrderFile.objects.filter(pk=file.pk).update(coloured=html, coloured_at=timezone.now())
            count += bool(html)
    return count


def _coloured(files: Sequence[tuple[str, str]]) -> list[str]:
    """As many texts as files. One over which the child dies stays plain, and the rest is tried again."""
    found: list[str] = []
    while len(found) < len(files):
        answers, ended_well = _run(files[len(found) :])
        found += answers
        if ended_well:
            break
        path = files[len(found)][0] if len(found) < len(files) else ""
        logger.warning("diff_colouring_failed", path=path[:200])
        found.append("")
    return (found + [""] * len(files))[: len(files)]


def _run(files: Sequence[tuple[str, str]]) -> tuple[list[str], bool]:
    result = process.run(
        [sys.executable, "-I", str(Path(colouring.__file__))],
        env={"LANG": "C.UTF-8"},
        stdin=json.dumps(files).encode(),
        limits=ProcessLimits(total_seconds=_SECONDS, output_bytes=_OUTPUT_BYTES),
        nice=10,
    )
    answers: list[str] = []
    for line in result.stdout.split(b"\n"):
        try:
            answers.append(str(json.loads(line)))
        except ValueError:  # the last line may be cut
            break
    return answers, result.reason is ExitReason.EXITED and result.exit_code == 0
