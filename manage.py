#!/usr/bin/env python
"""Django's command line; what it adds is in `config.command_line`."""

import atexit
import os
import signal
import sys
from types import FrameType


def _stopped_well(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)


# Before the imports, which take a while: who stops a server that is still starting has stopped it well, and Ctrl-C
# is no defect.
if sys.argv[1:2] in (["serve"], ["qcluster"]):
    signal.signal(signal.SIGTERM, _stopped_well)
if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    is_server = sys.argv[1:2] in (["serve"], ["qcluster"])
    signal.signal(signal.SIGINT, _stopped_well if is_server else _interrupted)
    # The first registered runs last: a command that is done keeps its exit code, since Python gives handlers back then.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

from config import command_line  # noqa: E402  # after the signals


def main() -> None:
    sys.exit(command_line.main(sys.argv))


if __name__ == "__main__":
    main()
