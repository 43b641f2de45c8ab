"""The theme: automatic by the system, chosen by the button, with and without JavaScript."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.visits import MARKS

pytestmark = MARKS
# Colours come in several notations; a canvas tells how light one is.
_LIGHTNESS = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data[0];
}"""


def is_dark(page: Page) -> bool:
    red: int = page.evaluate(_LIGHTNESS)
    return red < 100


@pytest.mark.parametrize("scripts", [True, False])
def test_the_button_goes_round(open_browser: Open, scripts: bool) -> None:
    page = open_browser(java_script_enabled=scripts).page
    page.goto("/repositories/")
    assert not is_dark(page)
    button = page.get_by_role("banner").get_by_role("button")
    expect(button).to_have_accessible_name("Theme: automatic. Switch to dark")
    button.click()
    expect(button).to_have_accessible_name("Theme: dark. Switch to light")
    assert is_dark(page)
    assert page.url.endswith("/repositories/")
    page.goto("/work-orders/new/")
    assert is_dark(page)
    button.click()
    expect(button).to_have_accessible_name("Theme: light. Switch to automatic")
    assert not is_dark(page)
    button.click()
    expect(button).to_have_accessible_name("Theme: automatic. Switch to dark")


def test_automatic_follows_the_system_at_once(open_browser: Open) -> None:
    page = open_browser(color_scheme="dark").page
    page.goto("/")
    assert is_dark(page)
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "light")
    assert not is_dark(page)


def test_a_choice_beats_the_system(open_browser: Open) -> None:
    page = open_browser(color_scheme="dark").page
    page.goto("/")
    for _ in range(2):
        page.get_by_role("banner").get_by_role("button").click()
    expect(page.get_by_role("banner").get_by_role("button")).to_have_accessible_name(
        "Theme: light. Switch to automatic"
    )
    assert not is_dark(page)
