"""`serve` and `quickstart` before they start anything: a port that is taken, wrong numbers."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import CommandError

from config.env import BASE_DIR, Environment
from workorders.management import arguments
from workorders.serving.web import listen, web_address

pytestmark = pytest.mark.django_db


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch, settings: LazySettings, tmp_path: Path) -> Iterator[None]:
    """Fails where a process is started, or anything is made in the data folder."""

    def started(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("it was started")

    for command in ("serve", "quickstart"):
        monkeypatch.setattr(f"workorders.management.commands.{command}.Service", started)
    settings.WORKORDERS_DATA_DIR = tmp_path
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("command", ["serve", "quickstart"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_a_port_that_is_taken(command: str, host: str) -> None:
    if ":" in host and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with listen(host, 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=rf"^Another program uses port {port} on .+ with --port\.$"):
            call_command(command, f"--host={host}", f"--port={port}")


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-name.invalid"])
def test_a_host_that_is_not_this_machine(
    host: str, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WORKORDERS_AUTH = "required"
    monkeypatch.setattr(socket, "getaddrinfo", _knows_nobody)
    with pytest.raises(CommandError, match=rf"cannot listen on {host}, port 8000: [^(]+\. Correct --host"):
        call_command("serve", f"--host={host}")


def _knows_nobody(*_arguments: Any) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.usefixtures("nothing_starts")
def test_quickstart_says_that_it_has_no_sign_in(settings: LazySettings) -> None:
    settings.WORKORDERS_AUTH = "required"
    with pytest.raises(CommandError, match="WORKORDERS_AUTH=required is set"):
        call_command("quickstart", "--port=1")


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("command", "argument", "words"),
    [
        ("serve", "--workers=0", "'0' is no whole number from 1 to 1000"),
        ("serve", "--workers=-1", "'-1' is no whole number from 1 to 1000"),
        ("serve", "--port=99999", "'99999' is no whole number from 1 to 65535"),
        ("serve", "--port=http", "'http' is no whole number"),
        ("quickstart", "--port=0", "'0' is no whole number from 1 to 65535"),
        ("qcluster", "--workers=5000", "'5000' is no whole number from 1 to 1000"),
        ("list_work_orders", "--limit=0", "'0' is no whole number from 1 to 200"),
        ("list_work_orders", "--limit=201", "'201' is no whole number from 1 to 200"),
    ],
)
def test_numbers_out_of_bounds(command: str, argument: str, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command(command, argument)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 120


def test_workers_have_the_bound_of_their_variable() -> None:
    bounds = Environment.model_fields["workers"].metadata
    assert [bound.le for bound in bounds if hasattr(bound, "le")] == [arguments.MOST_WORKERS]


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("::1", "http://[::1]:80"), ("[::1]", "http://[::1]:80")],
)
def test_addresses_are_written_for_a_browser(host: str, address: str) -> None:
    assert web_address(host, 80) == address


def test_quickstart_without_git_says_so(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, BASE_DIR / "manage.py", "quickstart", "--once"],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "WORKORDERS_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "git" in ended.stderr
    assert "Traceback" not in ended.stderr
