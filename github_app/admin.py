"""Repositories in the admin: a person sets their defaults, protected paths and submodules; what GitHub said is shown.

Rows are made by the product's own write path, so none can be added here.
"""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.http import HttpRequest

from github_app.models import GitHubRateLimit, Repository

if TYPE_CHECKING:
    RepositoryAdminBase = admin.ModelAdmin[Repository]
    RateLimitAdminBase = admin.ModelAdmin[GitHubRateLimit]
else:
    RepositoryAdminBase = RateLimitAdminBase = admin.ModelAdmin

EDITABLE = ("protected_paths", "submodules_allowed")
DEFAULTS = ("default_sandbox_type", "default_workflow_type", "default_base_branch", "default_model")


@admin.register(Repository)
class RepositoryAdmin(RepositoryAdminBase):
    list_display = ["full_name", "default_branch", "is_accessible", "can_push", "access_verified_at"]
    list_filter = ["is_accessible", "can_push", "is_private"]
    search_fields = ["owner", "name", "repository_url"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "repository_url",
                    "host",
                    "owner",
                    "name",
                    "github_id",
                    "stored_key",
                    "created_at",
                    "updated_at",
                ]
            },
        ),
        (
            "What GitHub last said",
            {
                "fields": [
                    "default_branch",
                    "is_accessible",
                    "can_push",
                    "is_private",
                    "access_verified_at",
                    "verification_error",
                    "replaced_at",
                ]
            },
        ),
        ("Defaults of new work orders (blank: the server's)", {"fields": list(DEFAULTS)}),
        ("What a person must approve, and may let in", {"fields": list(EDITABLE)}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002  # Django's signature
        return False

    def get_readonly_fields(
        self,
        request: HttpRequest,  # noqa: ARG002  # Django's signature
        obj: Repository | None = None,  # noqa: ARG002  # Django's signature
    ) -> list[str]:
        return [field.name for field in Repository._meta.fields if field.name not in (*DEFAULTS, *EDITABLE)]


@admin.register(GitHubRateLimit)
class GitHubRateLimitAdmin(RateLimitAdminBase):
    list_display = ["host", "token_fingerprint", "not_before", "refusals", "message"]

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: GitHubRateLimit | None = None) -> bool:
        return False
