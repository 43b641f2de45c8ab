"""axe finds nothing and nothing is too wide: every page, both themes, desktop and phone."""

import pytest

from tests.browser.conftest import Open
from tests.browser.visits import DESKTOP, MARKS, PHONE
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
SETTINGS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]


@pytest.mark.parametrize("name", PAGES)
def test_page(open_browser: Open, running: str, failed: str, completed: str, name: str) -> None:
    address = PAGES[name].format(running=running, failed=failed, completed=completed)
    found: list[str] = []
    visit = open_browser()
    if name in {"not found", "no such page"}:
        visit.expect("404")
    for width, scheme in SETTINGS:
        visit.page.set_viewport_size({"width": width, "height": 900})
        visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        visit.page.goto(address)
        found += [f"{width} px, {scheme}: {it}" for it in [*visit.too_wide(), *visit.axe()]]
    assert not found, "\n".join(found)


def test_forms_with_errors(open_browser: Open, live: Site) -> None:
    found: list[str] = []
    for width, scheme in SETTINGS:
        visit = open_browser(color_scheme=scheme, viewport={"width": width, "height": 900})
        visit.expect("422")
        visit.page.goto("/work-orders/new/")
        visit.page.get_by_role("button", name="Create work order").click()
        visit.page.get_by_role("alert").wait_for()
        found += [f"{width} px, {scheme}: {it}" for it in [*visit.too_wide(), *visit.axe()]]
    assert not found, "\n".join(found)
