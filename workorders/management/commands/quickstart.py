"""`quickstart`: the main job on embedded defaults, with no account and no network.

`config.env.use_embedded_defaults` has set this process's environment before Django started; the server and
the workers started here inherit it.
"""

import logging
import signal
import sys
import time
from argparse import ArgumentParser
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from sandboxes.errors import ExpectedError
from sandboxes.kinds import SandboxType
from sandboxes.processes.run import Service
from workorders.domain.states import FINISHED, AgentWorkOrderStatus
from workorders.domain.workflows import AgentWorkflowType
from workorders.management import arguments
from workorders.management.printing import failure
from workorders.management.sample_repository import make_sample_repository
from workorders.models import AgentWorkOrder
from workorders.services import work_orders as services
from workorders.serving.web import LOOPBACK, listen, web_address
from workorders.text.wording import counted

REQUEST = "Add a goodbye() function beside greet(), with a test, and mention it in the README."
_START_SECONDS = 40
_ORDER_SECONDS = 300


class Command(BaseCommand):
    help = "Run one plan–build–test order on a sample repository with the rehearsal agent; no account needed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="exit when the order is complete")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=arguments.port, default=8000)

    def handle(self, *_args: Any, **options: Any) -> None:
        if settings.WORKORDERS_AUTH != "none":
            raise CommandError(
                "quickstart has no sign-in, but WORKORDERS_AUTH=required is set. Unset it, or use `serve`."
            )
        if options["host"] not in LOOPBACK:
            raise CommandError(
                "quickstart has no sign-in, so it serves on loopback only; use `serve` elsewhere."
            )
        listen(options["host"], options["port"]).close()  # before anything is made: the port may be taken
        try:
            self._run(options)
        except ExpectedError as error:
            raise failure(error) from error

    def _run(self, options: dict[str, Any]) -> None:
        if settings.WORKORDERS_AGENT_ISOLATION == "none":
            self._say("bubblewrap is not installed: the rehearsal agent runs without isolation.")
        self._say("Preparing the database …")
        call_command("migrate", verbosity=0, interactive=False)
        remote = make_sample_repository(settings.WORKORDERS_DATA_DIR / "quickstart")
        self._say(f"Sample repository: {remote}")
        address = web_address(options["host"], options["port"])
        signal.signal(
            signal.SIGTERM, signal.default_int_handler
        )  # ends like Ctrl-C: the server is stopped too
        self._log = settings.WORKORDERS_DATA_DIR / "logs" / "quickstart.log"
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        serve = Service(
            [sys.executable, sys.argv[0], "serve", f"--host={options['host']}", f"--port={options['port']}"],
            output=self._log,
        )
        try:
            self._wait_until_ready(serve, address)
            order = self._run_order(serve, remote, address)
            self._report(order, remote)
            if order.status != AgentWorkOrderStatus.COMPLETED:
                raise CommandError(
                    f"The order {order.status}: {order.error_message} {order.error_advice or ''}"
                )
            if not options["once"]:
                self._say(f"Work Orders stays up at {address}/ — stop it with Ctrl-C.")
                while serve.poll() is None:
                    time.sleep(0.5)
        except KeyboardInterrupt:
            self._say("Stopping …")
        finally:
            serve.stop(within_seconds=20)

    def _wait_until_ready(self, serve: Service, address: str) -> None:
        self._say(f"Starting web and workers (their log: {self._log}) …")
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if serve.poll() is not None:
                raise CommandError(f"The server did not start; {self._log} says why.")
            if _is_up(address):
                return
            time.sleep(0.2)
        raise CommandError(f"The server did not answer at {address} within {_START_SECONDS} s.")

    def _run_order(self, serve: Service, remote: Path, address: str) -> AgentWorkOrder:
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.WARNING)  # what happens is told here, and logged in the order's own file
        order_id = _create_order(remote).agent_work_order_id
        self._say(f"Work order {order_id}: {address}/work-orders/{order_id}/")
        seen = ""
        deadline = time.monotonic() + _ORDER_SECONDS
        while time.monotonic() < deadline and serve.poll() is None:
            order = services.get_agent_work_order(order_id)
            commits = counted(order.git_commit_count, "commit")
            phase = "" if order.status in FINISHED else f": {order.current_phase or 'waiting'}"
            line = f"  {order.status}{phase} · {commits}"
            if line != seen:
                self._say(line)
                seen = line
            if order.status in FINISHED:
                return order
            time.sleep(0.2)
        raise CommandError(f"The order did not finish; {self._log} says why.")

    def _report(self, order: AgentWorkOrder, remote: Path) -> None:
        self._say("")
        for run in order.phase_runs.exclude(kind="delivery"):
            seconds = (run.completed_at - run.started_at).total_seconds() if run.completed_at else 0
            commits = counted(run.commits, "commit")
            self._say(f"  {run.phase:<14} {run.status:<10} {commits:<9}  {seconds:.1f} s")
        self._say("")
        for entry in order.log_entries.filter(event="git_commit_created"):
            self._say(f"  {entry.fields['git_commit_sha'][:10]}  {entry.fields['message']}")
        self._say(f"\n  commits {order.git_commit_count}, files {order.git_files_changed}, ", ending="")
        self._say(f"+{order.git_lines_added} −{order.git_lines_removed}")
        self._say(f"  branch  {order.git_branch_name} in {remote}")
        self._say(f"  status  {order.status} ({order.outcome})\n")

    def _say(self, text: str, ending: str = "\n") -> None:
        self.stdout.write(text, ending=ending)
        self.stdout.flush()


def _is_up(address: str) -> bool:
    connection = HTTPConnection(address.removeprefix("http://"), timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _create_order(remote: Path) -> AgentWorkOrder:
    """In the own database and not over HTTP, where another server might answer. Raises `ExpectedError`."""
    request = services.NewWorkOrder(
        repository=services.parse_repository(str(remote)),
        sandbox_type=SandboxType.GIT_WORKTREE,
        workflow_type=AgentWorkflowType.PLAN_BUILD_TEST,
        initial_prompt=REQUEST,
    )
    return services.create_agent_work_order(request=request, by="command")
