"""One browser, one world and one server for all browser tests; a fresh server where a test needs it empty."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.visits import Visit
from tests.browser.world import Remotes, Site, chromium, remotes, site

type Open = Callable[..., Visit]
_ARCHIVE = """
from django.utils import timezone
from github_app.models import Repository
from workorders.models import AgentWorkOrder
from workorders.models.agent_work_order import new_agent_work_order_id
repository = Repository.objects.create(
    repository_url="https://github.com/acme/archive", host="github.com", owner="acme", name="archive")
rows = []
for number in range(60):
    order_id = new_agent_work_order_id()
    rows.append(AgentWorkOrder(
        agent_work_order_id=order_id, repository=repository, repository_url=repository.repository_url,
        sandbox_type="git_worktree" if number % 2 else "git_branch", workflow_type="agent_workflow_plan",
        initial_prompt=f"Archived order {number:02}", git_branch_name=f"feat-{order_id}",
        head_sha="1" * 40,
        status="cancelled" if number < 5 else "completed", outcome=None if number < 5 else "branch_pushed",
        execution_completed_at=timezone.now()))
AgentWorkOrder.objects.bulk_create(rows)
"""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ends with this package: while it runs, its event loop makes Django refuse the database in this thread."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remotes]:
    with remotes(tmp_path_factory.mktemp("world")) as started:
        started.add_repository()
        yield started


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory, world: Remotes) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("server"), world) as started:
        yield started


@dataclass(frozen=True)
class Orders:
    """Ids of the orders that tests only look at; created together, so that nobody waits for one after another."""

    completed: str
    failed: str
    running: str


@pytest.fixture(scope="package")
def orders(live: Site) -> Iterator[Orders]:
    made = Orders(
        completed=live.order(
            """
            Make the widgets round
            agent: say I read the sources. They are **small**.
            agent[planning]: run printf '# Round widgets\\n\\n1. Measure\\n2. Round\\n' > specs.md
            agent[implementing]: commit src/round.py
            """
        ),
        failed=live.order("Make it fail\nagent[implementing]: fail The widgets resist"),
        running=live.order("Take your time\nagent: say I think about it\nagent: sleep 900"),
    )
    yield made
    live.cancel(made.running)


@pytest.fixture(scope="package")
def completed(live: Site, orders: Orders) -> str:
    """An order with plan, change, test results and pull request."""
    live.server.completed(orders.completed)
    return orders.completed


@pytest.fixture(scope="package")
def failed(live: Site, orders: Orders) -> str:
    assert live.finished(orders.failed)["status"] == "failed"
    return orders.failed


@pytest.fixture(scope="package")
def running(live: Site, orders: Orders) -> str:
    """An order in its first phase, for as long as the tests need it."""
    live.until(orders.running, "agent_message")
    return orders.running


@pytest.fixture(scope="package")
def archive(live: Site) -> str:
    """60 finished orders of one repository, 5 of them cancelled; the repository's name."""
    live.shell(_ARCHIVE)
    return "acme/archive"


@pytest.fixture
def open_browser(browser: Browser, live: Site) -> Iterator[Open]:
    """`open_browser(color_scheme="dark", …)`: another person's browser, as a `Visit`."""
    with ExitStack() as stack:

        def open_one(*, at: Site = live, **options: Any) -> Visit:
            return stack.enter_context(Visit(browser, at, **options))

        yield open_one


@pytest.fixture
def visit(open_browser: Open) -> Visit:
    return open_browser()


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page
