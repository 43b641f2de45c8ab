"""The command line's first moments, before Django is there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import catches

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", ["serve", "qcluster"])
def test_a_server_that_is_stopped_while_it_starts_ends_well(command: str, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "WORKORDERS_DEBUG": "true",
        "WORKORDERS_DATA_DIR": str(tmp_path / "data"),
    }
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), command],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 20
        while not catches(process.pid, signal.SIGTERM):
            assert process.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "output").read_text() == ""
