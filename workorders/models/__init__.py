"""Rows of the product. Identifiers are facts; everything read from git is a cache and can be rebuilt."""

from workorders.models.agent_work_order import AgentWorkOrder
from workorders.models.api_key import ApiKey
from workorders.models.effect import OutsideEffect
from workorders.models.git_cache import WorkOrderCommit, WorkOrderFile
from workorders.models.history import WorkOrderTransition
from workorders.models.idempotency import IdempotencyRecord
from workorders.models.logs import WorkOrderLog
from workorders.models.model_access import ModelAccess, ModelUsage
from workorders.models.phase_run import PhaseRun
from workorders.models.prompt import AgentPrompt
from workorders.models.worker import WorkerProcess
from workorders.models.written_text import WrittenText

__all__ = [
    "AgentPrompt",
    "AgentWorkOrder",
    "ApiKey",
    "IdempotencyRecord",
    "ModelAccess",
    "ModelUsage",
    "OutsideEffect",
    "PhaseRun",
    "WorkOrderCommit",
    "WorkOrderFile",
    "WorkOrderLog",
    "WorkOrderTransition",
    "WorkerProcess",
    "WrittenText",
]
