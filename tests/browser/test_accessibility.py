"""axe finds nothing and nothing is too wide: every page, both themes, desktop and phone."""

from typing import Literal

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.visits import DESKTOP, MARKS, PHONE, Visit
from tests.browser.world import Site

pytestmark = MARKS
PAGES = {
    "list": "/",
    "nothing found": "/?q=nothing-has-this-name",
    "new order": "/work-orders/new/?repository=acme/widgets",
    "repositories": "/repositories/",
    "repository": "/repositories/1/",
    "running": "/work-orders/{running}/",
    "failed": "/work-orders/{failed}/",
    "completed": "/work-orders/{completed}/",
    "changes": "/work-orders/{completed}/changes/",
    "changed file": "/work-orders/{completed}/changes/1/",
    "cancel": "/work-orders/{running}/cancel/",
    "not found": "/work-orders/wo-aaaaaaaa/",
    "no such page": "/nothing/here/",
}
SETTINGS: list[tuple[int, Literal["light", "dark"]]] = [
    (DESKTOP, "light"),
    (DESKTOP, "dark"),
    (PHONE, "dark"),
    (PHONE, "light"),
]


def seen_in_all_settings(visit: Visit) -> list[str]:
    """The page follows the window's width and the system's theme while it is open; one load is enough."""
    found: list[str] = []
    for width, scheme in SETTINGS:
        visit.page.set_viewport_size({"width": width, "height": 900})
        visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        expect(visit.page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        found += [f"{width} px, {scheme}: {it}" for it in [*visit.too_wide(), *visit.axe()]]
    return found


@pytest.mark.parametrize("name", PAGES)
def test_page(open_browser: Open, running: str, failed: str, completed: str, name: str) -> None:
    address = PAGES[name].format(running=running, failed=failed, completed=completed)
    visit = open_browser()
    if name in {"not found", "no such page"}:
        visit.expect("404")
    visit.page.goto(address)
    found = seen_in_all_settings(visit)
    assert not found, "\n".join(found)


def test_an_order_that_waits(open_browser: Open, live: Site) -> None:
    """For disk space, and for a person who approves."""
    order_id = live.order("Wait for it\nagent: say I wait\nagent: sleep 900")
    live.until(order_id, "agent_message")
    visit = open_browser()
    found: list[str] = []
    for reason, heading in (("disk_full", "Waiting"), ("approval_required", "Approve commit")):
        live.sql(
            "UPDATE workorders_agentworkorder SET waiting_reason = ?, waiting_message = 'It says why.', "
            "approval_sha = ?, approval_paths = ? WHERE agent_work_order_id = ?",
            reason,
            "b" * 40,
            '[{"path": ".github/workflows/ci.yml", "commit_sha": "' + "b" * 40 + '"}]',
            order_id,
        )
        visit.page.goto(f"/work-orders/{order_id}/")
        expect(visit.page.get_by_text(heading).first).to_be_visible()
        found += seen_in_all_settings(visit)
    live.cancel(order_id)
    assert not found, "\n".join(found)


def test_forms_with_errors(open_browser: Open, live: Site) -> None:
    visit = open_browser()
    visit.expect("422")
    visit.page.goto("/work-orders/new/")
    visit.page.get_by_role("button", name="Create work order").click()
    visit.page.get_by_role("alert").wait_for()
    found = seen_in_all_settings(visit)
    assert not found, "\n".join(found)
