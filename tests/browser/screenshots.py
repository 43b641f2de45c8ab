"""`uv run python -m tests.browser.screenshots`: the pages as pictures for the documentation, in docs/screenshots.

The real server with an agent of its own for the pictures: orders that are finished, failed, running, waiting for the
model and waiting for an approval; and an account. The agent is called what it is called elsewhere, for its command line
names a folder of this machine.
"""

import sys
import tempfile
from pathlib import Path

from tests.browser.visits import DESKTOP, PHONE, Visit
from tests.browser.world import Site, chromium, remotes, site
from tests.e2e.harness import ROOT

TARGET = ROOT / "docs" / "screenshots"
PERSON = "ada"
LARGEST_BYTES = 200_000
AGENT = f"{sys.executable} {Path(__file__).with_name('picture_agent.py')}"


def addresses(place: Site) -> dict[str, str]:
    """Addresses of pages by the pictures' names; makes the orders they show."""
    github = place.remotes.github
    repository = place.remotes.add_repository()
    github.add_issue(repository, "Corners cut fingers", "The corners are sharp.", labels=("bug", "safety"))
    github.add_issue(repository, "Document the units of area", "", labels=("docs",))
    place.server.http.post(
        "/api/github/verify-repository", json={"repository_url": "acme/widgets"}, timeout=40
    )
    failed = place.order("Remove the deprecated helpers", workflow_type="agent_workflow_build")
    place.finished(failed)
    completed = place.order(
        "Round the corners of widgets, and keep their area right", github_issue_number="1"
    )
    place.server.completed(completed)
    waiting = place.order("Please translate the labels", workflow_type="agent_workflow_build")
    approval = place.order("Widgets should be released by a tag", workflow_type="agent_workflow_build")
    for order_id in (waiting, approval):
        place.until(order_id, "workflow_step_waiting")
    running = place.order("Add a price list that follows from the area", sandbox_type="git_worktree")
    place.until(running, "agent_message", times=3)
    return {
        "orders": "/",
        "new-order": "/work-orders/new/?repository=acme/widgets&issue=2",
        "repositories": "/repositories/",
        "repository": "/repositories/1/",
        "order-running": f"/work-orders/{running}/",
        "order-failed": f"/work-orders/{failed}/",
        "order-waiting": f"/work-orders/{waiting}/",
        "order-approval": f"/work-orders/{approval}/",
        "order-completed": f"/work-orders/{completed}/",
        "changes": f"/work-orders/{completed}/changes/",
        "cancel": f"/work-orders/{running}/cancel/",
        "not-found": "/work-orders/wo-aaaaaaaa/",
    }


def take_account(visit: Visit, scheme: str) -> None:
    """The page to sign in, and the account with a key that was just made."""
    page = visit.page
    take(visit, "/account/", f"sign-in-{scheme}")
    page.get_by_label("Username").fill(PERSON)
    page.get_by_label("Password").fill(PERSON)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Name").fill(f"nightly {scheme}")
    page.get_by_role("button", name="Make the key").click()
    page.locator("#secret").wait_for()
    take(visit, "", f"account-{scheme}")


def take(visit: Visit, address: str, name: str) -> None:
    """A picture of the page at the address; of the one that is open where there is none."""
    if address:
        visit.page.goto(address, wait_until="load")
    visit.page.wait_for_timeout(300)
    path = TARGET / f"{name}.png"
    visit.page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    print(f"{size:>8} {path.relative_to(ROOT)}")
    assert size <= LARGEST_BYTES, f"{path} has {size} bytes"


def fetch_issues(visit: Visit) -> None:
    """So that the form for new orders shows some."""
    visit.page.goto("/work-orders/new/?repository=acme/widgets")
    visit.page.get_by_role("button", name="Refresh").click()
    visit.page.get_by_text("Document the units of area").wait_for(timeout=30_000)


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        remotes(Path(name) / "world") as world,
        site(Path(name) / "server", world, WORKORDERS_AGENT_COMMAND=AGENT) as place,
        chromium() as browser,
    ):
        pages = addresses(place)
        place.shell(
            f"from django.contrib.auth.models import User; User.objects.create_user({PERSON!r}, password={PERSON!r})"
        )
        place.sql("UPDATE work_order_logs SET fields = replace(fields, ?, 'claude')", AGENT)
        with Visit(browser, place) as visit:
            fetch_issues(visit)
        for scheme in ("light", "dark"):
            size = {"width": DESKTOP, "height": 960}
            with Visit(browser, place, color_scheme=scheme, viewport=size) as visit:
                visit.expect("404")
                for picture, address in pages.items():
                    take(visit, address, f"{picture}-{scheme}")
                take_account(visit, scheme)
        with Visit(browser, place, viewport={"width": PHONE, "height": 844}) as visit:
            take(visit, pages["order-running"], "order-running-phone")


if __name__ == "__main__":
    main()
