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
    ("Packages point one way", "sandboxes/trusted_git/git.py", "import github_app.types"),
    ("Packages point one way", "github_app/issues.py", "import workorders.domain.errors"),
    ("Packages point one way", "workorders/queueing/queue.py", "import config.env"),
    (
        "No circles between rooms or modules",
        "sandboxes/trusted_git/git.py",
        "import sandboxes.trusted_git.outgoing",
    ),
    (
        "No circles between rooms or modules",
        "github_app/references.py",
        "import github_app.submodule_addresses",
    ),
    (
        "No circles between rooms or modules",
        "workorders/text/token_shapes.py",
        "import workorders.text.redaction",
    ),
    (
        "No circles between rooms or modules",
        "workorders/reading/progress.py",
        "import workorders.services.work_orders",
    ),
    ("No circles between rooms or modules", "config/values.py", "import config.settings"),
    ("Rooms of workorders", "workorders/models/worker.py", "import workorders.services.work_orders"),
    ("Rooms of workorders", "workorders/domain/states.py", "import workorders.text.redaction"),
    (
        "Rooms of workorders",
        "workorders/reading/pages/repositories.py",
        "import workorders.services.work_orders",
    ),
    ("Rooms of workorders", "workorders/reading/progress.py", "import workorders.queueing.queue"),
    ("Rooms of workorders", "workorders/agents/base.py", "import workorders.model_gateway.access"),
    ("Rooms of workorders", "workorders/a_new_module.py", ""),
    (
        "Rooms of the engine",
        "workorders/workflow_engine/record/journal.py",
        "import workorders.workflow_engine.handlers.delivery",
    ),
    (
        "Rooms of the engine",
        "workorders/workflow_engine/place/extras.py",
        "import workorders.workflow_engine.outward.push_gate",
    ),
    (
        "Rooms of the engine",
        "workorders/workflow_engine/upkeep/retention.py",
        "import workorders.workflow_engine.evidence.inspection",
    ),
    (
        "Rooms of the engine",
        "workorders/workflow_engine/guidance/text.py",
        "import workorders.workflow_engine.results_file.results",
    ),
    ("Rooms of the engine", "workorders/workflow_engine/a_new_module.py", ""),
    (
        "Rooms of management",
        "workorders/management/database.py",
        "import workorders.management.doctor.diagnosis",
    ),
    ("Rooms of management", "workorders/management/a_new_module.py", ""),
    ("Inside workorders.reading", "workorders/reading/tested.py", "import workorders.reading.progress"),
    ("Inside workorders.reading", "workorders/reading/a_new_module.py", ""),
    (
        "Inside workorders.reading.pages",
        "workorders/reading/pages/naming.py",
        "import workorders.reading.pages.order",
    ),
    ("Inside workorders.reading.pages", "workorders/reading/pages/a_new_module.py", ""),
    ("Inside workorders.agents", "workorders/agents/base.py", "import workorders.agents.executor"),
    (
        "Inside workorders.agents",
        "workorders/agents/claude_code/stream.py",
        "import workorders.agents.executor",
    ),
    ("Inside workorders.agents", "workorders/agents/a_new_module.py", ""),
    (
        "Inside workorders.model_gateway",
        "workorders/model_gateway/usage.py",
        "import workorders.model_gateway.prices",
    ),
    ("Inside workorders.model_gateway", "workorders/model_gateway/a_new_module.py", ""),
    ("Inside github_app", "github_app/gh.py", "import github_app.issues"),
    ("Inside github_app", "github_app/a_new_module.py", ""),
    ("Rooms of sandboxes", "sandboxes/processes/run.py", "import sandboxes.registry"),
    ("Rooms of sandboxes", "sandboxes/processes/isolation.py", "import sandboxes.providers"),
    ("Rooms of sandboxes", "sandboxes/remote/scripts.py", "import sandboxes.local.sandbox"),
    ("Rooms of sandboxes", "sandboxes/trusted_git/mirror.py", "import sandboxes.sweep.rules"),
    ("Rooms of sandboxes", "sandboxes/a_new_module.py", ""),
    (
        "Sandbox backends do not know each other",
        "sandboxes/local/git_branch.py",
        "import sandboxes.local.git_worktree",
    ),
    ("Sandboxes know nothing of Django", "sandboxes/trusted_git/mirror.py", "import django.conf"),
    ("Sandboxes know nothing of Django", "sandboxes/processes/dead_man.py", "import django.conf"),
    ("Sandboxes know nothing of Django", "sandboxes/checks.py", "import django.core.checks"),
    ("Sandboxes know nothing of Django", "sandboxes/sweep/a_new_module.py", "import django_q.tasks"),
    (
        "GitHub borrows the process runner and the errors",
        "github_app/gh.py",
        "import sandboxes.trusted_git.git",
    ),
    (
        "GitHub borrows the process runner and the errors",
        "github_app/gh.py",
        "import sandboxes.local.workspace_lock",
    ),
    (
        "GitHub borrows the process runner and the errors",
        "github_app/gh.py",
        "import sandboxes.processes.guard",
    ),
    ("GitHub borrows the process runner and the errors", "github_app/models.py", "import sandboxes.kinds"),
    ("The web side never starts a process", "workorders/views/health.py", "import workorders.wiring"),
    ("The web side never starts a process", "workorders/api/router.py", "import sandboxes.processes.run"),
    ("The web side never starts a process", "workorders/models/logs.py", "import sandboxes.trusted_git.git"),
    ("The web side never starts a process", "workorders/accounts/access.py", "import sandboxes.files.disk"),
    (
        "The web side never starts a process",
        "sandboxes/sweep/rules.py",
        "import sandboxes.sweep.conflict_markers",
    ),
    (
        "Pure modules stay free of Django and of the database",
        "workorders/agents/executor.py",
        "import workorders.models",
    ),
    (
        "Pure modules stay free of Django and of the database",
        "workorders/domain/workflows.py",
        "import django.conf",
    ),
    (
        "Pure modules stay free of Django and of the database",
        "workorders/text/wording.py",
        "import django.utils.html",
    ),
    (
        "Pure modules stay free of Django and of the database",
        "workorders/workflow_engine/results_file/a_new_module.py",
        "import django.db",
    ),
    (
        "Only the queue and its broker talk to django-q2",
        "workorders/services/work_orders.py",
        "import django_q.tasks",
    ),
    ("Only the process module starts processes", "github_app/gh.py", "import subprocess"),
]
# What the web side may use of `sandboxes`: values and rules. A new room there is one or the other, on purpose.
USED_BY_THE_WEB_SIDE = {"apps", "errors", "findings", "git_texts", "kinds", "providers", "sweep"}


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


def test_no_room_of_sandboxes_is_forgotten_where_the_web_side_is_kept_from_them() -> None:
    found = (ROOT / "sandboxes").iterdir()  # a room that was moved away leaves a folder of compiled files
    rooms = {path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").exists()}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [forbidden] = [
        row["forbidden_modules"] for row in contracts if row["name"] == "The web side never starts a process"
    ]
    kept_from = {name.partition(".")[2] for name in forbidden if name.startswith("sandboxes.")}
    assert rooms - {"__init__"} == kept_from | USED_BY_THE_WEB_SIDE
    assert not kept_from & USED_BY_THE_WEB_SIDE


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
        ("workorders/services/work_orders.py", "import subprocess", False),
        ("workorders/services/work_orders.py", "from subprocess import run", False),
        ("sandboxes/processes/run.py", "import subprocess", True),
        ("workorders/services/work_orders.py", "from django_q.tasks import async_task", False),
        ("workorders/queueing/queue.py", "from django_q.tasks import async_task", True),
        ("workorders/queueing/broker.py", "from django_q.brokers.orm import ORM", True),
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
