"""What pages say when the server does not answer as it should, and what they do not lose by it."""

import re

from playwright.sync_api import Route, expect

from tests.browser.visits import MARKS, Visit
from tests.browser.world import Site

pytestmark = MARKS


def test_a_server_that_is_away_is_told_until_it_is_back(running: str, visit: Visit) -> None:
    visit.expect("Failed to load resource|htmx:sendError|request failed|503|htmx:responseError")
    page = visit.page
    page.clock.install()
    page.goto(f"/work-orders/{running}/")
    page.get_by_label("Prompt the agent").fill("Typed before")
    notice, state = page.locator("#offline"), re.compile(r"/work-orders/.*/state/")
    expect(notice).to_be_hidden()
    for answer in ("refused", "503"):
        page.route(
            state,
            lambda route, answer=answer: route.abort() if answer == "refused" else route.fulfill(status=503),
        )
        page.clock.fast_forward(3100)
        expect(notice).to_be_visible()
        expect(page.locator("#order-status")).to_contain_text("running")
        page.unroute(state)
        page.clock.fast_forward(3100)
        expect(notice).to_be_hidden()
    expect(page.get_by_label("Prompt the agent")).to_have_value("Typed before")


def test_a_network_that_was_away_is_forgotten_while_the_agent_talks(live: Site, visit: Visit) -> None:
    """The feed's answers replace the element that asked; what is said is in sight, and clocks stand still meanwhile."""
    visit.expect("Failed to load resource|htmx:sendError|request failed|ERR_INTERNET_DISCONNECTED")
    words = "\n".join(f"agent: say Word {number}\nagent: sleep 0.3" for number in range(200))
    order_id = live.order(f"Talk\n{words}", workflow_type="agent_workflow_plan")
    live.until(order_id, "agent_message")
    page, notice = visit.page, visit.page.locator("#offline")
    # Each poll brings rows, so that each replaces the element that asked.
    page.add_init_script("setInterval(() => document.dispatchEvent(new Event('poll-now')), 1500)")
    page.goto(f"/work-orders/{order_id}/")
    elapsed, entries = page.locator("#order-elapsed"), page.locator("#feed-entries li")
    expect(elapsed).to_be_visible()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    for _ in range(2):
        page.evaluate("window.__place = document.getElementById('order-git').getBoundingClientRect().top")
        visit.context.set_offline(True)
        expect(notice).to_be_visible()
        expect(notice).to_be_in_viewport()
        expect(notice).to_contain_text(re.compile(r"the state of \d\d:\d\d:\d\d; trying again"))
        moved = "document.getElementById('order-git').getBoundingClientRect().top - window.__place"
        assert page.evaluate(moved) == 0
        stood, count = elapsed.inner_text(), entries.count()
        page.wait_for_timeout(2200)
        assert elapsed.inner_text() == stood
        visit.context.set_offline(False)
        visit.wait_until(lambda seen=count: entries.count() > seen, 10, "more rows")  # type: ignore[misc]  # mypy infers no lambda's default
        expect(notice).to_be_hidden(timeout=4000)
    live.cancel(order_id)


def test_an_action_that_fails_says_so_and_keeps_the_text(running: str, visit: Visit) -> None:
    visit.expect("Failed to load resource|htmx:responseError|500")
    page = visit.page
    page.goto(f"/work-orders/{running}/")
    page.route("**/prompt/", lambda route: route.fulfill(status=500))
    page.get_by_label("Prompt the agent").fill("Not lost")
    page.get_by_role("button", name="Send").click()
    toast = page.locator("#toasts .alert-danger")
    expect(toast).to_contain_text("The server answered 500.")
    expect(page.get_by_label("Prompt the agent")).to_have_value("Not lost")
    toast.get_by_role("button", name="Close this message").click()
    expect(toast).to_have_count(0)


def test_a_stale_form_is_explained_on_a_page_of_its_own(visit: Visit) -> None:
    visit.expect("403")
    page = visit.page
    page.goto("/")
    page.evaluate("document.querySelector('.wo-theme [name=csrfmiddlewaretoken]').value = 'old'")
    page.get_by_role("banner").get_by_role("button", name="Theme").click()
    expect(page.get_by_role("heading", name="This form was too old")).to_be_visible()
    assert not visit.axe()
    page.get_by_role("link", name="All work orders").click()
    expect(page.get_by_role("heading", name="Work orders", exact=True)).to_be_visible()


def test_older_and_a_filter_at_once_show_what_the_filters_say(live: Site, visit: Visit, archive: str) -> None:
    """The filter's answer is on its way when "Older" is clicked; the list must follow both."""
    page = visit.page
    page.goto("/")
    expect(page.get_by_role("link", name="Older")).to_be_visible()
    held: list[Route] = []
    filtered = re.compile(r"/\?.*repository=\d")
    page.route(filtered, lambda route: held.append(route))
    page.get_by_label("Repository").select_option(label=archive)
    visit.wait_until(lambda: bool(held), 10, "the filter's request")
    page.unroute(filtered)
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_text("26–50 of 60")).to_be_visible()
    expect(page.get_by_label("Repository").locator("option:checked")).to_have_text(archive)
    assert all("Archived order" in title for title in page.locator("a.wo-title").all_inner_texts())
