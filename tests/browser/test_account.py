"""Signing in, an API key, a new password: as a person does it, on every size and in both themes."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.test_accessibility import SETTINGS
from tests.browser.visits import MARKS, Visit
from tests.browser.world import Site

pytestmark = MARKS
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def ann(live: Site) -> str:
    live.shell(f"""
        from django.contrib.auth.models import User
        User.objects.create_user("ann", password={PASSWORD!r})
    """)
    return "ann"


def sign_in(page: Page, password: str = PASSWORD) -> None:
    page.goto("/account/")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def findings(visit: Visit, what: str) -> list[str]:
    found = []
    for width, scheme in SETTINGS:
        visit.page.set_viewport_size({"width": width, "height": 900})
        visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found += [f"{what}, {width} px, {scheme}: {it}" for it in [*visit.too_wide(), *visit.axe()]]
    return found


@pytest.mark.parametrize("scripts", [True, False])
def test_from_the_sign_in_to_a_key_and_out_again(
    open_browser: Open, live: Site, ann: str, scripts: bool
) -> None:
    visit = open_browser(java_script_enabled=scripts)
    page = visit.page
    visit.expect("422")
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    found = findings(visit, "sign-in") if scripts else []
    sign_in(page)
    expect(page).to_have_url(re.compile("/account/$"))
    page.get_by_label("Name").fill("deploy")
    page.get_by_label("May").select_option("write")
    page.get_by_role("button", name="Make the key").click()
    secret = page.locator("#secret").inner_text()
    found += findings(visit, "a new key") if scripts else []
    answer = live.server.http.get("/api/agent-work-orders", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke deploy").first.click()
    expect(page.get_by_text("is revoked.")).to_be_visible()
    assert page.locator("#secret").count() == 0
    answer = live.server.http.get("/api/agent-work-orders", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 401
    page.get_by_role("link", name="Change password").click()
    found += findings(visit, "password") if scripts else []
    page.goto("/account/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not found, "\n".join(found)
