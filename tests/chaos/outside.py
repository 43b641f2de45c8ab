"""The world outside, unreliable: GitHub's API and its git fail at random, from a seed."""

import random
import re
import threading
from collections import Counter
from pathlib import Path

from tests.fakes.git_http import FakeGitServer, GitFault
from tests.fakes.github import FakeGitHub, Fault

ANY = re.compile("")


class Dice:
    """Seeded and shared by threads."""

    def __init__(self, seed: str, chance: float) -> None:
        self._random = random.Random(seed)
        self._chance = chance
        self._lock = threading.Lock()
        self.thrown: Counter[str] = Counter()
        self.resting = False

    def throw(self, kinds: dict[str, int]) -> str:
        """One of `kinds` by weight, or nothing most of the time."""
        with self._lock:
            if self.resting or self._random.random() >= self._chance:
                return ""
            kind = self._random.choices(list(kinds), weights=list(kinds.values()))[0]
            self.thrown[kind] += 1
            return kind


class ShakyGitHub(FakeGitHub):
    """Answers 502 with or without having done the thing, drops connections, asks to wait."""

    KINDS = {"done_then_502": 3, "502": 2, "done_then_dropped": 3, "dropped": 2, "rate_limited": 1}

    def __init__(self, git: FakeGitServer, dice: Dice) -> None:
        super().__init__(branch_sha=git.branch_sha)
        self.dice = dice

    def take_fault(self, method: str, path: str) -> Fault | None:
        kind = self.dice.throw(self.KINDS)
        if not kind:
            return super().take_fault(method, path)
        if kind == "rate_limited":
            message = {"message": "You have exceeded a secondary rate limit."}
            return Fault(method, ANY, status=403, headers={"Retry-After": "2"}, body=message)
        executed = kind.startswith("done")
        return Fault(
            method,
            ANY,
            status=None if "dropped" in kind else 502,
            drop="dropped" in kind,
            execute=executed,
        )


class ShakyGit(FakeGitServer):
    """The same over smart HTTP: pushes that arrived and were not confirmed among them."""

    KINDS = {"done_then_503": 3, "503": 2, "done_then_dropped": 3, "dropped": 2}

    def __init__(self, root: Path, dice: Dice) -> None:
        super().__init__(root)
        self.dice = dice
        self._state.take_fault = self._take  # type: ignore[method-assign]  # the one place that decides

    def _take(self, path: str) -> GitFault | None:
        kind = self.dice.throw(self.KINDS)
        if not kind:
            return None
        return GitFault(ANY, status=503, drop="dropped" in kind, execute=kind.startswith("done"))
