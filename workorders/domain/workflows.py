"""Workflows as ordered phases: the command each runs and the evidence each must leave in git."""

from dataclasses import dataclass
from enum import StrEnum

PLAN_FOLDER = "specs/"
TEST_RESULTS_FILE = "test_results.json"


class AgentWorkflowPhase(StrEnum):
    PLANNING = "planning"
    IMPLEMENTING = "implementing"
    TESTING = "testing"
    COMPLETED = "completed"


class AgentWorkflowType(StrEnum):
    PLAN = "agent_workflow_plan"
    BUILD = "agent_workflow_build"
    TEST = "agent_workflow_test"
    PLAN_BUILD = "agent_workflow_plan_build"
    PLAN_BUILD_TEST = "agent_workflow_plan_build_test"


WORKFLOW_ALIASES = {
    "agent_workflow_implement": AgentWorkflowType.BUILD,
    "agent_workflow_validate": AgentWorkflowType.TEST,
}


class Evidence(StrEnum):
    """What a phase must leave in the order's commits."""

    PLAN_FILE = "a plan file specs/*.md"
    CHANGE_OUTSIDE_PLANS = "a change outside specs/"
    TEST_RESULTS = "a valid test_results.json"


@dataclass(frozen=True)
class Step:
    """One phase of a workflow; `command_name` is a file of `.claude/commands` without its ending."""

    phase: AgentWorkflowPhase
    command_name: str
    evidence: Evidence
    title: str


PLAN = Step(AgentWorkflowPhase.PLANNING, "agent_workflow_plan", Evidence.PLAN_FILE, "Plan")
BUILD = Step(
    AgentWorkflowPhase.IMPLEMENTING, "agent_workflow_build", Evidence.CHANGE_OUTSIDE_PLANS, "Implementation"
)
TEST = Step(AgentWorkflowPhase.TESTING, "agent_workflow_test", Evidence.TEST_RESULTS, "Tests")

WORKFLOWS: dict[AgentWorkflowType, tuple[Step, ...]] = {
    AgentWorkflowType.PLAN: (PLAN,),
    AgentWorkflowType.BUILD: (BUILD,),
    AgentWorkflowType.TEST: (TEST,),
    AgentWorkflowType.PLAN_BUILD: (PLAN, BUILD),
    AgentWorkflowType.PLAN_BUILD_TEST: (PLAN, BUILD, TEST),
}


class StepKind(StrEnum):
    """What a claim does: a phase of the workflow, a person's follow-up prompt, or the delivery."""

    PHASE = "phase"
    FOLLOW_UP = "follow_up"
    DELIVERY = "delivery"


def steps_of(workflow_type: str) -> tuple[Step, ...]:
    return WORKFLOWS[AgentWorkflowType(workflow_type)]


def parse_workflow_type(text: str) -> AgentWorkflowType:
    """A workflow's name or one of its aliases. Raises `ValueError`."""
    return WORKFLOW_ALIASES.get(text) or AgentWorkflowType(text)


def follow_up_phase(workflow_type: str) -> AgentWorkflowPhase:
    """The phase a follow-up prompt works in: implementing where the workflow has it, else its last one."""
    phases = [step.phase for step in steps_of(workflow_type)]
    return AgentWorkflowPhase.IMPLEMENTING if AgentWorkflowPhase.IMPLEMENTING in phases else phases[-1]
