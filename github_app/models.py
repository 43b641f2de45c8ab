"""The repositories this server works on: their name, what GitHub last said of them, and their defaults.

What GitHub said is a cache with a time; only the verification writes it. Knows no work orders, asks nobody.
"""

from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from github_app.protected_paths import DEFAULT_PROTECTED_PATHS, parse_patterns
from github_app.references import RepositoryReference
from github_app.submodule_addresses import parse_allowed


def validate_patterns(text: str) -> None:
    """For forms of Django's own, such as the admin's."""
    try:
        parse_patterns(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def validate_allowed(text: str) -> None:
    """For forms of Django's own, such as the admin's."""
    try:
        parse_allowed(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error


class Repository(models.Model):
    """One repository, on GitHub (`host`, `owner`, `name`) or a local folder (both `host` and `owner` empty).

    `repository_url` is `RepositoryReference.repository_url`. A blank default means the server's own. What it *is* on
    GitHub is `github_id`; owner and name are labels: they follow a rename or transfer (`workorders.repositories.rows`).
    """

    host = models.CharField(max_length=253, blank=True)
    github_id = models.BigIntegerField(
        "GitHub's id", null=True, blank=True, help_text="stays through renames; empty until it was verified"
    )
    owner = models.CharField(max_length=39, blank=True)
    name = models.CharField(max_length=255)
    repository_url = models.CharField("repository URL", max_length=512)
    stored_key = models.CharField(
        max_length=400,
        blank=True,
        help_text="where its mirror is in the data folder, whatever its name is now",
    )
    replaced_at = models.DateTimeField(
        null=True, blank=True, help_text="since when another repository has its name; only the id leads to it"
    )

    default_branch = models.CharField(max_length=255, blank=True)
    is_accessible = models.BooleanField(default=False)
    can_push = models.BooleanField(default=False)
    is_private = models.BooleanField(default=False)
    access_verified_at = models.DateTimeField(null=True, blank=True)
    verification_error = models.TextField(blank=True)
    verification_requested_at = models.DateTimeField(
        null=True, blank=True, help_text="empty: none is under way"
    )

    verification_unanswered = models.BooleanField(
        default=False,
        db_default=False,
        help_text="the last check got no answer: what is known is from before",
    )

    issues_requested_at = models.DateTimeField(null=True, blank=True, help_text="empty: none is under way")
    issues_fetched_at = models.DateTimeField(null=True, blank=True)
    issues_error = models.TextField(blank=True)

    default_sandbox_type = models.CharField(max_length=32, blank=True)
    default_workflow_type = models.CharField(max_length=64, blank=True)
    default_base_branch = models.CharField(max_length=200, blank=True)
    default_model = models.CharField(max_length=128, blank=True)
    protected_paths = models.TextField(
        blank=True,
        default=DEFAULT_PROTECTED_PATHS,
        validators=[validate_patterns],
        help_text="One pattern a line, as in .gitignore. A person must approve a commit that changes such a path.",
    )
    submodules_allowed = models.TextField(
        blank=True,
        default="",
        validators=[validate_allowed],
        help_text="One owner/name a line: private repositories, connected here, that may be fetched as submodules.",
    )

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "repositories"
        ordering = ["repository_url"]
        constraints = [
            models.UniqueConstraint(
                Lower("host"),
                Lower("owner"),
                Lower("name"),
                condition=~Q(host="") & Q(replaced_at__isnull=True),
                name="repository_unique_ignoring_case",
                violation_error_message="This repository is known already; GitHub ignores case in names.",
            ),
            models.UniqueConstraint(
                fields=["repository_url"],
                condition=Q(replaced_at__isnull=True),
                name="repository_url_unique",
            ),
            models.UniqueConstraint(
                Lower("host"),
                "github_id",
                condition=Q(github_id__isnull=False),
                name="repository_github_id_unique",
            ),
            models.UniqueConstraint(
                fields=["stored_key"], condition=~Q(stored_key=""), name="repository_stored_key_unique"
            ),
            models.CheckConstraint(
                condition=(
                    (Q(owner="") & Q(host="") & Q(repository_url__startswith="/"))
                    | (~Q(owner="") & ~Q(host="") & Q(repository_url__startswith="https://"))
                )
                & ~Q(name=""),
                name="repository_named_or_local",
            ),
            models.CheckConstraint(
                condition=~Q(owner__startswith="-") & ~Q(name__startswith="-"),
                name="repository_name_is_no_option",
            ),
            models.CheckConstraint(
                condition=~Q(default_branch__startswith="-") & ~Q(default_base_branch__startswith="-"),
                name="repository_branch_is_no_option",
            ),
            models.CheckConstraint(
                condition=Q(is_accessible=True) | Q(can_push=False),
                name="repository_push_needs_access",
            ),
            models.CheckConstraint(
                condition=Q(is_accessible=False) | Q(access_verified_at__isnull=False),
                name="repository_access_has_a_time",
            ),
        ]

    def __str__(self) -> str:
        return self.full_name

    @property
    def full_name(self) -> str:
        """ "owner/name" on GitHub, the path for a local folder."""
        return f"{self.owner}/{self.name}" if self.owner else self.repository_url

    @property
    def is_local(self) -> bool:
        return not self.host

    @property
    def reference(self) -> RepositoryReference:
        """As the row was stored, whatever the settings allow now."""
        path = Path(self.repository_url) if self.is_local else None
        return RepositoryReference(self.host, self.owner, self.name, path)

    @property
    def mirror_key(self) -> str:
        """The relative path under which this server keeps the repository: the same through all its names."""
        return self.stored_key or str(self.reference.key)


class OpenIssue(models.Model):
    """An open issue as GitHub listed it last, newest first by `position`; title and labels are a stranger's text."""

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="open_issues")
    position = models.PositiveIntegerField()
    number = models.PositiveIntegerField()
    title = models.TextField()
    labels = models.JSONField(default=list, help_text="their names")

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["repository", "number"], name="open_issue_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="open_issue_is_number"),
        ]

    def __str__(self) -> str:
        return f"#{self.number} {self.title}"


class GitHubRateLimit(models.Model):
    """GitHub asked everybody who uses this token to wait until `not_before`; shared by all workers and hosts.

    `refusals` counts those in a row for which GitHub did not say how long, so that the pauses grow.
    """

    host = models.CharField(max_length=253)
    token_fingerprint = models.CharField(max_length=16)
    not_before = models.DateTimeField()
    refusals = models.PositiveIntegerField(default=0)
    message = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "GitHub rate limit"
        constraints = [
            models.UniqueConstraint(fields=["host", "token_fingerprint"], name="rate_limit_once"),
        ]

    def __str__(self) -> str:
        return f"{self.host} until {self.not_before:%Y-%m-%d %H:%M:%S}"
