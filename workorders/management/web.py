"""How the web server is started: its socket, the static files, then gunicorn's threads, which measured best."""

import errno
import socket
import sys
from pathlib import Path

import structlog
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from sandboxes.errors import LockTimeout
from sandboxes.host_lock import exclusive_lock
from sandboxes.ownership import other_owner, this_account

logger = structlog.get_logger("workorders")

_BACKLOG = 2048
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


def web_server_argv(descriptor: int) -> list[str]:
    """On a listening socket that is handed to it."""
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "config.wsgi:application",
        f"--config={settings.BASE_DIR / 'config' / 'gunicorn.py'}",
        f"--bind=fd://{descriptor}",
        f"--pythonpath={settings.BASE_DIR}",
        "--worker-class=gthread",
        "--workers=2",
        "--threads=4",
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
