"""`uv run python -m tests.chaos --orders N --workers W --clusters 2 --seed S --faults 0.05 [--database postgres]`.

Prints progress on standard error and a summary on standard output; exit code 0 only if the law holds.
"""

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.run import ChaosOptions, run_chaos
from tests.support_postgres import private_postgres


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.chaos", description=__doc__)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8, help="steps at the same time in each cluster")
    parser.add_argument("--clusters", type=int, default=2)
    parser.add_argument("--seed", default="1")
    parser.add_argument(
        "--faults", type=float, default=0.05, help="chance of each kind of fault at each step"
    )
    parser.add_argument("--lease", type=int, default=30, help="seconds")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument(
        "--timeout", type=float, default=240, help="seconds without any progress until it gives up"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder, with the logs of all processes")
    given = parser.parse_args()
    options = ChaosOptions(
        orders=given.orders,
        workers=given.workers,
        clusters=given.clusters,
        seed=given.seed,
        faults=given.faults,
        lease_seconds=given.lease,
        timeout_seconds=given.timeout,
    )
    with ExitStack() as stack:
        url = ""
        if given.database == "postgres":
            url = stack.enter_context(private_postgres()).url
        folder = Path(tempfile.mkdtemp(prefix="wo-chaos-", dir="/tmp"))
        if not given.keep:
            stack.callback(_remove, folder)
        print(f"in {folder}", file=sys.stderr)
        summary = run_chaos(folder, options, url, tell=lambda text: print(text, file=sys.stderr, flush=True))
        print(summary.text())
    return 0 if summary.holds else 1


def _remove(folder: Path) -> None:

    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
