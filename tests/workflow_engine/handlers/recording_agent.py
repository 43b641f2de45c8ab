"""The scripted agent behind one that keeps each prompt as it came, byte for byte, in the folder named first."""

import subprocess
import sys
from pathlib import Path

SCRIPTED = Path(__file__).parents[2] / "e2e" / "scripted_agent.py"


def main() -> int:
    folder, *arguments = sys.argv[1:]
    prompt = sys.stdin.buffer.read()
    place = Path(folder)
    place.mkdir(exist_ok=True)
    (place / f"{len(list(place.iterdir()))}.prompt").write_bytes(prompt)
    return subprocess.run([sys.executable, str(SCRIPTED), *arguments], input=prompt, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
