#!/usr/bin/env python
"""Django's command line, with embedded defaults for `quickstart`."""

import os
import sys

from config import env


def main() -> None:
    if sys.argv[1:2] in (["serve"], ["qcluster"], ["quickstart"]):
        os.umask(0o077)  # what the server writes is its own user's
    env.point_django_at_settings()
    if sys.argv[1:2] == ["quickstart"]:
        env.use_embedded_defaults()
    try:
        env.current()
    except env.EnvironmentInvalid as error:
        sys.exit(str(error))
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
