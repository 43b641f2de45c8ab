"""The product's app: registers checks and, later, webhook handlers."""

from django.apps import AppConfig


class WorkOrdersConfig(AppConfig):
    name = "workorders"
    verbose_name = "Work Orders"
