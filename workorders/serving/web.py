"""How the web server is started: its sockets, the static files, then gunicorn's threads, which measured best."""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import structlog
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from sandboxes.errors import LockTimeout
from sandboxes.files.ownership import other_owner, this_account
from sandboxes.processes.host_lock import exclusive_lock
from workorders.serving.lanes import CONNECTION_THREADS, QUICK_PROCESSES, SLOW_PROCESSES

logger = structlog.get_logger("workorders")

_BACKLOG = 2048
_FOLDER, _SOCKET, _LONGEST_FOLDER = "web-", "pages", 80
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def listen(host: str, port: int) -> socket.socket:
    """The web server's socket: whoever holds it has the port. Raises `CommandError`."""
    name = host.strip("[]")
    is_ipv6 = ":" in name
    try:
        return socket.create_server(
            (name, port),
            family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=is_ipv6 and socket.has_dualstack_ipv6(),
        )
    except UnicodeError as error:
        raise CommandError(f"{host!r} is no name of a host. Correct --host.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"Another program uses port {port} on {host}. Stop it, or choose another port with --port."
            ) from error
        reason = str(error.strerror).partition(" (while")[0]
        raise CommandError(
            f"The web server cannot listen on {host}, port {port}: {reason}. Correct --host or --port."
        ) from error


def web_address(host: str, port: int) -> str:
    """As a browser wants it, without a slash at its end."""
    return f"http://[{host}]:{port}" if ":" in host and not host.startswith("[") else f"http://{host}:{port}"


@contextmanager
def slow_lane_socket() -> Iterator[socket.socket]:
    """Where the web server's quick processes reach the slow ones: a socket in a folder of this account alone.

    In the data folder, unless that has a longer address than sockets may have.
    """
    data = Path(settings.WORKORDERS_DATA_DIR)
    parent = data if len(os.fsencode(data)) <= _LONGEST_FOLDER else None
    _remove_dead_sockets(data)
    with TemporaryDirectory(prefix=_FOLDER, dir=parent) as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder) / _SOCKET))
        listener.listen(_BACKLOG)
        yield listener


def _remove_dead_sockets(data: Path) -> None:
    """Of servers that were killed."""
    for path in data.glob(f"{_FOLDER}*/{_SOCKET}"):
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(path))
            except ConnectionRefusedError:
                rmtree(path.parent, ignore_errors=True)
            except OSError:  # too busy, or another account's
                continue


def web_server_argv(port: int, slow_lane: int) -> list[str]:
    """On two listening sockets that are handed to it. What the processes do is in `workorders.serving.lanes`."""
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "config.wsgi:application",
        f"--config={settings.BASE_DIR / 'config' / 'gunicorn.py'}",
        f"--bind=fd://{port}",
        f"--bind=fd://{slow_lane}",
        f"--pythonpath={settings.BASE_DIR}",
        "--worker-class=gthread",
        f"--workers={QUICK_PROCESSES + SLOW_PROCESSES}",
        f"--threads={CONNECTION_THREADS}",
        "--timeout=60",
        "--graceful-timeout=5",
        "--keep-alive=30",
        "--limit-request-line=8190",
        "--log-level=warning",
        "--no-control-socket",
    ]


def collect_static() -> None:
    """Hash and compress the static files if they are newer than what was collected; a start without is fine.

    One server at a time: two that write the same files give them other names.
    """
    folder = Path(settings.STATIC_ROOT)
    if _is_collected(folder / "staticfiles.json"):
        return
    try:
        with exclusive_lock(folder / ".collecting"):
            if not _is_collected(folder / "staticfiles.json"):
                call_command("collectstatic", interactive=False, verbosity=0)
    except (OSError, LockTimeout) as error:
        logger.warning("static_files_not_collected", error=str(error), advice=how_to_collect())


def are_collected() -> bool:
    """Whether what is there is as new as its sources."""
    return _is_collected(Path(settings.STATIC_ROOT) / "staticfiles.json")


def how_to_collect() -> str:
    owner = other_owner(settings.BASE_DIR) or this_account()
    return (
        f"The code belongs to {owner}; with each version run once, as {owner}: "
        f"{settings.BASE_DIR}/deploy/work-orders collectstatic --noinput"
    )


def _is_collected(manifest: Path) -> bool:
    sources = [path for folder in settings.STATICFILES_DIRS for path in Path(folder).rglob("*")]
    sources.append(settings.BASE_DIR / "uv.lock")
    newest = max(path.stat().st_mtime for path in sources)
    return manifest.is_file() and manifest.stat().st_mtime > newest
