"""axe finds nothing and nothing is too wide: every page, both themes, desktop and phone."""

from collections import defaultdict
from typing import Literal

import pytest
from django.urls import resolve
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.visits import DESKTOP, MARKS, PHONE, Visit
from tests.browser.world import Site
from workorders.urls import urlpatterns

pytestmark = MARKS
NOWHERE = "/nothing/here/"
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
    "no such page": NOWHERE,
}
WITH_FINDINGS_OF_THEIR_OWN = {"sign-in", "account", "api-key-new", "password"}  # test_account.py
NO_PAGES = {
    *("theme", "sign-out", "api-key-revoke", "repository-verify", "repository-protected-paths"),
    *(f"work-order-{action}" for action in ("prompt", "retry", "continue", "approve", "state", "feed")),
    *("repository-state", "repository-issues", "repository-submodules-allowed"),
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


def test_no_page_is_left_out() -> None:
    paths = (path.partition("?")[0].format_map(defaultdict(lambda: "wo-aaaaaaaa")) for path in PAGES.values())
    looked_at = {resolve(path).url_name for path in paths if path != NOWHERE}
    known = {pattern.name for pattern in urlpatterns}
    assert known - NO_PAGES - WITH_FINDINGS_OF_THEIR_OWN == looked_at


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


def test_whoever_is_refused(open_browser: Open) -> None:
    visit = open_browser(extra_http_headers={"X-Forwarded-For": "192.0.2.1"})
    visit.expect("403")
    visit.page.goto("/")
    expect(visit.page.get_by_role("heading", name="This is not for you")).to_be_visible()
    assert not seen_in_all_settings(visit)


@pytest.mark.usefixtures("completed")
def test_a_mistake_of_the_server(open_browser: Open, live: Site) -> None:
    visit = open_browser()
    visit.expect("500")
    live.sql("ALTER TABLE github_app_openissue RENAME TO away")
    try:
        visit.page.goto("/repositories/1/issues/")
    finally:
        live.sql("ALTER TABLE away RENAME TO github_app_openissue")
    expect(visit.page.get_by_role("link", name="Try again")).to_be_visible()
    assert not seen_in_all_settings(visit)


def test_forms_with_errors(open_browser: Open, live: Site) -> None:
    visit = open_browser()
    visit.expect("422")
    visit.page.goto("/work-orders/new/")
    visit.page.get_by_role("button", name="Create work order").click()
    visit.page.get_by_role("alert").wait_for()
    found = seen_in_all_settings(visit)
    assert not found, "\n".join(found)
