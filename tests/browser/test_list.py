"""The list: filters, search, pages, and the back button over all of them."""

import re

from playwright.sync_api import Page, expect

from tests.browser.visits import MARKS, Visit
from tests.browser.world import Site

pytestmark = MARKS


def rows(page: Page) -> int:
    return page.get_by_role("row").count() - 1


def titles(page: Page) -> list[str]:
    return page.locator("a.wo-title").all_inner_texts()


def tab(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Status").get_by_role("link", name=name).click()


def test_filters_narrow_the_list_and_the_back_button_undoes_them(page: Page, archive: str) -> None:
    page.goto("/")
    page.get_by_label("Repository").select_option(label=archive)
    expect(page).to_have_url(re.compile(r"repository=\d+"))
    expect(page.get_by_text("1–25 of 60")).to_be_visible()
    tab(page, "Cancelled")
    expect(page).to_have_url(re.compile(r"status=cancelled"))
    expect(page.get_by_text("1–5 of 5")).to_be_visible()
    assert rows(page) == 5
    page.get_by_label("Sandbox").select_option(label="Git worktree")
    expect(page.get_by_text("1–2 of 2")).to_be_visible()
    assert {"status=cancelled", "sandbox=git_worktree"} <= set(page.url.partition("?")[2].split("&"))

    page.go_back()
    expect(page.get_by_text("1–5 of 5")).to_be_visible()
    expect(page.get_by_label("Sandbox")).to_have_value("")
    page.go_back()
    expect(page.get_by_text("1–25 of 60")).to_be_visible()
    page.go_forward()
    expect(page.get_by_text("1–5 of 5")).to_be_visible()
    page.reload()
    expect(page.get_by_text("1–5 of 5")).to_be_visible()
    expect(page.get_by_label("Repository").locator("option:checked")).to_have_text(archive)


def test_from_an_order_back_to_the_filtered_list(page: Page, archive: str) -> None:
    page.goto("/")
    page.get_by_label("Repository").select_option(label=archive)
    expect(page.get_by_text("1–25 of 60")).to_be_visible()
    tab(page, "Cancelled")
    expect(page.get_by_text("1–5 of 5")).to_be_visible()
    page.locator("a.wo-title").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Archived order")
    page.go_back()
    expect(page.get_by_text("1–5 of 5")).to_be_visible()
    assert rows(page) == 5
    expect(page.get_by_label("Search")).to_be_visible()


def test_pages(page: Page, archive: str) -> None:
    page.goto("/")
    page.get_by_label("Repository").select_option(label=archive)
    expect(page.get_by_text("1 of 3")).to_be_visible()
    seen = titles(page)
    pages = page.get_by_role("navigation", name="Pages of the list")
    for text in ("26–50 of 60", "51–60 of 60"):
        pages.get_by_role("link", name="Older").click()
        expect(page.get_by_text(text)).to_be_visible()
        seen += titles(page)
    assert len(set(seen)) == 60
    expect(pages.get_by_role("link", name="Older")).to_have_count(0)
    page.go_back()
    expect(page.get_by_text("26–50 of 60")).to_be_visible()
    pages.get_by_role("link", name="Newer").click()
    expect(page.get_by_text("1–25 of 60")).to_be_visible()


def test_a_filter_leaves_the_page_behind(page: Page, archive: str) -> None:
    page.goto("/")
    page.get_by_label("Repository").select_option(label=archive)
    expect(page.get_by_text("1–25 of 60")).to_be_visible()
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_text("26–50 of 60")).to_be_visible()
    tab(page, "Cancelled")
    expect(page.get_by_text("1–5 of 5")).to_be_visible()


def test_search_as_typed_keeps_the_focus(page: Page, archive: str) -> None:
    page.goto("/")
    box = page.get_by_role("searchbox", name="Search")
    box.press_sequentially("Archived order 4", delay=20)
    expect(page.get_by_text("1–10 of 10")).to_be_visible()
    expect(box).to_be_focused()
    box.press_sequentially("2")
    expect(page.get_by_text("1–1 of 1")).to_be_visible()
    expect(box).to_have_value("Archived order 42")
    assert "Archived order 42" in titles(page)
    box.fill("there is no such text")
    expect(page.get_by_role("heading", name="No work order matches")).to_be_visible()
    page.get_by_role("link", name="Clear all filters").click()
    expect(page.get_by_role("row").nth(5)).to_be_visible()
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("")


def test_a_new_order_shows_up_by_itself(live: Site, visit: Visit, archive: str) -> None:
    page = visit.hurry()
    page.goto("/")
    order_id = live.order("Seen without reloading\nagent: sleep 60")
    row = page.get_by_role("row").filter(has_text=order_id)
    expect(row).to_contain_text("running")
    live.cancel(order_id)
    expect(row).to_contain_text("cancelled")
