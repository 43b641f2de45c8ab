"""`manage.py cancel_work_order ID`: at once where nothing runs, else the worker ends the agent first."""

from workorders.management.one_order import OneOrderCommand
from workorders.services import work_orders as services


class Command(OneOrderCommand):
    help = "Cancel a work order."
    action = staticmethod(services.cancel_agent_work_order)
