"""`manage.py continue_work_order ID`: a waiting order goes on now, before its time."""

from workorders.management.one_order import OneOrderCommand
from workorders.services import work_orders as services


class Command(OneOrderCommand):
    help = "End a work order's wait before its time."
    action = staticmethod(services.continue_agent_work_order)
