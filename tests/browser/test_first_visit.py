"""From an empty server to a reviewed pull request and the next order, as a newcomer does it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.visits import MARKS, PHONE, Visit
from tests.browser.world import HOLD, PHASES, Remotes, Site, site

pytestmark = MARKS


@pytest.fixture
def empty(tmp_path: Path, world: Remotes) -> Iterator[Site]:
    with site(tmp_path, world) as started:
        yield started


def first_visit(visit: Visit, empty: Site) -> None:
    page = visit.hurry()
    page.goto("/")
    expect(page.get_by_role("heading", name="No work orders yet")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Connect a repository").click()
    page.get_by_role("textbox", name="Repository").fill("acme/widgets")
    page.get_by_role("button", name="Connect & verify").click()
    connected = page.get_by_role("list", name="Connected repositories").get_by_role("listitem")
    expect(connected).to_contain_text("acme/widgets")
    expect(connected).to_contain_text("can push", timeout=20_000)
    expect(connected).to_contain_text("connected")

    page.get_by_role("link", name="New work order in acme/widgets").click()
    expect(page.get_by_label("Connected repository")).to_have_value(re.compile(r"\d+"))
    page.get_by_label("What should the agent do?").fill(
        f"Make the widgets round\nagent: say I measure.\nagent: {HOLD}"
    )
    page.get_by_role("button", name="Create work order").click()
    page.wait_for_url(re.compile(r"/work-orders/wo-[a-z2-7]{8}/$"))

    expect(page.get_by_role("heading", name="Make the widgets round", level=1)).to_be_visible()
    phases = page.get_by_role("region", name="Progress").get_by_role("listitem")
    expect(phases).to_have_count(4)
    order_id = page.url.rstrip("/").rsplit("/")[-1]
    for number, phase in enumerate(PHASES):
        expect(phases.nth(number)).to_contain_text("running", timeout=90_000)
        expect(page).to_have_title(re.compile("Running"))
        empty.let_go(order_id, phase)
    expect(page.get_by_role("region", name="Activity, newest last")).to_contain_text("I measure.")
    result = page.get_by_role("region", name="Work order complete")
    expect(result).to_be_visible(timeout=90_000)
    expect(phases.filter(has_text="done")).to_have_count(4)
    expect(result).to_contain_text("all 2 passing")
    [number] = [
        number
        for number, pull in empty.remotes.github.repositories["acme/widgets"].pull_requests.items()
        if pull.head_branch.endswith(order_id)
    ]
    link = result.get_by_role("link", name="View pull request")
    expect(link).to_have_attribute("href", f"https://github.com/acme/widgets/pull/{number}")
    expect(link).to_have_attribute("rel", re.compile("noopener"))

    result.get_by_role("link", name="Create new work order").click()
    expect(page.get_by_label("Connected repository").locator("option:checked")).to_have_text("acme/widgets")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Orders").click()
    expect(page.get_by_role("row", name=re.compile("Make the widgets round"))).to_contain_text("completed")


def test_from_nothing_to_a_pull_request(empty: Site, open_browser: Open) -> None:
    """On a server of its own, whose pages are looked at while they are empty."""
    for width, scheme in ((1280, "light"), (PHONE, "dark")):
        look = open_browser(at=empty, viewport={"width": width, "height": 800}, color_scheme=scheme)
        for path in ("/", "/repositories/", "/work-orders/new/"):
            look.page.goto(path)
            assert not look.too_wide(), path
            assert not look.axe(), path
    first_visit(open_browser(at=empty), empty)


def test_a_repository_nobody_can_see_says_so(visit: Visit) -> None:
    page = visit.hurry()
    page.goto("/repositories/")
    page.get_by_role("textbox", name="Repository").fill("acme/nothing-here")
    page.get_by_role("button", name="Connect & verify").click()
    item = page.get_by_role("listitem").filter(has_text="acme/nothing-here")
    expect(item).to_contain_text("not accessible", timeout=20_000)


def test_a_text_that_is_no_repository_is_refused_in_place(visit: Visit) -> None:
    visit.expect("422")
    page = visit.page
    page.goto("/repositories/")
    box = page.get_by_role("textbox", name="Repository")
    box.fill("not a repository")
    page.get_by_role("button", name="Connect & verify").click()
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(box).to_have_value("not a repository")
