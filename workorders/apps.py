"""The product's app: registers checks and, later, webhook handlers."""

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings

from workorders.text import redaction


class WorkOrdersConfig(AppConfig):
    name = "workorders"
    verbose_name = "Work Orders"

    def ready(self) -> None:
        import_module("workorders.checks")  # registers them
        redaction.register(*settings.WORKORDERS_SECRETS)
