"""Delivered orders on a fake GitHub, and what people do to their branches and pull requests afterwards.

What is done is done by real git; the engine that goes on is the real one, with real gh and the scripted agent.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxes.trusted_git.mirror import RepositoryMirror
from tests.factories import make_order, make_run
from tests.fakes.git_http import FakeGitServer, branches, git
from tests.fakes.github import FakeGitHub, PullRequest, Repository
from tests.workflow_engine.engine import finished, running_engine
from workorders import wiring
from workorders.domain.states import EffectKind, EffectState
from workorders.domain.workflows import AgentWorkflowPhase, AgentWorkflowType, StepKind
from workorders.models import AgentPrompt, AgentWorkOrder
from workorders.models.clock import database_now
from workorders.services import work_orders as services
from workorders.workflow_engine.place.salvage import kept_ref

TOKEN = "ghp_lifeTestToken0123456789abcdefghijklm"
COMMIT = "agent: commit more.txt\nagent: nothing"
QUESTION = "agent: nothing"
_PERSON = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")


@dataclass
class Life:
    """One repository, one person with a clone of it, and the orders they made."""

    folder: Path
    git: FakeGitServer
    github: FakeGitHub
    repository: Repository
    bare: Path
    theirs: list[str] = field(default_factory=list)
    """Commits the person made; each must stay reachable."""

    @property
    def clone(self) -> Path:
        return self.folder / "ann"

    def person(self, *arguments: str) -> str:
        return git("-C", str(self.clone), *_PERSON, *arguments)

    # --- an order that was delivered ---

    def delivered(
        self, *, base: str = "main", draft: bool = False, pr: bool = True, **values: Any
    ) -> AgentWorkOrder:
        """A completed build with one commit of its own, pushed, and its pull request."""
        request = f'agent: run echo "$WORKORDERS_PHASE" >> {self.folder / "starts"}'
        fields = {"workflow_type": AgentWorkflowType.BUILD, "initial_prompt": request, **values}
        order = make_order(repository="acme/widgets", base_branch=base, **fields)
        branch, base_sha = order.git_branch_name, self.sha(base)
        self.person("fetch", "-q", "origin")
        self.person("checkout", "-q", "-B", branch, base_sha)
        for name in ("one", "two"):
            (self.clone / f"{name}-{order}.txt").write_text(f"{name}\n")
            self.person("add", "-A")
            trailers = f"Work-Order: {order}\nWork-Order-Phase: implementing\nAgent-Session: s"
            self.person("commit", "-q", "-m", f"Change {name}\n\n{trailers}")
        self.person("push", "-q", "origin", branch)
        head = self.sha(branch)
        phase = AgentWorkflowPhase.IMPLEMENTING
        make_run(order, phase, start_sha=base_sha, end_sha=head)
        make_run(order, phase, kind=StepKind.DELIVERY)
        settled = {"state": EffectState.CONFIRMED, "settled": True, "confirmed_at": database_now()}
        order.effects.create(kind=EffectKind.PUSH, key=head, **settled)
        changes: dict[str, Any] = {}
        if pr:
            number = self.repository.next_number
            item = PullRequest(
                number, "Mend it", "Body", "robot", branch, base, head, base_sha, is_draft=draft
            )
            self.repository.pull_requests[number] = item
            url = f"https://github.com/acme/widgets/pull/{number}"
            order.effects.create(
                kind=EffectKind.PULL_REQUEST, key=branch, number=number, address=url, **settled
            )
            changes = {"github_pull_request_number": number, "github_pull_request_url": url}
        AgentWorkOrder.objects.filter(pk=order.pk).update(
            status="completed",
            outcome="pull_request_opened",
            current_phase="completed",
            base_sha=base_sha,
            base_branch=base,
            head_sha=head,
            git_files_changed=2,
            claimable_at=None,
            **changes,
        )
        order.refresh_from_db()
        self._fetch(order)
        return order

    def _fetch(self, order: AgentWorkOrder) -> None:
        """This machine worked on it, and so its mirror has the commits."""
        parts = wiring.engine_parts()
        reference = parts.parse_reference("https://github.com/acme/widgets")
        mirror = RepositoryMirror(parts.settings.data_dir, str(reference.key), parts.git)
        mirror.refresh(
            parts.remote_for(reference), base_branch=order.base_branch, git_branch_name=order.git_branch_name
        )
        mirror.keep(kept_ref(str(order)), order.head_sha)

    # --- what people do ---

    def commit(self, branch: str, path: str = "theirs.txt", message: str = "A person's change") -> str:
        """On top of the branch as it is."""
        self.person("fetch", "-q", "--prune", "origin")
        self.person("checkout", "-q", "-B", branch, f"origin/{branch}")
        with (self.clone / path).open("a") as file:
            file.write("by a person\n")
        self.person("add", "-A")
        self.person("commit", "-q", "-m", message)
        self.person("push", "-q", "origin", branch)
        return self._made()

    def _made(self) -> str:
        self.theirs.append(self.person("rev-parse", "HEAD"))
        return self.theirs[-1]

    def rewrite(self, branch: str) -> str:
        """Squashed into one commit with a fix of their own, and pushed with force."""
        self.person("fetch", "-q", "--prune", "origin")
        self.person("checkout", "-q", "-B", branch, f"origin/{branch}")
        self.person("reset", "-q", "--soft", "HEAD~2")
        (self.clone / "fix.txt").write_text("a person's fix\n")
        self.person("add", "-A")
        self.person("commit", "-q", "-m", "Squashed, with a fix")
        self.person("push", "-q", "--force", "origin", branch)
        return self._made()

    def move_back(self, branch: str) -> str:
        """The newest commit is dropped on purpose."""
        self.person("fetch", "-q", "--prune", "origin")
        self.person("push", "-q", "--force", "origin", f"origin/{branch}~1:refs/heads/{branch}")
        return self.sha(branch)

    def delete(self, branch: str) -> None:
        self.person("push", "-q", "origin", f":refs/heads/{branch}")

    def merge(self, order: AgentWorkOrder, how: str = "merge") -> str:
        """The pull request into its base branch, as GitHub's three buttons do."""
        branch, item = order.git_branch_name, self.pull_request(order)
        self.person("fetch", "-q", "--prune", "origin")
        self.person("checkout", "-q", "-B", item.base_branch, f"origin/{item.base_branch}")
        (self.clone / "meanwhile.txt").write_text("others' work\n")
        self.person("add", "-A")
        self.person("commit", "-q", "--allow-empty", "-m", "Others' work")
        if how == "squash":
            self.person("merge", "-q", "--squash", f"origin/{branch}")
            self.person("commit", "-q", "-m", f"Mend it (#{item.number})")
        elif how == "rebase":
            self.person("cherry-pick", f"{item.base_sha}..origin/{branch}")
        else:
            self.person("merge", "-q", "--no-ff", "-m", "Merge", f"origin/{branch}")
        self.person("push", "-q", "origin", item.base_branch)
        self.github.refresh(self.repository, item)
        item.state, item.is_merged = "closed", True
        item.merge_commit_sha = self.sha(item.base_branch)
        return item.merge_commit_sha

    # --- what is there ---

    def pull_request(self, order: AgentWorkOrder) -> PullRequest:
        """The first of the order."""
        return self.pull_requests(order)[0]

    def pull_requests(self, order: AgentWorkOrder) -> list[PullRequest]:
        found = self.repository.pull_requests.values()
        return [
            self.github.refresh(self.repository, it)
            for it in found
            if it.head_branch == order.git_branch_name
        ]

    def sha(self, branch: str) -> str:
        return branches(self.bare).get(branch, "")

    def contains(self, descendant: str, ancestor: str) -> bool:
        return git("merge-base", ancestor, descendant, folder=self.bare) == ancestor

    def files(self, revision: str) -> set[str]:
        return set(git("ls-tree", "-r", "--name-only", revision, folder=self.bare).splitlines())

    def new_files(self, branch: str, base: str) -> set[str]:
        """What a pull request of the branch shows."""
        return set(git("diff", "--name-only", f"{base}...{branch}", folder=self.bare).splitlines())

    def lost(self) -> list[str]:
        """Commits of the person that no branch has any more."""
        return [sha for sha in self.theirs if not git("branch", "--contains", sha, folder=self.bare).strip()]

    def starts(self) -> int:
        file = self.folder / "starts"
        return len(file.read_text().splitlines()) if file.exists() else 0


@contextmanager
def living(folder: Path, settings: Any) -> Iterator[Life]:
    """`settings`: those of the engine's tests, pointed at the fakes here."""
    with ExitStack() as stack:
        server = stack.enter_context(FakeGitServer(folder / "remotes"))
        github = stack.enter_context(FakeGitHub(branch_sha=server.branch_sha))
        server.add_token(TOKEN)
        github.add_token(TOKEN)
        repository = github.add_repository("acme", "widgets")
        bare = server.create_repository("acme", "widgets", {"README.md": "# Widgets\n"})
        git("clone", "-q", str(bare), str(folder / "ann"))
        settings.GH_TOKEN = TOKEN
        settings.GH_CONFIG_DIR = str(github.gh_config_dir)
        settings.WORKORDERS_GITHUB_GIT_BASE_URL = server.base_url
        yield Life(folder, server, github, repository, bare)


def prompt(order: AgentWorkOrder, text: str) -> AgentPrompt:
    return services.prompt_agent_work_order(agent_work_order_id=str(order), prompt_text=text, by="ann")


def retry(order: AgentWorkOrder) -> None:
    services.retry_agent_work_order(agent_work_order_id=str(order), by="ann")


def cancel(order: AgentWorkOrder) -> None:
    services.cancel_agent_work_order(agent_work_order_id=str(order), by="ann")
    order.refresh_from_db()


def run(order: AgentWorkOrder, seconds: float = 30) -> AgentWorkOrder:
    """The engine until the order's next end."""
    with running_engine():
        return finished(order, seconds)


def events(order: AgentWorkOrder, event: str) -> list[dict[str, Any]]:
    return [row.fields for row in order.log_entries.filter(event=event).order_by("sequence")]
