"""Commits, files and other rows of an order for the tests of its pages."""

from django.utils import timezone

from workorders.models import AgentWorkOrder, WorkOrderCommit, WorkOrderFile
from workorders.models.git_cache import PatchState

PATCH = """diff --git a/x.py b/x.py
--- a/x.py
+++ b/x.py
@@ -1,2 +1,2 @@ def greet
 import os
-x = 1
+x = 2
"""


def add_commits(order: AgentWorkOrder, number: int, message: str = "feat: a step") -> None:
    WorkOrderCommit.objects.bulk_create(
        WorkOrderCommit(
            agent_work_order=order,
            position=position,
            sha=f"{position:040x}",
            message=message,
            author_name="Agent",
            committed_at=timezone.now(),
            phase="planning",
        )
        for position in range(1, number + 1)
    )
    AgentWorkOrder.objects.filter(pk=order.pk).update(git_commit_count=number)


def add_files(
    order: AgentWorkOrder, *paths: str, patch: str = PATCH, state: PatchState = PatchState.STORED
) -> None:
    is_binary = state is PatchState.BINARY
    WorkOrderFile.objects.bulk_create(
        WorkOrderFile(
            agent_work_order=order,
            position=position,
            path=path,
            status="M",
            lines_added=None if is_binary else 1,
            lines_removed=None if is_binary else 1,
            patch=patch if state is PatchState.STORED else "",
            patch_state=state,
        )
        for position, path in enumerate(paths)
    )
    AgentWorkOrder.objects.filter(pk=order.pk).update(git_files_changed=len(paths))
