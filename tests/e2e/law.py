"""The law at the end: what must hold once every accepted order has come to rest, whatever was killed meanwhile.

Works on a server's data folder, its API and the fakes, so that crash tests and the chaos command share it:

    law = Law(server, world.github.repositories.values(), bare_repositories)
    law.check(order_ids)

Each finding is a sentence; `check` raises with all of them.
"""

import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.e2e.harness import FINISHED, Json, LiveServer, processes_with
from tests.fakes.git_http import branches
from tests.fakes.github import Repository

SETTLE_SECONDS = 10.0
SWEEP_SECONDS = (
    75.0  # what workers died of, and what GitHub did not allow, is left to recovery, once a minute
)


def held_locks(data_dir: Path) -> list[str]:
    """Lock files below the data folder that some process holds now."""
    found = []
    for path in (data_dir / "locks").rglob("*"):
        if path.is_file() and _is_held(path):
            found.append(path.name)
    return sorted(found)


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def agent_processes(data_dir: Path, order_id: str = "") -> list[int]:
    """Live processes that an agent or a sandbox command of this data folder left, of one order or of any."""
    return sorted(processes_with(order_id or f"{data_dir}/homes/"))  # each has its HOME there


def worktrees(data_dir: Path) -> list[str]:
    """Worktrees that some git folder still knows: of a place, or shared by those of release 0.1."""
    found = (
        *(data_dir / "sandboxes").glob("*/repository.git/worktrees/*"),
        *(data_dir / "clones").glob("**/*.git/worktrees/*"),
    )
    return sorted(path.name for path in found)


def sandboxes_left(data_dir: Path) -> list[str]:
    names = ("sandboxes", "outbox", "quarantine", "trash")
    return sorted(f"{name}/{path.name}" for name in names for path in (data_dir / name).glob("*"))


@dataclass
class Law:
    """`repositories` are the fake GitHub's, `remotes` the bare repositories that were pushed to."""

    server: LiveServer
    repositories: Sequence[Repository] = ()
    remotes: Sequence[Path] = ()
    more_data_dirs: Sequence[Path] = ()
    findings: list[str] = field(default_factory=list)

    def check(self, order_ids: Iterable[str], *, completed: bool = False) -> list[Json]:
        """The orders, once all of it holds; `completed` demands that outcome of each. Raises `AssertionError`."""
        ids = list(order_ids)
        self._gone(partial(self._debts, ids), "pull requests to be closed", SWEEP_SECONDS)
        orders = [self.server.order(order_id) for order_id in ids]
        self._statuses(orders, completed)
        self._remotes(orders)
        self._pull_requests(orders)
        self._comments(orders)
        for data_dir in (self.server.data_dir, *self.more_data_dirs):
            self._gone(partial(agent_processes, data_dir), "processes")
            self._gone(partial(held_locks, data_dir), "held locks")
            self._gone(partial(sandboxes_left, data_dir), "sandboxes", SWEEP_SECONDS)
            self._gone(partial(worktrees, data_dir), "worktrees", SWEEP_SECONDS)
        assert not self.findings, "\n".join(self.findings)
        return orders

    def _statuses(self, orders: list[Json], completed: bool) -> None:
        count = Counter(order["status"] for order in orders)
        if sum(count[status] for status in FINISHED) != len(orders):
            self.findings.append(f"accepted {len(orders)} orders, but they are {dict(count)}")
        if completed and count["completed"] != len(orders):
            told = [(order["agent_work_order_id"], order["error_message"]) for order in orders]
            self.findings.append(f"not all completed: {dict(count)}; {told}")
        for order in orders:
            events = Counter(self.server.events(order["agent_work_order_id"]))
            ends = sum(events[f"agent_work_order_{status}"] for status in FINISHED)
            reopened = events["agent_work_order_retried"] + events["agent_prompt_queued"]
            if not 1 <= ends <= 1 + reopened:
                self.findings.append(f"{order['agent_work_order_id']} ended {ends} times")

    def _remotes(self, orders: list[Json]) -> None:
        """Every completed order's branch is there, and no branch that is no order's."""
        if not self.remotes:
            return
        found = [name for remote in self.remotes for name in branches(remote)]
        own = {order["git_branch_name"] for order in orders}
        for order in orders:
            if order["status"] == "completed" and found.count(order["git_branch_name"]) != 1:
                self.findings.append(
                    f"branch {order['git_branch_name']}: {found.count(order['git_branch_name'])}"
                )
        if stray := [name for name in found if name.startswith("feat-") and name not in own]:
            self.findings.append(f"branches of no order: {stray}")

    def _pull_requests(self, orders: list[Json]) -> None:
        """One for a completed order; for a cancelled one none that is open, since it may have been taken back."""
        if not self.repositories:
            return
        found = [item for repository in self.repositories for item in repository.pull_requests.values()]
        opened = Counter(item.head_branch for item in found)
        left_open = Counter(item.head_branch for item in found if item.state == "open")
        for order in orders:
            wanted = 1 if order["status"] == "completed" else 0
            count = left_open if order["status"] == "cancelled" else opened
            seen = count[order["git_branch_name"]]
            if seen != wanted and not (order["status"] == "failed" and seen == 1):
                self.findings.append(
                    f"{order['agent_work_order_id']} is {order['status']}: {seen} pull requests"
                )

    def _comments(self, orders: list[Json]) -> None:
        for repository in self.repositories:
            said = [comment.body for comment in repository.comments]
            for order in orders:
                seen = sum(order["agent_work_order_id"] in body for body in said)
                wanted = order["status"] == "completed" and bool(order["github_issue_number"])
                if self._is_of(order, repository) and (seen > 1 or (wanted and seen != 1)):
                    self.findings.append(f"{order['agent_work_order_id']}: {seen} comments on its issue")

    @staticmethod
    def _is_of(order: Json, repository: Repository) -> bool:
        return str(order["repository_url"]).rstrip("/").endswith(f"{repository.owner}/{repository.name}")

    def _debts(self, order_ids: list[str]) -> list[str]:
        category = "pull_request_left_open"
        return [it for it in order_ids if self.server.order(it)["error_category"] == category]

    def _gone(self, look: Callable[[], Sequence[object]], what: str, seconds: float = SETTLE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while left := look():
            if time.monotonic() > deadline:
                self.findings.append(f"{what} left: {left}")
                return
            time.sleep(0.1)
