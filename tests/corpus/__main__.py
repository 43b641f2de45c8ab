"""`uv run python -m tests.corpus [NAME …]`: the whole corpus, or the named shapes; ends with 1 where the law is broken.

`--list` says the names. Takes some minutes; a slice of it is a test.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.corpus.run import SANDBOXES, run_corpus
from tests.corpus.shapes import SHAPES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="shapes (default: all)")
    parser.add_argument("--sandbox", choices=SANDBOXES, action="append", help="only in this one")
    parser.add_argument("--list", action="store_true", help="say the names of the shapes")
    options = parser.parse_args()
    if options.list:
        print("\n".join(SHAPES))
        return 0
    if unknown := [name for name in options.names if name not in SHAPES]:
        parser.error(f"no such shape: {', '.join(unknown)}")
    started = time.monotonic()
    names, sandboxes = options.names or tuple(SHAPES), options.sandbox or SANDBOXES
    with tempfile.TemporaryDirectory(prefix="wo-corpus-") as folder:
        findings = run_corpus(
            Path(folder), names=names, sandboxes=sandboxes, say=lambda line: print(line, flush=True)
        )
    print(
        f"\n{len(names)} repositories, {len(names) * len(sandboxes)} orders, {time.monotonic() - started:.0f} s"
    )
    print("\n".join(findings) or "the law held")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
