"""What a person does to an order on its page: retry, cancel, prompt."""

import re

from playwright.sync_api import Dialog, Page, expect

from tests.browser.visits import MARKS, Visit
from tests.browser.world import HOLD, Site
from tests.e2e.conftest import TOKEN

pytestmark = MARKS
_FOREVER = "Take your time\nagent: say I think about it\nagent: sleep 600"


def status(page: Page) -> str:
    return page.locator("#order-status").inner_text()


def test_a_failed_order_says_why_and_what_to_do_and_retry_works(live: Site, visit: Visit) -> None:
    live.remotes.add_repository("acme", "locked").is_private = True
    account = live.remotes.github.accounts[TOKEN]
    account.access["acme/locked"] = "none"
    order_id = live.order("Open the lock", repository_url="acme/locked", workflow_type="agent_workflow_build")
    page = visit.hurry()
    page.goto(f"/work-orders/{order_id}/")
    error = page.locator("#order-error")
    expect(error).to_be_visible(timeout=90_000)
    expect(error).to_contain_text("What to do:")
    expect(page).to_have_title(re.compile("Failed"))
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile("failed"))

    account.access["acme/locked"] = "write"
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("region", name="Work order complete")).to_be_visible(timeout=90_000)
    expect(page.locator("#order-error")).to_have_count(0)
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile("completed"))


def test_the_phase_that_failed_shows_the_agents_words(failed: str, page: Page) -> None:
    page.goto(f"/work-orders/{failed}/")
    expect(page.locator("#order-error")).to_contain_text("The widgets resist")
    phase = page.get_by_role("region", name="Progress").get_by_role("listitem").filter(has_text="Implement")
    expect(phase).to_contain_text("failed")
    page.get_by_role("navigation", name="Kinds of activity").get_by_role("link", name="Problems").click()
    expect(page.get_by_role("region", name="Activity, newest last")).to_contain_text("The widgets resist")


def test_cancel_asks_first_and_a_no_changes_nothing(live: Site, visit: Visit) -> None:
    order_id = live.order(_FOREVER)
    live.until(order_id, "agent_message")
    page = visit.hurry()
    page.goto(f"/work-orders/{order_id}/")
    questions: list[str] = []

    def answer_no(dialog: Dialog) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", answer_no)
    page.get_by_role("link", name="Cancel").click()
    assert questions
    assert order_id in questions[0]
    assert live.server.order(order_id)["cancel_requested_at"] is None

    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("#order-status")).to_contain_text("cancelled", timeout=90_000)
    expect(page.get_by_role("link", name="Cancel")).to_have_count(0)
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    expect(page).to_have_title(re.compile("Cancelled"))


def test_a_prompt_to_a_running_order_is_done_after_the_step(live: Site, visit: Visit) -> None:
    order_id = live.order(f"Start\nagent[planning]: {HOLD}", workflow_type="agent_workflow_plan_build")
    live.until(order_id, "agent_session_started")
    page = visit.hurry()
    page.goto(f"/work-orders/{order_id}/")
    page.get_by_label("Prompt the agent").fill("Also polish them\nagent: commit polish.txt")
    page.evaluate("window.__same_page = true")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#toasts")).to_contain_text("prompt")
    expect(page.get_by_label("Prompt the agent")).to_have_value("")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    assert page.evaluate("window.__same_page"), "a page that polls stays where it is"
    expect(page.get_by_role("region", name="Request")).to_contain_text("Also polish them")
    live.let_go(order_id, "planning")
    expect(page.get_by_role("region", name="Work order complete")).to_be_visible(timeout=90_000)
    expect(page.get_by_role("region", name="Git activity")).to_contain_text("polish.txt")


def test_a_prompt_to_a_finished_order_starts_it_again(live: Site, visit: Visit) -> None:
    order_id = live.order("Start", workflow_type="agent_workflow_build")
    live.server.completed(order_id)
    page = visit.hurry()
    page.goto(f"/work-orders/{order_id}/")
    page.get_by_label("Prompt the agent").fill("Once more\nagent: commit more.txt")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("region", name="Git activity")).to_contain_text("more.txt", timeout=90_000)
    expect(page.get_by_role("region", name="Work order complete")).to_be_visible(timeout=90_000)


def test_an_empty_prompt_is_refused_in_place(completed: str, visit: Visit) -> None:
    """The browser itself refuses nothing at all; blanks are the server's to refuse."""
    visit.expect("422")
    page = visit.page
    page.goto(f"/work-orders/{completed}/")
    before = page.url
    page.get_by_role("button", name="Send").click()
    assert page.locator("#prompt-text:invalid").count() == 1
    page.get_by_label("Prompt the agent").fill("  \n ")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("empty")
    expect(page.get_by_label("Prompt the agent")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Prompt the agent")).to_have_value("  \n ")
    assert page.url == before
    assert [answer.status for answer in visit.answers_to(r".*/prompt/")] == [422]
