"""`python -m tests.sandboxes.trusted_git.measured_git FOLDER BUNDLE BASE`: everything trusted git does with one bundle.

A program of its own, so that the largest of its children's memories is git's. Prints how much that was after each
thing, in MiB, and what was said where one was refused.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sandboxes.errors import ExpectedError
from sandboxes.trusted_git.git import GitSettings, RemoteRepository, TrustedGit
from sandboxes.trusted_git.mirror import RepositoryMirror


def main(folder: Path, bundle: Path, base: str) -> None:
    git = TrustedGit(GitSettings(allow_local=True))
    mirror = RepositoryMirror(folder / "data", "local-yard", git)
    remote = RemoteRepository(str(folder / "remote.git"))
    mirror.refresh(remote, base_branch=None, git_branch_name="work")
    found: dict[str, object] = {}

    def accept() -> str:
        return mirror.accept_bundle(
            bundle, git_branch_name="work", descends_from=base, keep_as="refs/work-orders/x"
        )

    head = _measured("accept", accept, found)
    if head is not None:
        path = mirror.path
        things: dict[str, Callable[[], object]] = {
            "commits": lambda: git.commits(path, head=head, base=base),
            "changes": lambda: git.changes(path, base=base, head=head),
            "difference": lambda: git.difference(path, base=base, head=head),
            "differences": lambda: git.differences(path, bases=(base, base), head=head),
            "adds_nothing": lambda: git.adds_nothing(path, onto=base, head=head),
            "read_file": lambda: git.read_file(path, head, "file"),
            "push": lambda: mirror.push(remote, sha=head, git_branch_name="work"),
            "repack": lambda: git.run("repack", "--quiet", "--geometric=2", "-d", git_dir=path),
        }
        for name, thing in things.items():
            _measured(name, thing, found)
    print(json.dumps(found))


def _measured[Answer](name: str, thing: Callable[[], Answer], found: dict[str, object]) -> Answer | None:
    started = time.monotonic()
    answer, said = None, ""
    try:
        answer = thing()
    except ExpectedError as error:
        said = f"{type(error).__name__}: {error}"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    found[name] = {"mebibytes": peak, "said": said[:500], "seconds": round(time.monotonic() - started, 1)}
    return answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
