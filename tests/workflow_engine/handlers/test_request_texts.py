"""A request reaches the agent to the letter, and is masked wherever anybody else can look.

One order with canaries in its prompt, a follow-up, and its issue's title and body goes through the real engine, git
over HTTP and gh. Then every page, every route of the API, the admin, the commands, the rows, the logs and what GitHub
was sent are searched for them.
"""

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.apps import apps
from django.conf import LazySettings
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from config.logging import OrderFileWriter
from tests.fakes.git_http import FakeGitServer, git
from tests.fakes.github import FakeGitHub
from tests.support import require_program
from tests.workflow_engine.engine import finished, running_engine
from workorders.models import AgentWorkOrder, IdempotencyRecord
from workorders.models.written_text import WrittenText

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_settings")]
AGENT = Path(__file__).with_name("recording_agent.py")
TOKEN = "ghp_requestTextToken0123456789abcdefghijk"
CONNECTION = "postgres://postgres:hunter2hunter2@db.example.com:5432/app"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"
LEAKED = "ghp_" + "q7W2" * 9  # in an issue, which was there before anybody asked
CANARIES = (
    "hunter2hunter2",
    "AKIAIOSFODNN7EXAMPLE",
    JWT[-30:],
    "loopback-pw",
    "curlsecretcurlsecretcurl",
    LEAKED,
)
PROMPT = (
    f"  Use {CONNECTION} here\r\nand redis://:loopback-pw@127.0.0.1/0, <request> and </request> too\t\n"
    f"agent: say I will use {CONNECTION} and {JWT}\n"
    f"agent[implementing]: run printf 'url = \"{CONNECTION}\"' > db.py && git add db.py "
    f"&& git commit -qm 'Use {CONNECTION}'\n"
    f"aws_access_key_id = AKIAIOSFODNN7EXAMPLE\nAuthorization: Bearer curlsecretcurlsecretcurl\nü 漢字 \u202e\x1b[31m  "
)
FOLLOW_UP = f"\tAlso read {JWT}\r\nfrom {CONNECTION}   \nagent: commit more.txt"
TITLE = f"Cannot reach {CONNECTION}"
BODY = f"It said:\r\n\r\n    {CONNECTION}\n{LEAKED}\n</github_issue> AKIAIOSFODNN7EXAMPLE \n"
KEY = {"HTTP_IDEMPOTENCY_KEY": "canary"}


class World:
    """An order that was carried out and followed up, and everything outside."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.git = stack.enter_context(FakeGitServer(folder / "remotes"))
        self.github = stack.enter_context(FakeGitHub(branch_sha=self.git.branch_sha))
        self.git.add_token(TOKEN)
        self.github.add_token(TOKEN)
        self.bare = self.git.create_repository("acme", "widgets", {"README.md": "# Widgets\n"})
        self.repository = self.github.add_repository("acme", "widgets")
        self.prompts = folder / "prompts"
        self.client = Client(raise_request_exception=False)
        self.answers: list[str] = []

    def told(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.prompts.iterdir())]

    def post(self, path: str, body: dict[str, Any], **headers: Any) -> Any:
        response = self.client.post(path, json.dumps(body), content_type="application/json", **headers)
        self.answers.append(response.content.decode() + str(response.headers))
        return response

    def look(self, path: str) -> None:
        response = self.client.get(path)
        assert response.status_code != 500, path
        self.answers.append(f"{path}\n{response.content.decode() if not response.streaming else ''}")


@pytest.fixture
def world(tmp_path: Path, settings: LazySettings) -> Iterator[World]:
    gh = Path(require_program("gh"))
    with ExitStack() as stack:
        found = World(tmp_path, stack)
        settings.GH_TOKEN = TOKEN
        settings.GH_CONFIG_DIR = str(found.github.gh_config_dir)
        settings.WORKORDERS_PATH = f"{gh.parent}:{settings.WORKORDERS_PATH}"
        settings.WORKORDERS_GITHUB_GIT_BASE_URL = found.git.base_url
        settings.WORKORDERS_AGENT_COMMAND = (sys.executable, str(AGENT), str(found.prompts))
        yield found


def carried_out(world: World) -> AgentWorkOrder:
    issue = world.github.add_issue(world.repository, TITLE, BODY).number
    body = {
        "repository_url": "acme/widgets",
        "sandbox_type": "git_branch",
        "workflow_type": "agent_workflow_plan_build",
        "github_issue_number": issue,
        "initial_prompt": PROMPT,
    }
    for _ in range(2):  # the second answer is the kept one
        assert world.post("/api/agent-work-orders", body, **KEY).status_code == 201
    order = AgentWorkOrder.objects.get()
    with running_engine():
        assert finished(order).status == "completed", order.error_message
        path = f"/api/agent-work-orders/{order}/prompt"
        assert world.post(path, {"prompt_text": FOLLOW_UP}, **KEY).status_code == 200
        assert finished(order).status == "completed", order.error_message
    return order


def addresses(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    """Every address of the server as its pattern spells it."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, prefix + str(pattern.pattern))
        elif isinstance(pattern, URLPattern):
            yield prefix + str(pattern.pattern)


def visit_everything(world: World, order: AgentWorkOrder) -> int:
    user = User.objects.create_superuser("ann", password="x")
    known = {"agent_work_order_id": str(order), "pk": order.repository.pk, "position": 0}
    visited = 0
    for pattern in set(addresses(get_resolver().url_patterns)):
        if pattern.startswith(("admin/", "^")) or "(?P" in pattern:
            continue
        path = "/" + pattern
        for name, value in known.items():
            for kind in ("<", "<str:", "<int:"):
                path = path.replace(f"{kind}{name}>", str(value))
        world.look(path)
        visited += 1
    for query in ("?q=hunter2", "?q=postgres", "?all=1", f"?q={order}"):
        world.look(f"/{query}")
        world.look(f"/api/agent-work-orders{query}")
    world.look(f"/work-orders/{order}/feed/?after=0&kind=all")
    world.client.force_login(user)
    for model in site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        for query in ("", "?q=hunter2", "?q=Use"):
            world.look(reverse(f"admin:{name}_changelist") + query)
        for row in model._default_manager.all()[:4]:
            for page in ("change", "history", "delete"):
                world.look(reverse(f"admin:{name}_{page}", args=[row.pk]))
                visited += 1
    return visited


def printed(order: AgentWorkOrder) -> str:
    out = io.StringIO()
    call_command("list_work_orders", stdout=out, stderr=out)
    call_command("list_work_orders", "--json", stdout=out, stderr=out)
    call_command("show_work_order", str(order), stdout=out, stderr=out)
    call_command("show_work_order", str(order), "--json", stdout=out, stderr=out)
    call_command("dumpdata", "--natural-foreign", stdout=out, stderr=out)
    asked = ("--repository", "acme/widgets", "--workflow", "agent_workflow_plan", "--prompt", PROMPT)
    call_command("create_work_order", *asked, "--json", stdout=out, stderr=out)
    call_command("create_work_order", *asked, stdout=out, stderr=out)
    return out.getvalue()


def rows() -> str:
    kept = [model for model in apps.get_models() if model is not WrittenText]
    return "\n".join(repr(list(model._default_manager.values())) for model in kept)


def test_the_agent_reads_what_was_written_and_nobody_else_does(
    world: World, settings: LazySettings, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    try:
        order = carried_out(world)
        assert visit_everything(world, order) > 60
        commands = printed(order)
    finally:
        root.setLevel(level)
    first, second, third = world.told()
    for prompt in (first, second, third):
        assert PROMPT.encode() in prompt
        assert f"#{order.github_issue_number}: {TITLE}\n\n{BODY}".encode() in prompt
    assert FOLLOW_UP.encode() in third
    assert FOLLOW_UP.encode() not in second
    code = git("show", f"{order.git_branch_name}:db.py", folder=world.bare)
    assert CONNECTION in code  # the agent may write it, and it is pushed

    sent = json.dumps([request.body for request in world.github.requests], default=str)
    (pull_request,) = world.repository.pull_requests.values()
    assert "[redacted: password in a URL]" in (pull_request.title + (pull_request.body or ""))
    files = "\n".join(
        path.read_text(errors="replace")
        for folder in (settings.WORKORDERS_DATA_DIR / "logs", Path(root_logs()))
        for path in folder.rglob(f"*{order}*")
        if path.is_file()
    )
    assert "agent_prompt_queued" in files
    captured = capfd.readouterr()
    places = {
        "answers": "\n".join(world.answers),
        "commands": commands,
        "rows": rows(),
        "GitHub": sent + pull_request.title + (pull_request.body or ""),
        "log files": files,
        "output": captured.out + captured.err,
        "words": " ".join(map(str, (order, *order.prompts.all(), *WrittenText.objects.all()))),
    }
    found = [(place, canary) for place, text in places.items() for canary in CANARIES if canary in text]
    assert found == []
    assert IdempotencyRecord.objects.count() == 2
    assert "[redacted: password in a URL]" in places["answers"]


def root_logs() -> str:
    """The folder this process really writes its logs to: settings read before a test moves them."""
    processors = structlog.get_config()["processors"]
    [writer] = [one for one in processors if isinstance(one, OrderFileWriter)]
    return str(writer._folder)
