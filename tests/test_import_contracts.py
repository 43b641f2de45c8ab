"""The layers: they hold, and each contract catches a violation that is planted for it in a copy of the code."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("config", "workorders", "github_app", "sandboxes")
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
]
# contract, the file that gets a line more (made where it is missing), the line
PLANTS = [
    ("Packages point one way", "sandboxes/git.py", "import github_app.types"),
    ("Packages point one way", "github_app/issues.py", "import workorders.errors"),
    ("Packages point one way", "workorders/queue.py", "import config.env"),
    ("Inside workorders", "workorders/models/worker.py", "import workorders.services"),
    ("Inside workorders", "workorders/progress.py", "import workorders.queue"),
    ("Inside workorders", "workorders/a_new_module.py", ""),
    (
        "Inside workorders.workflow_engine",
        "workorders/workflow_engine/journal.py",
        "import workorders.workflow_engine.delivery",
    ),
    ("Inside workorders.workflow_engine", "workorders/workflow_engine/a_new_module.py", ""),
    ("Inside workorders.pages", "workorders/pages/naming.py", "import workorders.pages.order"),
    ("Inside workorders.pages", "workorders/pages/a_new_module.py", ""),
    (
        "Inside workorders.agent_executor",
        "workorders/agent_executor/base.py",
        "import workorders.agent_executor.executor",
    ),
    (
        "Inside workorders.model_gateway",
        "workorders/model_gateway/usage.py",
        "import workorders.model_gateway.prices",
    ),
    ("Inside workorders.model_gateway", "workorders/model_gateway/a_new_module.py", ""),
    ("Inside github_app", "github_app/gh.py", "import github_app.issues"),
    ("Inside github_app", "github_app/a_new_module.py", ""),
    ("Inside sandboxes", "sandboxes/process.py", "import sandboxes.registry"),
    ("Inside sandboxes", "sandboxes/a_new_module.py", ""),
    (
        "Sandbox backends do not know each other",
        "sandboxes/backends/git_branch.py",
        "import sandboxes.backends.git_worktree",
    ),
    ("The web side never starts a process", "workorders/views/health.py", "import workorders.wiring"),
    ("The web side never starts a process", "workorders/api/router.py", "import sandboxes.process"),
    ("The web side never starts a process", "workorders/models/logs.py", "import sandboxes.git"),
    ("Pure modules stay free of Django and of the database", "sandboxes/mirror.py", "import django.conf"),
    (
        "Pure modules stay free of Django and of the database",
        "workorders/agent_executor/executor.py",
        "import workorders.models",
    ),
    ("GitHub borrows only the process runner", "github_app/gh.py", "import sandboxes.git"),
    ("Only the queue and its broker talk to django-q2", "workorders/services.py", "import django_q.tasks"),
    ("Only the process module starts processes", "github_app/gh.py", "import subprocess"),
]


def lint_imports(folder: Path) -> tuple[int, str]:
    program = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run(
        [program, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return ended.returncode, ended.stdout + ended.stderr


def verdicts(output: str) -> dict[str, str]:
    found = re.findall(r"^(.+?) (KEPT|BROKEN)\b", output, re.MULTILINE)
    return dict(found)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_contracts_hold() -> None:
    code, output = lint_imports(ROOT)
    assert code == 0, output
    assert verdicts(output) == dict.fromkeys(CONTRACTS, "KEPT")


def test_each_contract_has_a_plant() -> None:
    assert {contract for contract, _file, _line in PLANTS} == set(CONTRACTS)


@pytest.mark.parametrize(("contract", "file", "line"), PLANTS)
def test_contract_catches_a_planted_violation(copy: Path, contract: str, file: str, line: str) -> None:
    path = copy / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        code, output = lint_imports(copy)
    finally:
        path.unlink() if before is None else path.write_text(before)
    assert code == 1, output
    assert verdicts(output)[contract] == "BROKEN", output


@pytest.mark.parametrize(
    ("file", "line", "allowed"),
    [
        ("workorders/services.py", "import subprocess", False),
        ("workorders/services.py", "from subprocess import run", False),
        ("sandboxes/process.py", "import subprocess", True),
        ("workorders/services.py", "from django_q.tasks import async_task", False),
        ("workorders/queue.py", "from django_q.tasks import async_task", True),
        ("workorders/broker.py", "from django_q.brokers.orm import ORM", True),
        ("workorders/wiring.py", "import os\n\nprint(os.environ)", False),
        ("workorders/wiring.py", "import os\n\nprint(os.getenv('HOME'))", False),
        ("config/env.py", "import os\n\nprint(os.environ)", True),
        ("workorders/wiring.py", "from config.settings import DEBUG", False),
    ],
)
def test_banned_names_are_caught(file: str, line: str, allowed: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--stdin-filename", file, "-"],
        cwd=ROOT,
        input=f"{line}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert ended.returncode == (0 if allowed else 1), ended.stdout + ended.stderr
    assert ("TID251" in ended.stdout) is not allowed
