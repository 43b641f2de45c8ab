"""A place to work from a warm mirror of a repository with 100 MB of history, against a raw checkout.

The history is made once for a run: 40 commits, each replacing one 2.5 MB blob that cannot be compressed, beside
2,000 small files. Measured is the backend's `setup()` (with isolation), as the engine calls it once the mirror is
warm. The floor is `git worktree add` of the same commit from the same mirror on the same disk, outside isolation
and with as many checkout processes as the backends use.
"""

import time
from pathlib import Path
from statistics import median
from uuid import uuid4

from sandboxes.base import SandboxSpec
from sandboxes.kinds import SandboxType
from sandboxes.processes.isolation import IsolationSettings
from sandboxes.registry import create_sandbox
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror
from tests.benchmarks.measure import Limit, Row, milliseconds
from tests.benchmarks.repositories import GIT_ENVIRONMENT, git, make_remote

KEY = "local/measured"
FACTOR, CONSTANT_SECONDS = 1.2, 0.1


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    count, commits, files = (2, 2, 50) if tiny else (15, 40, 2000)
    remote = make_remote(folder / "remote.git", files=files, commits=commits, blob_bytes=2_500_000)
    data_dir = folder / "data"
    trusted = TrustedGit(GitSettings(search_path=GIT_ENVIRONMENT["PATH"], allow_local=True))
    mirror = RepositoryMirror(data_dir, KEY, trusted)
    point = mirror.refresh(RemoteRepository(str(remote)), base_branch=None, git_branch_name="none")
    stored = sum(path.stat().st_size for path in mirror.path.rglob("*") if path.is_file()) / 1e6
    rows = []
    for sandbox_type in (SandboxType.GIT_BRANCH, SandboxType.GIT_WORKTREE):
        _setup(data_dir, mirror.path, point.base_sha, sandbox_type)  # so that caches are warm
        _raw_checkout(folder, mirror.path, point.base_sha)
        values, floor = [], []
        for _ in range(count):  # in turn, so that a noisy moment meets both
            floor.append(_raw_checkout(folder, mirror.path, point.base_sha))
            values.append(_setup(data_dir, mirror.path, point.base_sha, sandbox_type))
        allowed = FACTOR * median(floor) + CONSTANT_SECONDS
        rows.append(
            Row(
                what=f"workspace: {sandbox_type} from a mirror of {stored:.0f} MB, {files} files",
                values=milliseconds(values),
                floor_values=milliseconds(floor),
                floor_is="raw `git worktree add` from the same mirror",
                limits=(
                    Limit(
                        f"median ≤ {FACTOR} × raw checkout + {CONSTANT_SECONDS} s = {allowed * 1000:.0f} ms",
                        median(values) * 1000,
                        allowed * 1000,
                    ),
                ),
            )
        )
    return rows


def _setup(data_dir: Path, mirror: Path, sha: str, sandbox_type: SandboxType) -> float:
    name = uuid4().hex[:8]
    sandbox = create_sandbox(
        sandbox_type,
        SandboxSpec(
            sandbox_identifier=f"{sandbox_type.replace('_', '-')}-wo-{name}",
            repository_key=KEY,
            git_branch_name=f"feat-wo-{name}",
            base_branch="main",
            base_sha=sha,
            start_sha=sha,
            mirror_path=mirror,
            data_dir=data_dir,
            trailers=(f"Work-Order: wo-{name}",),
            isolation=IsolationSettings(mode="bubblewrap", search_path=GIT_ENVIRONMENT["PATH"]),
        ),
    )
    started = time.monotonic()
    sandbox.setup()
    seconds = time.monotonic() - started
    sandbox.cleanup()
    return seconds


def _raw_checkout(folder: Path, mirror: Path, sha: str) -> float:
    place = folder / "raw"
    started = time.monotonic()
    git(
        f"--git-dir={mirror}",
        "-c",
        "checkout.workers=2",
        "worktree",
        "add",
        "--quiet",
        "--detach",
        place,
        sha,
    )
    seconds = time.monotonic() - started
    git(f"--git-dir={mirror}", "worktree", "remove", "--force", place)
    return seconds
