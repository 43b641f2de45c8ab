"""One claimed step at work: what everybody who works on it shares."""

from dataclasses import dataclass

from workorders.workflow_engine.claims.control import StepControl
from workorders.workflow_engine.parts.engine import EngineParts
from workorders.workflow_engine.planning.step_plan import StepPlan
from workorders.workflow_engine.record.journal import StepJournal
from workorders.workflow_engine.record.recorder import StepLogger


@dataclass(frozen=True)
class ClaimedStep:
    """What is to be done (`plan`), with what (`parts`), where it is written down, and who may stop it."""

    parts: EngineParts
    journal: StepJournal
    log: StepLogger
    control: StepControl
    plan: StepPlan

    def crash_point(self, name: str) -> None:
        """Where tests have the process die."""
        self.parts.crash_point(name, self.plan.order.git_branch_name)
