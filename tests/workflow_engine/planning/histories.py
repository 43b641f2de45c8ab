"""A language for the phase tracker's table: an order's history in a line for each commit, made by real git."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.sandboxes.trusted_git.history import Entry, History
from workorders.domain.workflows import AgentWorkflowPhase

ORDER = "wo-00000001"
P, B, T = AgentWorkflowPhase.PLANNING, AgentWorkflowPhase.IMPLEMENTING, AgentWorkflowPhase.TESTING
Files = Mapping[str | bytes, str | bytes | Entry | None]
Span = tuple[AgentWorkflowPhase, str, str]


def trailers(phase: str, order: str = ORDER) -> str:
    return f"Work-Order: {order}\nWork-Order-Phase: {phase}\nAgent-Session: s-1\n"


@dataclass
class Story:
    """One history of the many in a repository. The next commit follows the last one; `base` is there already."""

    history: History
    label: str
    head: str = ""
    upstream: str = "base"
    _trees: dict[str, Files] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add("base", files={"README.md": "# Shop\n"}, after=())

    def add(
        self,
        name: str,
        phase: str = "",
        *,
        order: str = ORDER,
        message: str = "",
        after: str | Sequence[str] | None = None,
        files: Files | None = None,
    ) -> str:
        """A commit with a file of one line named like it; with a phase it carries the order's trailers.

        A merge holds the files of all its parents.
        """
        text = message or f"Commit {name}\n" + (f"\n{trailers(phase, order)}" if phase else "")
        parents = [self.head] if after is None else [after] if isinstance(after, str) else list(after)
        changed: Files = {}
        for parent in parents[1:]:
            changed = {**changed, **self._trees[parent]}
        changed = {**changed, **({name: "line\n"} if files is None else files)}
        self.history.commit(
            self._full(name), text, after=[self._full(item) for item in parents], files=changed
        )
        inherited = self._trees[parents[0]] if parents else {}
        self._trees[name] = {**inherited, **changed}
        self.head = name
        return name

    def write(self) -> None:
        self.history.write()

    def sha(self, name: str) -> str:
        return self.history.shas[self._full(name)]

    @property
    def path(self) -> Path:
        return self.history.path

    def names(self) -> dict[str, str]:
        """Every commit's name by its sha."""
        return {self.sha(name): name for name in self._trees}

    def _full(self, name: str) -> str:
        return f"{self.label}: {name}"


@dataclass(frozen=True)
class Case:
    """A history and what a user would say of it. `counts`: files changed, lines added, lines removed."""

    description: str
    build: Callable[[Story], Sequence[Span]]
    phases: Mapping[AgentWorkflowPhase | None, Sequence[str]] = field(default_factory=dict)
    current: AgentWorkflowPhase | None = None
    counts: tuple[int, int, int] | None = None
