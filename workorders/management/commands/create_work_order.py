"""`manage.py create_work_order`: the same path as POST /api/agent-work-orders, and optionally wait for the end."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from pydantic import ValidationError

from github_app.references import names_a_repository
from sandboxes.errors import ExpectedError
from sandboxes.kinds import SandboxType
from workorders.domain.workflows import AgentWorkflowType
from workorders.incoming import CreateAgentWorkOrderRequest
from workorders.management import arguments
from workorders.management.database import DatabaseCommand
from workorders.management.printing import as_json, describe, failure, refusal
from workorders.management.waiting import wait_until_completed
from workorders.models import AgentWorkOrder
from workorders.reading import progress
from workorders.services import work_orders as services


class Command(DatabaseCommand):
    help = "Create a work order; with --wait show its progress and exit 0 only if it completes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--repository", help="URL, owner/name, an issue's link, or an allowed local folder"
        )
        parser.add_argument("--workflow", default=AgentWorkflowType.PLAN_BUILD_TEST.value)
        parser.add_argument("--sandbox", default=SandboxType.GIT_BRANCH.value)
        parser.add_argument("--issue", help="number or link of the GitHub issue to work on")
        parser.add_argument("--prompt", help="what the agent is asked to do")
        parser.add_argument("--base-branch", help="the branch to start from")
        parser.add_argument("--model", help="the agent's model")
        parser.add_argument("--wait", action="store_true", help="show progress until the order ends")
        parser.add_argument(
            "--wait-timeout", type=arguments.seconds, metavar="SECONDS", help="wait no longer than this"
        )
        parser.add_argument("--json", action="store_true", help="print the API's JSON")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        order = self._create(options)
        waits = options["wait"] or options["wait_timeout"] is not None
        out = self.stderr if options["json"] else self.stdout
        if waits:
            out.write(f"{order.agent_work_order_id} on branch {order.git_branch_name}")
            out.flush()
            self._wait(order.agent_work_order_id, options)
        self._print(order.agent_work_order_id, options)

    def _wait(self, order_id: str, options: dict[str, Any]) -> None:
        """Raises `CommandError` where the order does not complete; its JSON is printed all the same."""
        try:
            wait_until_completed(
                order_id,
                timeout_seconds=options["wait_timeout"],
                say=lambda line: self._say(line, as_json=options["json"]),
            )
        except CommandError:
            if options["json"]:
                self._print(order_id, options)
            raise

    def _print(self, order_id: str, options: dict[str, Any]) -> None:
        answer = progress.answer_for(progress.work_order(order_id))
        self.stdout.write(as_json(answer) if options["json"] else describe(answer.agent_work_order))

    def _create(self, options: dict[str, Any]) -> AgentWorkOrder:
        repository = options["repository"] or _issue_link(options["issue"])
        if not repository:
            raise CommandError(
                "Name the repository with --repository, or the issue by its link with --issue."
            )
        try:
            request = CreateAgentWorkOrderRequest(
                repository_url=_absolute_folder(repository),
                workflow_type=options["workflow"],
                sandbox_type=options["sandbox"],
                github_issue_number=options["issue"],
                initial_prompt=options["prompt"],
                base_branch=options["base_branch"],
                model=options["model"],
            )
            return services.create_agent_work_order(request=request.to_new_work_order(), by="command")
        except ValidationError as error:
            raise refusal(error) from error
        except ExpectedError as error:
            raise failure(error) from error

    def _say(self, line: str, *, as_json: bool) -> None:
        """Progress goes to standard error where standard output carries the JSON."""
        stream = self.stderr if as_json else self.stdout
        stream.write(f"  {line}")
        stream.flush()


def _issue_link(issue: str | None) -> str:
    """What was given for the issue, where that names its repository, too."""
    return issue if issue and names_a_repository(issue) else ""


def _absolute_folder(repository: str) -> str:
    """An existing folder's absolute path where local repositories are allowed, else the text itself."""
    if not settings.WORKORDERS_ALLOW_LOCAL_REPOSITORIES or "://" in repository or "\x00" in repository:
        return repository
    folder = Path(repository).expanduser()
    return str(folder.resolve()) if len(repository) < 512 and folder.is_dir() else repository
