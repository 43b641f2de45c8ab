"""What can be chosen for an order: sandboxes and workflows as cards."""

from dataclasses import dataclass

from django.conf import settings

from sandboxes.kinds import SandboxType
from workorders.domain.workflows import WORKFLOWS, AgentWorkflowPhase, AgentWorkflowType


@dataclass(frozen=True)
class SandboxCard:
    value: str
    name: str
    description: str
    tag: str
    icon: str
    missing_setting: str


@dataclass(frozen=True)
class PhaseChip:
    name: str
    icon: str


@dataclass(frozen=True)
class WorkflowCard:
    value: str
    name: str
    description: str
    phases: tuple[PhaseChip, ...]


_SANDBOXES = {
    SandboxType.GIT_BRANCH: (
        "Git branch",
        "A private clone on its own branch. Simple and fast.",
        "Recommended",
        "git-branch",
    ),
    SandboxType.GIT_WORKTREE: (
        "Git worktree",
        "A worktree with its history beside it, out of the way of its files.",
        "Parallel-safe",
        "stack-2",
    ),
    SandboxType.E2B: ("E2B", "A cloud sandbox, fully isolated from this server.", "Cloud", "cloud"),
    SandboxType.DAGGER: ("Dagger", "A container, reproducible on any machine.", "Container", "box"),
}
_CHIPS = {
    AgentWorkflowPhase.PLANNING: PhaseChip("Plan", "map"),
    AgentWorkflowPhase.IMPLEMENTING: PhaseChip("Build", "hammer"),
    AgentWorkflowPhase.TESTING: PhaseChip("Test", "test-pipe"),
}
_WORKFLOW_NOTES = {
    AgentWorkflowType.PLAN: "A written plan to review, and no code.",
    AgentWorkflowType.BUILD: "The change itself, without a plan first.",
    AgentWorkflowType.TEST: "Runs the tests and records their results.",
    AgentWorkflowType.PLAN_BUILD: "A plan, then the change that follows it.",
    AgentWorkflowType.PLAN_BUILD_TEST: "Plan, change and test results: a whole pull request.",
}


def sandbox_cards() -> tuple[SandboxCard, ...]:
    """All four; `missing_setting` names what keeps one from being chosen."""
    missing = settings.WORKORDERS_SANDBOX_PROVIDERS.missing_setting
    return tuple(
        SandboxCard(kind.value, *_SANDBOXES[kind], missing_setting=missing(kind)) for kind in SandboxType
    )


def workflow_cards() -> tuple[WorkflowCard, ...]:
    """The longest first: it is the whole job."""
    kinds = sorted(WORKFLOWS, key=lambda kind: -len(WORKFLOWS[kind]))
    return tuple(
        WorkflowCard(kind.value, workflow_name(kind), _WORKFLOW_NOTES[kind], _chips(kind)) for kind in kinds
    )


def workflow_name(kind: AgentWorkflowType) -> str:
    """As `Plan + Build`."""
    return " + ".join(chip.name for chip in _chips(kind))


def _chips(kind: AgentWorkflowType) -> tuple[PhaseChip, ...]:
    return tuple(_CHIPS[step.phase] for step in WORKFLOWS[kind])
