"""Asks the remote where the branches are while a step is still being recorded, for the order's next step needs to know.

An answer counts only where the next step comes to this process at once and the branch is where its order left it;
otherwise that step asks for itself, as any other does.
"""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

from sandboxes.errors import ExpectedError
from sandboxes.git import RemoteRefs, RemoteRepository, TrustedGit
from sandboxes.process import finishing_within
from workorders.concurrency import ahead
from workorders.models import AgentWorkOrder

_FRESH_SECONDS = 2.0


@dataclass(frozen=True)
class _Question:
    """What was asked, and when (monotonic); without an `answer` it was spared."""

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

    def take(self, order: AgentWorkOrder, remote: RemoteRepository) -> RemoteRefs | None:
        """What the remote said of the two a moment ago, once, if the branch was at the order's newest commit."""
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
