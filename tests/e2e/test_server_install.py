"""The install of docs/operations.md, "On a server", as written there: root types it, an account of its own serves."""

import os
import re
import shlex
from pathlib import Path

import pytest

from deploy.as_the_server import parsed
from tests.documents import blocks_of
from tests.e2e.harness import ROOT
from tests.e2e.server_root import CODE, ServerRoot
from tests.support import require_program

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can install for another account"),
]
UNIT = (ROOT / "deploy" / "work-orders.service").read_text()
PROGRAMS, CODE_AND_ENVIRONMENT, FIRST_COMMANDS, SERVICE = blocks_of("docs/operations.md", "On a server")
# What needs a network, or systemd: put in place by `ServerRoot`, or done by the test.
NOT_HERE = re.compile(
    r"^(?:apt-get|npm|UV_PYTHON_INSTALL_DIR=\S+ uv|systemctl|curl|git pull) .*\n?", re.MULTILINE
)
LOOK = SERVICE.splitlines()[-1]
(UPGRADE,) = blocks_of("docs/operations.md", "Upgrading")
AGENT = f"{CODE}/.venv/bin/python {CODE}/workorders/agents/rehearsal.py"
FILL_IN = f"""
key=$({CODE}/.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(50))')
sed -i "s|^WORKORDERS_SECRET_KEY=.*|WORKORDERS_SECRET_KEY=$key|" /etc/work-orders.env
cat >>/etc/work-orders.env <<'END'
WORKORDERS_AGENT_COMMAND="{AGENT}"
WORKORDERS_ALLOW_LOCAL_REPOSITORIES=true
# No isolation inside an isolation.
WORKORDERS_AGENT_ISOLATION=none
END
"""


@pytest.fixture
def machine(tmp_path: Path) -> ServerRoot:
    require_program("bwrap")
    require_program("useradd")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the server's account comes this way
    return ServerRoot(tmp_path / "machine")


def typed(block: str) -> str:
    return NOT_HERE.sub("", block)


def unit(name: str) -> str:
    """Every line of that name; systemd's `$$` is a `$`."""
    found = re.findall(rf"^{name}=(.+)$", UNIT, re.MULTILINE)
    assert found, name
    return "\n".join(found).replace("$$", "$")


def test_as_documented(machine: ServerRoot) -> None:
    made = machine.run(typed(PROGRAMS) + typed(CODE_AND_ENVIRONMENT) + FILL_IN)
    assert made.returncode == 0, made.stderr
    first = machine.run(
        f"{typed(FIRST_COMMANDS)}\nwork-orders createsuperuser --noinput --username ada --email a@b.org"
    )
    assert first.returncode == 0, first.stdout + first.stderr
    assert "✓ account" in first.stdout
    assert "✗" not in first.stdout
    assert "Data folder: /var/lib/work-orders." in first.stderr
    key = machine.run("work-orders create_api_key --user ada --name 'a first key' --scope write --json")
    assert key.returncode == 0, key.stderr
    installed = machine.run(typed(SERVICE))
    assert installed.returncode == 0, installed.stderr
    served = machine.run(as_systemd(machine))
    assert served.returncode == 0, served.stdout + served.stderr
    assert '"status": "ok"' in served.stdout
    assert '"status": "ready"' in served.stdout
    strangers = machine.run(
        "find /var/lib/work-orders ! -user workorders; find /var/lib/work-orders -perm /077"
    )
    assert strangers.stdout == ""
    left = machine.run(f"find {CODE} -user workorders")
    assert left.stdout == ""
    upgraded = machine.run(typed(UPGRADE))
    assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
    assert "/var/lib/work-orders/backups/workorders-" in upgraded.stdout


def as_systemd(machine: ServerRoot) -> str:
    """What the unit says, from its account to its two commands; then as its users do, and its end."""
    variables = parsed((machine.folder / unit("EnvironmentFile")[1:]).read_text())
    given = shlex.join(f"{name}={value}" for name, value in variables.items())
    return f"""
    cat >/tmp/as-systemd <<'END'
cd {unit("WorkingDirectory")}
{unit("ExecStartPre")}
{unit("ExecStart")} >/tmp/server.log 2>&1 &
server=$!
{LOOK}
curl --fail --silent http://127.0.0.1:8000/healthz
kill $server
wait $server || {{ tail -n 20 /tmp/server.log; exit 1; }}
END
    setpriv --reuid={unit("User")} --regid={unit("Group")} --init-groups \\
      env --ignore-environment HOME=/var/lib/work-orders USER={unit("User")} {given} sh -eu /tmp/as-systemd
    """


def test_a_file_of_variables_without_the_data_folder(machine: ServerRoot) -> None:
    """As 0.1 documented it: the unit had that one."""
    machine.run(typed(PROGRAMS) + typed(CODE_AND_ENVIRONMENT) + FILL_IN)
    machine.run("sed -i /^WORKORDERS_DATA_DIR/d /etc/work-orders.env")
    ended = machine.run("work-orders migrate")
    assert (ended.returncode, "has no WORKORDERS_DATA_DIR" in ended.stderr) == (1, True)
    asked = machine.run(unit("ExecStartPre").splitlines()[0])
    assert asked.returncode != 0
    assert "WORKORDERS_DATA_DIR: is missing from /etc/work-orders.env" in asked.stderr


def test_what_root_must_not_do(machine: ServerRoot) -> None:
    """Without the wrapper, root would leave files that the server cannot write."""
    machine.run(typed(PROGRAMS) + typed(CODE_AND_ENVIRONMENT) + FILL_IN)
    assert machine.run("work-orders migrate").returncode == 0
    inside = f"cd {CODE}; set -a; . /etc/work-orders.env; set +a; .venv/bin/python manage.py"
    for command in (
        "backup",
        "migrate",
        "createsuperuser --noinput --username eve",
        "serve",
        "list_work_orders",
    ):
        ended = machine.run(f"{inside} {command}")
        assert ended.returncode == 1, command
        assert "belongs to workorders, and this is root" in ended.stderr, ended.stderr
        assert "deploy/work-orders <command>" in ended.stderr
    said = machine.run(f"{inside} doctor")
    assert said.returncode == 1
    assert "✗ account" in said.stdout
    assert machine.run("find /var/lib/work-orders ! -user workorders").stdout == ""
    machine.run("install -d -m 700 /var/lib/work-orders/backups /var/lib/work-orders/logs")
    backup = machine.run("work-orders backup")
    assert backup.returncode == 1
    assert "backups belongs to root, and this is workorders. Give it to workorders: chown" in backup.stderr
    doctor = machine.run("work-orders doctor")
    assert doctor.returncode == 1
    assert "backups, logs do not belong to workorders" in doctor.stdout


def test_a_python_in_roots_home_is_named(tmp_path: Path) -> None:
    require_program("bwrap")
    machine = ServerRoot(tmp_path / "machine", python_in_roots_home=True)
    machine.run(typed(PROGRAMS) + typed(CODE_AND_ENVIRONMENT) + FILL_IN)
    ended = machine.run("work-orders migrate")
    assert ended.returncode == 1
    assert "workorders cannot start /opt/work-orders/.venv/bin/python" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_who_is_not_root_is_told(machine: ServerRoot) -> None:
    machine.run(typed(PROGRAMS) + typed(CODE_AND_ENVIRONMENT) + FILL_IN)
    ended = machine.run("setpriv --reuid=1234 --regid=1234 --clear-groups work-orders doctor")
    assert ended.returncode == 1
    assert "Run this with sudo, or as root." in ended.stderr
