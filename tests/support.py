"""What several tests share that is neither a fake nor a fixture."""

import os
import shutil

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
