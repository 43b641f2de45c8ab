"""Registers GitHub with Django; nothing happens at start."""

from django.apps import AppConfig


class GitHubAppConfig(AppConfig):
    """Repositories on GitHub and signed webhooks."""

    name = "github_app"
    verbose_name = "GitHub"
    default_auto_field = "django.db.models.BigAutoField"
