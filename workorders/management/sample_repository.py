"""Makes the small repository `quickstart` works on, with a bare remote beside it."""

from pathlib import Path

from django.conf import settings

from sandboxes.processes import run as process
from sandboxes.processes.run import ProcessLimits
from sandboxes.trusted_git.git import find_git
from workorders.domain.errors import WorkOrderError

FILES = {
    "README.md": "# Greeter\n\nSays hello. Run the tests with `python -m unittest`.\n",
    "greeter.py": '"""Says hello."""\n\n\ndef greet(name: str) -> str:\n    return f"Hello, {name}!"\n',
    "test_greeter.py": (
        "import unittest\n\nfrom greeter import greet\n\n\n"
        "class GreeterTest(unittest.TestCase):\n"
        "    def test_greets_by_name(self) -> None:\n"
        '        self.assertEqual(greet("Ada"), "Hello, Ada!")\n'
    ),
    ".gitignore": "__pycache__/\n",
}


def make_sample_repository(folder: Path) -> Path:
    """The bare remote's path; made on first use and kept, so that later orders add branches to it."""
    remote, work = folder / "greeter.git", folder / "greeter"
    if (remote / "HEAD").is_file() and (remote / "complete").is_file():
        return remote
    work.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (work / name).write_text(content)
    _git(work, "init", "--quiet", "--initial-branch=main")
    _git(work, "add", "--all")
    _git(work, "commit", "--quiet", "--allow-empty", "--message=Say hello")
    _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    _git(work, "push", "--quiet", str(remote), "+HEAD:refs/heads/main")
    (remote / "complete").touch()
    return remote


def _git(folder: Path, *arguments: str) -> None:
    name, address = "Work Orders quickstart", "quickstart@work-orders.invalid"
    result = process.run(
        [find_git(settings.WORKORDERS_PATH), *arguments],
        env={
            "PATH": settings.WORKORDERS_PATH,
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": address,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": address,
        },
        cwd=folder,
        limits=ProcessLimits(total_seconds=60),
    )
    if not result.ok:
        raise WorkOrderError(f"git {arguments[0]} failed: {result.stderr_text}")
