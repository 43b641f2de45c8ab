"""The floor: an order's git and process work without a server, one plain `git` command after another.

What it does, and what it leaves out, so that the ratio stays honest:

* fetch: `git ls-remote` of HEAD and the order's branch (the mirror is warm on both sides, nothing to fetch);
* open, once for an order: a shared clone or a worktree of a shared clone on a new branch at the base commit;
* agent: the same agent, the same bubblewrap profile and niceness as the server's;
* bundle: `git bundle create` inside the same profile;
* accept: `git fetch` of that bundle into the bare mirror with `transfer.fsckObjects`, under a ref of its own;
* push: `git push` from the mirror to the remote, once for each phase;
* close, once: the place is removed.

Whatever touches files an agent can write (checkout, agent, bundle) is isolated as on the server. It keeps no
rows, inspects no evidence, looks at no remote before or after a push, and keeps no uncommitted files.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from sandboxes.processes.isolation import IsolationSettings, isolated_argv, program_folders
from tests.benchmarks.repositories import GIT_ENVIRONMENT, git
from tests.benchmarks.servers import AGENT_ARGV

_NICENESS = 10  # what the server gives its agents
_SETTINGS = IsolationSettings(mode="bubblewrap", search_path=GIT_ENVIRONMENT["PATH"])


class BareRepository:
    """A remote's warm bare mirror and, for worktrees, the agent-side clone; as the server keeps them."""

    def __init__(self, folder: Path, remote: Path) -> None:
        self.folder, self.remote = folder, remote
        self.mirror, self.clone = folder / "mirror.git", folder / "clone.git"
        folder.mkdir(parents=True)
        git("init", "--quiet", "--bare", self.mirror)
        git(
            f"--git-dir={self.mirror}",
            "fetch",
            "--quiet",
            "--no-tags",
            remote,
            "+main:refs/remotes/origin/main",
        )
        self.base_sha = git(f"--git-dir={self.mirror}", "rev-parse", "refs/remotes/origin/main")
        git("clone", "--quiet", "--shared", "--bare", self.mirror, self.clone)


@dataclass
class BareOrder:
    """One order's work. `stages` collects seconds by stage, `agent_runs` the agent's own times."""

    repository: BareRepository
    sandbox_type: str
    order_id: str = field(default_factory=lambda: f"wo-{uuid4().hex[:8]}")
    stages: dict[str, list[float]] = field(default_factory=dict)
    agent_runs: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._root = self.repository.folder / "places" / self.order_id
        self._work, self._home = self._root / self.order_id, self._root / "home"
        self._branch = f"feat-{self.order_id}"
        self._mirror = f"--git-dir={self.repository.mirror}"

    @property
    def agent_seconds(self) -> float:
        return sum(ended - started for started, ended in self.agent_runs)

    @property
    def spent(self) -> float:
        return sum(sum(values) for values in self.stages.values())

    def run(self, phases: Sequence[str]) -> float:
        """All of it; the seconds it took."""
        started = time.time()
        for number, phase in enumerate(phases):
            self.fetch()
            if number == 0:
                self.open()
            self.run_agent(phase)
            self.bundle()
            self.accept()
            self.push()
        self.close()
        return time.time() - started

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.time()
        yield
        self.stages.setdefault(name, []).append(time.time() - started)

    def fetch(self) -> None:
        with self._stage("fetch"):
            git("ls-remote", "--symref", self.repository.remote, "HEAD", f"refs/heads/{self._branch}")

    def open(self) -> None:
        with self._stage("open"):
            self._home.mkdir(parents=True)
            base = self.repository.base_sha
            if self.sandbox_type == "git_branch":
                git("clone", "--quiet", "--shared", "--no-checkout", self.repository.mirror, self._work)
                self._isolated(["git", "checkout", "--quiet", "-b", self._branch, base])
            else:
                self._work.mkdir()
                arguments = ["--quiet", "--force", "-b", self._branch, str(self._work), base]
                clone = self.repository.clone
                self._isolated(["git", f"--git-dir={clone}", "worktree", "add", *arguments], folder=clone)

    def run_agent(self, phase: str) -> None:
        environment = {"WORKORDERS_AGENT_WORK_ORDER_ID": self.order_id, "WORKORDERS_PHASE": phase}
        with self._stage("agent"):
            readable = program_folders(AGENT_ARGV, _SETTINGS.search_path)
            output = self._isolated(AGENT_ARGV, readable, environment, b"Do the phase.\n")
        times = json.loads(json.loads(output.splitlines()[-1])["result"])
        self.agent_runs.append((times["started"], times["ended"]))

    def bundle(self) -> None:
        with self._stage("bundle"):
            base = self.repository.base_sha
            pack = self._isolated(["git", "bundle", "create", "--quiet", "-", self._branch, f"^{base}"])
            (self._root / "out.bundle").write_bytes(pack)

    def accept(self) -> None:
        with self._stage("accept"):
            refspec = f"+refs/heads/{self._branch}:refs/work-orders/{self.order_id}"
            options = ("-c", "transfer.fsckObjects=true")
            git(self._mirror, *options, "fetch", "--quiet", "--no-tags", self._root / "out.bundle", refspec)

    def push(self) -> None:
        with self._stage("push"):
            refspec = f"refs/work-orders/{self.order_id}:refs/heads/{self._branch}"
            git(self._mirror, "push", "--quiet", self.repository.remote, refspec)

    def close(self) -> None:
        with self._stage("close"):
            shutil.rmtree(self._work)
            if self.sandbox_type == "git_worktree":
                clone = self.repository.clone
                arguments = ["git", f"--git-dir={clone}", "worktree", "remove", "--force", str(self._work)]
                self._isolated(arguments, folder=clone)
            shutil.rmtree(self._root)

    def _isolated(
        self,
        argv: Sequence[str],
        readable: Sequence[Path] = (),
        environment: dict[str, str] | None = None,
        stdin: bytes = b"",
        folder: Path | None = None,
    ) -> bytes:
        clone, work = self.repository.clone, self._work
        shared = (
            [path for path in (clone, work) if path.exists()] if self.sandbox_type == "git_worktree" else []
        )
        wrapped = isolated_argv(
            argv,
            settings=_SETTINGS,
            workspace=folder or work,
            home=self._home,
            writable=shared,
            readable=(*readable, self.repository.mirror / "objects"),
        )
        child = subprocess.Popen(
            wrapped,
            env={**GIT_ENVIRONMENT, "HOME": str(self._home), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICENESS)
        output, errors = child.communicate(stdin, timeout=120)
        if child.returncode != 0:
            raise RuntimeError(f"{argv[:4]} failed: {errors.decode(errors='replace')[-500:]}")
        return output
