#!/usr/bin/env python
"""Django's command line, with embedded defaults for `quickstart`."""

import os
import signal
import sys

SERVING = (["serve"], ["qcluster"], ["quickstart"])
if sys.argv[1:2] in (["serve"], ["qcluster"]):
    # Before the imports, which take a while: who stops a server that is still starting has stopped it well.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))

from config import env  # noqa: E402  # after the signal
from sandboxes.hardening import close_folder, make_undumpable  # noqa: E402  # after the signal


def main() -> None:
    make_undumpable()  # its environment and memory hold the secrets
    if sys.argv[1:2] in SERVING:
        os.umask(0o077)  # what the server writes is its own user's
    env.point_django_at_settings()
    try:
        if sys.argv[1:2] == ["quickstart"]:
            env.use_embedded_defaults()
        environment = env.current()
        env.make_data_folder(environment.data_dir)
    except env.EnvironmentInvalid as error:
        sys.exit(str(error))
    if sys.argv[1:2] in SERVING:
        close_folder(environment.data_dir)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
