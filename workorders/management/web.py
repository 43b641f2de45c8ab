"""How the web server is started: static files collected, then gunicorn's threads, which measured best."""

import sys
from pathlib import Path

import structlog
from django.conf import settings
from django.core.management import call_command

from sandboxes.errors import LockTimeout
from sandboxes.host_lock import exclusive_lock

logger = structlog.get_logger("workorders")

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def web_server_argv(host: str, port: int) -> list[str]:
    address = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "config.wsgi:application",
        f"--config={settings.BASE_DIR / 'config' / 'gunicorn.py'}",
        f"--bind={address}",
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
        logger.warning("static_files_not_collected", error=str(error))


def _is_collected(manifest: Path) -> bool:
    sources = [path for folder in settings.STATICFILES_DIRS for path in Path(folder).rglob("*")]
    sources.append(settings.BASE_DIR / "uv.lock")
    newest = max(path.stat().st_mtime for path in sources)
    return manifest.is_file() and manifest.stat().st_mtime > newest
