"""What several tests share that is neither a fake nor a fixture."""

import os
import shutil
from pathlib import Path

import pytest


def require_program(name: str) -> str:
    """The program's absolute path; where it is missing the test is skipped naming it, or fails if CI=true."""
    path = shutil.which(name)
    if path is not None:
        return path
    message = f"the program {name} is not installed here; .ci/run installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def catches(pid: int, number: int) -> bool:
    """Whether a process has set a handler for a signal; False for one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(mask, 16) & 1 << (number - 1))
