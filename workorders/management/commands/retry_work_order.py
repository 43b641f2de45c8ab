"""`manage.py retry_work_order ID`: a failed or cancelled order goes on from its first unfinished phase."""

from workorders.management.one_order import OneOrderCommand
from workorders.services import work_orders as services


class Command(OneOrderCommand):
    help = "Continue a failed or cancelled work order."
    action = staticmethod(services.retry_agent_work_order)
