"""Tells an order's next step where the branches are on the remote, so that it need not ask.

After a push the remote's answer to that push says where the order's branch is. Before a delivery the remote is asked,
while the last step is still being recorded. What is told counts for two seconds, for a next step in the same process,
and where the branch is at the order's newest commit; any other step asks for itself.
"""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

from sandboxes.errors import ExpectedError
from sandboxes.processes.concurrency import ahead
from sandboxes.processes.run import finishing_within
from sandboxes.trusted_git.git import RemoteRefs, RemoteRepository, TrustedGit
from workorders.models import AgentWorkOrder

_FRESH_SECONDS = 2.0


@dataclass(frozen=True)
class _Question:
    """What was asked, and when (monotonic). It has no `answer` where nobody was asked, to spare the remote."""

    remote: RemoteRepository
    branches: tuple[str, ...]
    asked_at: float
    answer: Future[RemoteRefs] | None


class LookAhead:
    """A process's questions under way, one for each order. Asks nothing while the answers find no taker."""

    def __init__(self, git: TrustedGit) -> None:
        self._git = git
        self._lock = Lock()
        self._questions: dict[int, _Question] = {}
        self._pays = True

    def begin(self, order: AgentWorkOrder, remote: RemoteRepository, base_branch: str) -> None:
        """Ask where the order's branch, to which its commits were just pushed, and its base branch are."""
        branches = (order.git_branch_name, base_branch)

        def ask() -> RemoteRefs:
            with finishing_within(_FRESH_SECONDS):  # no step waits for it, and none ends it
                return self._git.remote_refs(remote, branches)

        with self._lock:
            self._forget_old()
            answer = ahead(ask) if self._pays else None
            self._questions[order.pk] = _Question(remote, branches, time.monotonic(), answer)

    def note_push(
        self, order: AgentWorkOrder, remote: RemoteRepository, base_branch: str, *, head: str, base_sha: str
    ) -> None:
        """Keep what a push has just shown: the branch is at `head`. `base_sha`: where the base branch was last seen."""
        answer: Future[RemoteRefs] = Future()
        found = {order.git_branch_name: head, base_branch: base_sha, "HEAD": base_sha}
        answer.set_result(RemoteRefs(None, found))
        branches = (order.git_branch_name, base_branch)
        with self._lock:
            self._questions[order.pk] = _Question(remote, branches, time.monotonic(), answer)

    def take(self, order: AgentWorkOrder, remote: RemoteRepository) -> RemoteRefs | None:
        """What is known of the two since a moment ago, once, if the branch is at the order's newest commit."""
        branches = (order.git_branch_name, order.base_branch)
        with self._lock:
            self._forget_old()
            question = self._questions.pop(order.pk, None)
            if question is None or (question.remote, question.branches) != (remote, branches):
                return None
            self._pays = True
        if question.answer is None:
            return None
        try:
            found = question.answer.result(question.asked_at + _FRESH_SECONDS - time.monotonic())
        except (ExpectedError, TimeoutError):  # who asks again is told
            return None
        return found if found.branches.get(order.git_branch_name) == order.head_sha else None

    def _forget_old(self) -> None:
        oldest = time.monotonic() - _FRESH_SECONDS
        for key, question in list(self._questions.items()):
            if question.asked_at < oldest:
                del self._questions[key]
                self._pays = False
