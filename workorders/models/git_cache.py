"""What git says of an order, kept for the pages: commits, changed files and their patches. Rebuilt from git."""

from django.db import models
from django.db.models import Q

from workorders.domain.workflows import AgentWorkflowPhase
from workorders.models.fields import RedactedCharField, RedactedTextField

MAX_COMMITS = 500
MAX_FILES = 2000
MOST_COLOURED = 300  # files of an order; whoever looks at the three hundred and first sees it plain


class PatchState(models.TextChoices):
    """Whether a file's patch is here. `pending`: the step is still running."""

    STORED = "stored"
    BINARY = "binary"
    TOO_LARGE = "too_large"
    PENDING = "pending"


# The condition of an index, which serves queries that ask for it in these words.
WAITS_FOR_COLOURS = Q(coloured_at__isnull=True, patch_state="stored", position__lt=MOST_COLOURED)


class WorkOrderCommit(models.Model):
    """One of the order's own commits; `position` counts from 1, oldest first."""

    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="git_commits"
    )
    position = models.PositiveIntegerField()
    sha = models.CharField(max_length=64)
    message = RedactedTextField()
    author_name = RedactedCharField(max_length=200)
    committed_at = models.DateTimeField()
    phase = models.CharField(
        max_length=20, choices=[(item.value, item.value) for item in AgentWorkflowPhase], null=True
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["agent_work_order", "position"], name="commit_position")
        ]

    def __str__(self) -> str:
        return f"{self.sha[:10]} {self.subject}"

    @property
    def subject(self) -> str:
        return self.message.split("\n", 1)[0]


class WorkOrderFile(models.Model):
    """One changed file; lines are null for binary files, `status` is git's letter, `patch` a unified diff."""

    agent_work_order = models.ForeignKey(
        "workorders.AgentWorkOrder", on_delete=models.CASCADE, related_name="git_files"
    )
    position = models.PositiveIntegerField()
    path = RedactedTextField()
    status = models.CharField(max_length=1)
    lines_added = models.PositiveIntegerField(null=True)
    lines_removed = models.PositiveIntegerField(null=True)
    patch = RedactedTextField(blank=True)
    patch_state = models.CharField(max_length=10, choices=PatchState.choices, default=PatchState.PENDING)
    coloured = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="the HTML of each line of the patch; empty: it is shown plain",
    )
    coloured_at = models.DateTimeField(null=True, blank=True, help_text="empty: nobody has tried yet")

    class Meta:
        ordering = ["position"]
        indexes = [
            models.Index(
                fields=["-agent_work_order", "position"],
                name="file_waits_for_colours",
                condition=WAITS_FOR_COLOURS,
            )
        ]
        constraints = [models.UniqueConstraint(fields=["agent_work_order", "position"], name="file_position")]

    def __str__(self) -> str:
        return self.path
