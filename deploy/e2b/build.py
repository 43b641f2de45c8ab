"""Builds the E2B template from `e2b.Dockerfile` beside it. Run by hand, with E2B_API_KEY set."""

import sys
from pathlib import Path

from e2b import Template, default_build_logger

DEFINITION = Path(__file__).with_name("e2b.Dockerfile")


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "work-orders"
    template = (
        Template()
        .from_dockerfile(str(DEFINITION))
        # What E2B's base gives the account `user` is more than an agent needs: it could stop the machine's own daemon.
        .run_cmd("rm -f /etc/sudoers.d/user; gpasswd --delete user sudo || true", user="root")
    )
    built = Template.build(template, name, cpu_count=2, memory_mb=2048, on_build_logs=default_build_logger())
    print(f"Built {built.name}. Set WORKORDERS_E2B_TEMPLATE={name} for the server, then `manage.py doctor`.")


if __name__ == "__main__":
    main()
