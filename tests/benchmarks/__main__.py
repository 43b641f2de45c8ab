"""`python -m tests.benchmarks [name …]`: measures, prints, and exits 0 whatever the numbers are."""

import argparse
import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.measure import MARKDOWN_HEAD, Row, as_json, as_markdown, as_text

NAMES = (
    "start_latency",
    "order_overhead",
    "workspace",
    "fifty_orders",
    "api",
    "pages",
    "enqueue",
    "gateway",
    "overload",
    "worst_pages",
)
PRINTERS: dict[str, Callable[[Row], str]] = {"text": as_text, "markdown": as_markdown, "json": as_json}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(NAMES)}; default all")
    parser.add_argument("--format", choices=PRINTERS, default="text")
    parser.add_argument("--tiny", action="store_true", help="just enough to see that it runs")
    parser.add_argument("--check", action="store_true", help="exit 1 where a stated limit is exceeded")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.format == "markdown":
        print(MARKDOWN_HEAD)
    print(_machine(), file=sys.stderr, flush=True)
    rows: list[Row] = []
    for name in options.names or NAMES:
        for row in _measured(name, tiny=options.tiny):
            print(PRINTERS[options.format](row), flush=True)
            rows.append(row)
    exceeded = [limit for row in rows for limit in row.limits if not limit.holds]
    return 1 if options.check and exceeded else 0


def _machine() -> str:
    """What numbers depend on; a load above zero here means that others work too."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores · load {load} · Python {platform.python_version()} · {git}"


def _measured(name: str, *, tiny: bool) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix=f"wo-bench-{name}-"))
    try:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        rows: list[Row] = module.run(folder, tiny=tiny)
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
