"""The product's app: registers checks and, later, webhook handlers."""

from importlib import import_module

from django.apps import AppConfig


class WorkOrdersConfig(AppConfig):
    name = "workorders"
    verbose_name = "Work Orders"

    def ready(self) -> None:
        import_module("workorders.checks")  # registers them
