"""Polling: cheap while nothing changes, over when nothing can change, and never in the reader's way."""

import re

from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import Open
from tests.browser.visits import MARKS, Visit
from tests.browser.world import Site

pytestmark = MARKS
_HIDDEN = """
window.__hidden = false;
Object.defineProperty(document, "hidden", {get: () => window.__hidden});
Object.defineProperty(document, "visibilityState", {get: () => window.__hidden ? "hidden" : "visible"});
"""


def polls(visit: Visit, part: str = "state") -> list[Response]:
    return visit.answers_to(rf"/work-orders/wo-[a-z2-7]+/{part}/")


def chatty(live: Site) -> str:
    """An order that says or commits something twice a second, until it is cancelled."""
    lines = ["Talk a lot"]
    for number in range(60):
        lines += [
            f"agent: say Word {number}",
            "agent: sleep 0.5",
            f"agent: commit notes/{number}.txt",
            "agent: sleep 0.5",
        ]
    order_id = live.order("\n".join(lines), workflow_type="agent_workflow_plan")
    live.until(order_id, "agent_message")
    return order_id


def test_an_unchanged_order_answers_nothing(running: str, visit: Visit) -> None:
    visit.page.clock.install()
    visit.page.goto(f"/work-orders/{running}/")
    for number in range(1, 4):
        visit.page.clock.fast_forward(3500)
        visit.wait_until(lambda n=number: len(polls(visit)) >= n, 10, f"poll {number}")  # type: ignore[misc]  # mypy infers no lambda's default
    answers = [*polls(visit), *polls(visit, "feed")]
    assert {answer.status for answer in answers[-2:]} == {204}
    assert all(answer.headers.get("content-length", "0") == "0" for answer in answers if answer.status == 204)


def test_an_unchanged_list_answers_nothing(running: str, visit: Visit) -> None:
    visit.page.clock.install()
    visit.page.goto("/")
    for _ in range(5):  # orders of other tests may still be ending
        before = len(visit.answers_to("/"))
        visit.page.clock.fast_forward(3500)
        visit.wait_until(lambda n=before: len(visit.answers_to("/")) > n, 10, "a poll")  # type: ignore[misc]  # mypy infers no lambda's default
        if visit.answers_to("/")[-1].status == 204:
            return
    raise AssertionError([answer.status for answer in visit.answers_to("/")])


def test_polling_ends_with_the_order(live: Site, visit: Visit) -> None:
    order_id = live.order("Short", workflow_type="agent_workflow_build")
    page = watch(visit, order_id)
    live.server.completed(order_id)
    live.age(order_id)

    def is_quiet() -> bool:
        page.clock.fast_forward(3100)
        return page.locator("[hx-trigger~=poll]").count() == 0

    visit.wait_until(is_quiet, 60, "the end of polling", every=0.2)
    expect(page).to_have_title(re.compile("Completed"))
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile("favicon-completed"))
    settled(page)
    before = len(visit.answers_to("/work-orders/.*"))
    page.clock.fast_forward(20_000)
    page.wait_for_timeout(500)
    assert len(visit.answers_to("/work-orders/.*")) == before


def test_an_order_that_ended_long_ago_is_never_polled(live: Site, completed: str, visit: Visit) -> None:
    """For some seconds after the end, late log entries are still awaited."""
    live.age(completed)
    page = watch(visit, completed)
    page.clock.fast_forward(20_000)
    page.wait_for_timeout(500)
    assert len(visit.answers_to("/work-orders/.*")) == 1


def test_a_hidden_tab_asks_five_times_less(running: str, visit: Visit) -> None:
    page = visit.page
    page.add_init_script(_HIDDEN)
    page.clock.install()
    page.goto(f"/work-orders/{running}/")
    page.clock.fast_forward(3500)
    visit.wait_until(lambda: len(polls(visit)) == 1, 10, "a poll while visible")
    page.evaluate("window.__hidden = true")
    for _ in range(4):
        page.clock.fast_forward(3000)
        page.wait_for_timeout(200)
    assert len(polls(visit)) == 1, "nothing within 12 s of the last one"
    page.clock.fast_forward(4000)
    visit.wait_until(lambda: len(polls(visit)) == 2, 10, "the poll after 15 s")
    page.evaluate("window.__hidden = false; document.dispatchEvent(new Event('visibilitychange'))")
    visit.wait_until(lambda: len(polls(visit)) == 3, 10, "a poll at once when shown again")


def watch(visit: Visit, order_id: str) -> Page:
    """The order's page with a clock that can be put forward, so that nobody waits for the next poll."""
    visit.page.clock.install()
    visit.page.goto(f"/work-orders/{order_id}/")
    return visit.page


def updates(visit: Visit, number: int) -> None:
    """Polls until that many brought something."""
    before = news(visit)

    def has_come() -> bool:
        if news(visit) < before + number:
            visit.page.clock.fast_forward(3100)
        return news(visit) >= before + number

    visit.wait_until(has_come, 40, "updates", every=0.3)
    settled(visit.page)


def news(visit: Visit) -> int:
    return len([answer for answer in polls(visit) if answer.status == 200])


def settled(page: Page) -> None:
    """What has come is in the page, and htmx has done with it."""
    page.wait_for_function("() => !document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling')")


def test_what_a_reader_does_survives_polls(live: Site, visit: Visit) -> None:
    order_id = chatty(live)
    visit.page.set_viewport_size({"width": 1280, "height": 500})
    page = watch(visit, order_id)
    updates(visit, 1)
    details = page.locator("#request-details")
    was_open = details.evaluate("node => node.open")
    details.locator("summary").click()
    box = page.get_by_label("Prompt the agent")
    box.fill("Half a sent")
    box.press("ArrowLeft")
    box.press("ArrowLeft")
    caret = "node => [node.selectionStart, node.selectionEnd]"
    assert box.evaluate(caret) == [9, 9]
    page.evaluate("window.scrollTo(0, 240)")
    scroll = page.evaluate("scrollY")
    assert scroll > 100
    text = page.locator("#order-main").inner_text()
    updates(visit, 2)

    assert page.locator("#order-main").inner_text() != text, "the order has changed meanwhile"
    expect(box).to_be_focused()
    expect(box).to_have_value("Half a sent")
    assert box.evaluate(caret) == [9, 9]
    assert abs(page.evaluate("scrollY") - scroll) <= 2
    assert details.evaluate("node => node.open") is not was_open
    live.cancel(order_id)


def test_selected_text_stays_selected(live: Site, visit: Visit) -> None:
    order_id = chatty(live)
    page = watch(visit, order_id)
    updates(visit, 1)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    updates(visit, 2)
    assert page.evaluate("getSelection().toString()") == "Talk a lot"
    page.locator("#action-cancel").focus()
    updates(visit, 1)
    expect(page.locator("#action-cancel")).to_be_focused()
    live.cancel(order_id)


def test_the_feed_follows_its_end_and_leaves_readers_alone(live: Site, visit: Visit) -> None:
    order_id = chatty(live)
    visit.page.set_viewport_size({"width": 1280, "height": 480})
    page = watch(visit, order_id)
    feed = page.get_by_role("region", name="Activity, newest last")
    feed.scroll_into_view_if_needed()
    updates(visit, 2)
    expect(feed.get_by_role("listitem").last).to_be_in_viewport()
    feed.evaluate("node => node.scrollTo(0, -node.scrollHeight)")
    first = feed.get_by_role("listitem").first
    expect(first).to_be_in_viewport()
    place = first.bounding_box()
    assert place is not None
    button = page.get_by_role("button", name="New activity")
    while not button.is_visible():
        updates(visit, 1)
    later = first.bounding_box()
    assert later is not None
    assert abs(later["y"] - place["y"]) < 1
    button.click()
    expect(feed.get_by_role("listitem").last).to_be_in_viewport()
    expect(button).to_be_hidden()
    live.cancel(order_id)


def test_every_entry_comes_once(live: Site, open_browser: Open) -> None:
    order_id = chatty(live)
    watching = open_browser()
    page = watch(watching, order_id)
    updates(watching, 3)
    live.cancel(order_id)
    live.until(order_id, "agent_work_order_cancelled")
    entries = page.locator(".wo-entry")

    def is_complete() -> bool:
        page.clock.fast_forward(3100)
        shown = entries.evaluate_all("nodes => nodes.map((node) => node.id)")
        return bool(shown == [f"e{entry['sequence']}" for entry in live.server.logs(order_id)])

    live.until(order_id, "sandbox_cleanup_completed")
    watching.wait_until(is_complete, 20, "all entries, each once and in order", every=0.3)
    expect(page).to_have_title(re.compile("Cancelled"))
