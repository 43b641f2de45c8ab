"""Runs many `manage.py` command lines quickly: one process starts Django, and a child of it is each command."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness import ROOT

_RUNNER = """
import json, os, sys, tempfile, traceback
from config import command_line, env
env.point_django_at_settings()
import django
django.setup()
from django.core.management import get_commands, load_command_class
for name, app in get_commands().items():  # another account may not be able to read this one's Python
    load_command_class(app, name)
from sandboxes.extras import lfs_store
from workorders import wiring
uid, ended = int(sys.argv[1]), []
for argv in json.load(sys.stdin):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull) as nothing:
        pid = os.fork()
        if not pid:
            code = 99
            try:
                if uid:
                    os.setgid(uid)
                    os.setuid(uid)
                for number, file in enumerate((nothing, out, err)):
                    os.dup2(file.fileno(), number)
                sys.argv = ["manage.py", *argv]
                code = command_line.main(sys.argv)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        ended.append([code, out.read().decode(), err.read().decode()])
json.dump(ended, sys.stdout)
"""


@dataclass(frozen=True)
class Ended:
    argv: tuple[str, ...]
    code: int
    out: str
    err: str


def run_all(
    lines: Sequence[Sequence[str]], environment: Mapping[str, str], folder: Path, *, uid: int = 0
) -> list[Ended]:
    """Each command line in turn, in that environment; `uid`: as another account than this one."""
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER, str(uid)],
        input=json.dumps([list(line) for line in lines]),
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Ended(tuple(line), *found) for line, found in zip(lines, json.loads(done.stdout), strict=True)]
