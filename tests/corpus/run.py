"""Runs an order with the rehearsal agent on each repository of the corpus, in each local sandbox, and holds the law.

The law, for every order: main and every other ref stay as they were; the order's branch descends from the base and
differs from it in exactly the files the rehearsal agent makes, entry for entry of git's trees; nothing was left out or
set aside; nothing of the order is left on the machine; and it completed, or failed for the reason `ENDS` names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.corpus.maker import Maker
from tests.corpus.shapes import ENDS, SHAPES
from tests.e2e.harness import FINISHED, Json, LiveServer, wait_for
from tests.e2e.law import agent_processes, sandboxes_left, worktrees

SANDBOXES = ("git_branch", "git_worktree")
ORDER_SECONDS = 90.0
_LOUD = {
    "sandbox_work_left_out",
    "sandbox_kept",
    "sandbox_work_lost",
    "sandbox_not_emptied",
    "git_mirror_repaired",
}


@dataclass
class Case:
    """One order. `refs` are those of its repository before anything ran."""

    name: str
    sandbox_type: str
    to: Maker
    refs: dict[str, str]
    order: Json
    findings: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.name} in {self.sandbox_type}"


def run_corpus(
    folder: Path,
    *,
    names: Sequence[str] = tuple(SHAPES),
    sandboxes: Sequence[str] = SANDBOXES,
    say: Callable[[str], None] = lambda _line: None,
) -> list[str]:
    """What was found against the law, a sentence each; an empty list is what is wanted."""
    environment = {"WORKORDERS_ALLOW_LOCAL_REPOSITORIES": "true", "WORKORDERS_WORKERS": "4"}
    findings: list[str] = []
    with LiveServer(folder / "server", environment) as server:
        cases = [_begin(server, folder / "remotes", name, kind) for name in names for kind in sandboxes]
        for case in cases:
            _judge(server, case)
            say(f"{'ok ' if not case.findings else 'BAD'} {case.title}")
            findings += [f"{case.title}: {words}" for words in case.findings]
        findings += _nothing_left(server)
    return findings


def _begin(server: LiveServer, remotes: Path, name: str, sandbox_type: str) -> Case:
    to = Maker(remotes / sandbox_type / f"{name}.git")
    SHAPES[name](to)
    order = server.create(
        repository_url=str(to.path), sandbox_type=sandbox_type, initial_prompt="Rehearse it."
    )
    return Case(name, sandbox_type, to, to.refs(), order)


def _judge(server: LiveServer, case: Case) -> None:
    order_id = case.order["agent_work_order_id"]

    def ended() -> Json | None:
        found = server.order(order_id)
        return found if found["status"] in FINISHED else None

    case.order = wait_for(ended, ORDER_SECONDS, f"the end of {case.title}\n{server.tail()}")
    branch = f"refs/heads/{case.order['git_branch_name']}"
    refs = case.to.refs()
    if {name: sha for name, sha in refs.items() if name != branch} != case.refs:
        case.findings.append("a ref that is not the order's has changed")
    if case.name in ENDS:
        _judge_refusal(case, refs, branch)
        return
    if case.order["status"] != "completed":
        told = (case.order["error_category"], case.order["error_message"], case.order["error_advice"])
        case.findings.append(f"{case.order['status']}: {told}")
        return
    _judge_branch(case, case.refs[f"refs/heads/{case.to.branch}"], refs.get(branch, ""), order_id)
    events = server.events(order_id)
    loud = [entry for entry in server.logs(order_id) if entry["event"] in _LOUD and entry["level"] != "info"]
    if loud:
        case.findings.append(f"the log has {[(entry['event'], entry['message']) for entry in loud]}")
    if events.count("agent_command_started") != 3:
        case.findings.append(f"the agent was started {events.count('agent_command_started')} times, not 3")


def _judge_refusal(case: Case, refs: dict[str, str], branch: str) -> None:
    if (case.order["status"], case.order["error_category"]) != ("failed", ENDS[case.name]):
        case.findings.append(f"{case.order['status']} {case.order['error_category']}, not {ENDS[case.name]}")
    if not case.order["error_message"] or not case.order["error_advice"]:
        case.findings.append("no message or no advice")
    if branch in refs:
        case.findings.append("a branch was pushed")


def _judge_branch(case: Case, base: str, head: str, order_id: str) -> None:
    if not head:
        case.findings.append("no branch on the remote")
        return
    before, after = _entries(case.to, base), _entries(case.to, head)
    mine = {f"specs/plan-{order_id}.md", f"rehearsal/{order_id}.md", "test_results.json"}
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    if changed != mine:
        case.findings.append(
            f"files differ: too many {sorted(changed - mine)[:9]}, too few {sorted(mine - changed)}"
        )
    if case.to.git("merge-base", base, head) != base:
        case.findings.append("the branch does not descend from the base")
    subjects = case.to.git("log", "--format=%s", f"{base}..{head}").splitlines()
    if len(subjects) != 4 or not all(subject.startswith("rehearsal: ") for subject in subjects):
        case.findings.append(f"commits that are not the agent's four: {subjects}")
    if case.order["git_commit_count"] != 4:
        case.findings.append(f"the order says {case.order['git_commit_count']} commits")


def _entries(to: Maker, commit: str) -> dict[str, str]:
    """Path → mode and object of the whole tree."""
    lines = to.git("ls-tree", "-r", "-z", commit).split("\0")
    return {path: entry for entry, _, path in (line.partition("\t") for line in lines if line)}


def _nothing_left(server: LiveServer) -> list[str]:
    looks: dict[str, Callable[[Path], Sequence[object]]] = {
        "processes": agent_processes,
        "places": sandboxes_left,
        "worktrees": worktrees,
    }
    found = []
    for what, look in looks.items():
        try:
            wait_for(partial(_is_empty, look, server.data_dir), 75, what)
        except AssertionError:
            found.append(f"{what} are left: {look(server.data_dir)}")
    kept = sorted(path.name for path in (server.data_dir / "kept").glob("*"))
    return [*found, *([f"places were set aside: {kept}"] if kept else [])]


def _is_empty(look: Callable[[Path], Sequence[object]], data_dir: Path) -> bool:
    return not look(data_dir)
