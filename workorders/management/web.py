"""How the web server is started: gunicorn's threads, which measured best for these pages."""

import sys

from django.conf import settings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def web_server_argv(host: str, port: int) -> list[str]:
    address = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
    return [
        sys.executable,
        "-m",
        "gunicorn",
        "config.wsgi:application",
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
