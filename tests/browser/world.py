"""What the browser tests and the screenshots start: a browser, GitHub and git over the wire, the real server."""

import sqlite3
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.conftest import TOKEN
from tests.e2e.harness import SQLITE_FILE, Json, LiveServer, wait_for
from tests.fakes.git_http import FakeGitServer
from tests.fakes.github import FakeGitHub, Repository
from tests.support import require_program

SCRIPTED = f"{sys.executable} {Path(__file__).parents[1] / 'e2e' / 'scripted_agent.py'}"
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SOURCES = {
    "README.md": "# Widgets\n\nSmall parts.\n",
    "src/widgets.py": '"""Widgets."""\n\n\n'
    "def area(width: float, height: float) -> float:\n    return width * height\n",
}
PHASES = ("planning", "implementing", "testing")
HOLD = "run until [ -e .git/go-$WORKORDERS_PHASE ]; do sleep 0.1; done"  # an agent's, until `Site.let_go`
type Environment = Mapping[str, str]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a display and without any name but loopback."""
    program = require_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@dataclass
class Remotes:
    """GitHub's API and its git."""

    github: FakeGitHub
    git: FakeGitServer

    def add_repository(self, owner: str = "acme", name: str = "widgets") -> Repository:
        self.git.create_repository(owner, name, SOURCES)
        return self.github.add_repository(owner, name)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GH_TOKEN": TOKEN,
            "GH_CONFIG_DIR": str(self.github.gh_config_dir),
            "WORKORDERS_GITHUB_GIT_BASE_URL": self.git.base_url,
            "WORKORDERS_AGENT_COMMAND": SCRIPTED,
            "WORKORDERS_WORKERS": "4",
        }


@contextmanager
def remotes(folder: Path) -> Iterator[Remotes]:
    require_program("gh")
    require_program("bwrap")
    with FakeGitServer(folder / "remotes") as git, FakeGitHub(branch_sha=git.branch_sha) as github:
        git.add_token(TOKEN)
        github.add_token(TOKEN)
        yield Remotes(github, git)


@dataclass
class Site:
    """The running server as its visitors see it, and the world behind it."""

    server: LiveServer
    remotes: Remotes

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def order(self, prompt: str, *, repository_url: str = "acme/widgets", **fields: object) -> str:
        """A new order's id; `prompt` may be indented like the code around it."""
        prompt = textwrap.dedent(prompt).strip()
        created = self.server.create(repository_url=repository_url, initial_prompt=prompt, **fields)
        return str(created["agent_work_order_id"])

    def until(self, order_id: str, event: str, times: int = 1, seconds: float = 60) -> None:
        wait_for(
            lambda: self.server.events(order_id).count(event) >= times, seconds, f"{event} of {order_id}"
        )

    def let_go(self, order_id: str, phase: str) -> None:
        """End what `HOLD` makes the agent of a local sandbox wait for in this phase, which has begun or is to begin."""
        self.until(order_id, "agent_session_started", times=PHASES.index(phase) + 1)
        name = str(self.server.order(order_id)["sandbox_identifier"])
        (self.server.data_dir / "sandboxes" / name / name / ".git" / f"go-{phase}").touch()

    def finished(self, order_id: str) -> Json:
        return self.server.finished(order_id)

    def cancel(self, order_id: str) -> None:
        answer = self.server.http.post(f"/api/agent-work-orders/{order_id}/cancel")
        assert answer.status_code in {202, 409}, answer.text

    def sql(self, statement: str, *values: str) -> None:
        """One statement on the server's own SQLite file; much quicker than starting Django."""
        with closing(sqlite3.connect(self.server.data_dir / SQLITE_FILE, timeout=20)) as connection:
            connection.execute(statement, values)
            connection.commit()

    def age(self, order_id: str) -> None:
        """The order ended a minute earlier, so that no late log entries are awaited any more."""
        self.sql(
            "UPDATE workorders_agentworkorder SET execution_completed_at = "
            "datetime(execution_completed_at, '-1 minute') WHERE agent_work_order_id = ?",
            order_id,
        )

    def shell(self, code: str) -> None:
        """Python with Django on the server's own database."""
        done = self.server.manage("shell", "--verbosity=0", "--command", textwrap.dedent(code))
        assert done.returncode == 0, done.stderr


@contextmanager
def site(folder: Path, world: Remotes, **environment: str) -> Iterator[Site]:
    with LiveServer(folder, {**world.environment, **environment}) as server:
        yield Site(server, world)
