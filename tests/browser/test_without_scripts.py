"""Every action without JavaScript."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.visits import MARKS
from tests.browser.world import Site
from tests.e2e.harness import wait_for

pytestmark = MARKS


@pytest.fixture
def plain(open_browser: Open) -> Page:
    visit = open_browser(java_script_enabled=False)
    visit.expect("status of 422")
    return visit.page


def reload_until(page: Page, text: str) -> None:
    def look() -> bool:
        page.reload()
        return page.get_by_text(text).first.is_visible()

    wait_for(look, 90, f"{text!r} on {page.url}")


def test_create_watch_read_and_prompt(live: Site, plain: Page) -> None:
    plain.goto("/work-orders/new/")
    if plain.get_by_text("Use another repository").count():
        plain.get_by_text("Use another repository").click()
    plain.get_by_label("Another repository").fill("acme/widgets")
    plain.get_by_label("What should the agent do?").fill("Without scripts\nagent: say Nothing to click")
    plain.locator("label[for=workflow-agent_workflow_plan]").click()
    plain.get_by_role("button", name="Create work order").click()
    plain.wait_for_url(re.compile(r"/work-orders/wo-[a-z2-7]{8}/$"))
    expect(plain.get_by_role("heading", name="Without scripts")).to_be_visible()
    reload_until(plain, "Work order complete")
    expect(plain.get_by_role("region", name="Activity, newest last")).to_contain_text("Nothing to click")

    order_page = plain.url
    plain.locator("#order-actions").get_by_role("link", name="Changes").click()
    expect(plain.get_by_role("heading", name=re.compile("Changes"), level=1)).to_be_visible()
    expect(plain.get_by_text("# A plan").first).to_be_visible()
    plain.get_by_role("link", name=re.compile("Work order wo-")).click()
    assert plain.url == order_page

    plain.get_by_label("Prompt the agent").fill("Once more\nagent: commit more.txt")
    plain.get_by_role("button", name="Send").click()
    expect(plain.get_by_text("The agent will get your prompt.")).to_be_visible()
    reload_until(plain, "more.txt")


def test_an_empty_prompt_keeps_the_page(completed: str, plain: Page, live: Site) -> None:
    plain.goto(f"/work-orders/{completed}/")
    plain.get_by_label("Prompt the agent").fill("   ")
    with plain.expect_response(re.compile("/prompt/")) as answer:
        plain.get_by_role("button", name="Send").click()
    assert answer.value.status == 422
    expect(plain.get_by_role("alert")).to_contain_text("empty")
    expect(plain.get_by_role("heading", name="Make the widgets round")).to_be_visible()


def test_an_incomplete_form_comes_back_with_its_text(plain: Page) -> None:
    plain.goto("/work-orders/new/")
    plain.get_by_label("What should the agent do?").fill("Words without a repository")
    with plain.expect_response(re.compile("/work-orders/new/")) as answer:
        plain.get_by_role("button", name="Create work order").click()
    assert answer.value.status == 422
    expect(plain.get_by_role("alert")).to_be_visible()
    expect(plain.get_by_label("What should the agent do?")).to_have_value("Words without a repository")


def test_cancel_asks_on_a_page_of_its_own(live: Site, plain: Page) -> None:
    order_id = live.order("Take your time\nagent: sleep 600")
    live.until(order_id, "agent_session_started")
    plain.goto(f"/work-orders/{order_id}/")
    plain.get_by_role("link", name="Cancel").click()
    expect(plain.get_by_role("heading", name=re.compile("Cancel"))).to_be_visible()
    plain.get_by_role("link", name="Keep it running").click()
    assert live.server.order(order_id)["cancel_requested_at"] is None
    plain.get_by_role("link", name="Cancel").click()
    plain.get_by_role("button", name="Cancel the work order").click()
    live.finished(order_id)
    plain.reload()
    expect(plain.locator("#order-status")).to_contain_text("cancelled")
    plain.get_by_role("button", name="Retry").click()
    expect(plain.get_by_text("The work order is queued again.")).to_be_visible()
    live.cancel(order_id)


def test_filters_and_connecting(plain: Page, live: Site, completed: str) -> None:
    live.remotes.add_repository("acme", "plain")
    plain.goto("/")
    plain.get_by_label("Search").fill("Make the widgets")
    plain.get_by_role("button", name="Apply").click()
    expect(plain).to_have_url(re.compile("q=Make"))
    expect(plain.get_by_role("row").filter(has_text=completed)).to_be_visible()
    plain.get_by_role("navigation", name="Status").get_by_role("link", name="Completed").click()
    expect(plain).to_have_url(re.compile("status=completed"))
    expect(plain.get_by_label("Search")).to_have_value("Make the widgets")

    plain.goto("/repositories/")
    plain.get_by_role("textbox", name="Repository").fill("acme/plain")
    plain.get_by_role("button", name="Connect & verify").click()
    item = plain.get_by_role("listitem").filter(has_text="acme/plain")
    expect(item).to_be_visible()

    def verified() -> bool:
        plain.reload()
        return "can push" in item.inner_text()

    wait_for(verified, 30, "the verification")
