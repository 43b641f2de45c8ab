"""Runs the contract suite against a real service: `python -m tests.contracts.real --sandbox e2b`.

The suite's own settings remove providers' variables from the environment, so that no test reaches an account by
accident; here they are handed over on purpose, under other names.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

_NEEDED = {"e2b": ("E2B_API_KEY",), "dagger": ("WORKORDERS_DAGGER_IMAGE",)}
_PREFIXES = ("E2B_", "DAGGER_", "_EXPERIMENTAL_DAGGER_", "WORKORDERS_E2B_", "WORKORDERS_DAGGER_")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandbox", choices=sorted(_NEEDED), required=True)
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    asked = parser.parse_args()
    missing = [name for name in _NEEDED[asked.sandbox] if not os.environ.get(name)]
    if missing:
        print(f"Set {', '.join(missing)} to run the suite against the real service.", file=sys.stderr)
        return 2
    handed = {f"WO_REAL_{name}": value for name, value in os.environ.items() if name.startswith(_PREFIXES)}
    suite = Path(__file__).with_name("test_sandbox_contract.py")
    argv = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:randomly", str(suite), "-k", asked.sandbox]
    environment = {**os.environ, **handed, "WO_CONTRACT_REAL": asked.sandbox}
    return subprocess.run([*argv, *asked.pytest], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
