"""The form for a new order: choices, refusals, issues, keyboard, back button."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visits import MARKS, Visit
from tests.browser.world import Site

pytestmark = MARKS
NEW = "/work-orders/new/"


@pytest.fixture(scope="module")
def connected(live: Site) -> str:
    """A repository with two issues, known to the server."""
    repository = live.remotes.add_repository("acme", "gears")
    live.remotes.github.add_issue(repository, "Teeth are blunt", "Sharpen them.", labels=("bug",))
    live.remotes.github.add_issue(repository, "Oil is missing", "")
    answer = live.server.http.post(
        "/api/github/verify-repository", json={"repository_url": "acme/gears"}, timeout=40
    )
    assert answer.status_code == 200, answer.text
    return "acme/gears"


def created_id(page: Page) -> str:
    page.wait_for_url(re.compile(r"/work-orders/wo-[a-z2-7]{8}/$"))
    return page.url.rstrip("/").rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("sandbox", "workflow"),
    [
        ("git_branch", "agent_workflow_plan"),
        ("git_worktree", "agent_workflow_build"),
        ("git_branch", "agent_workflow_test"),
        ("git_worktree", "agent_workflow_plan_build"),
    ],
)
def test_what_is_chosen_is_what_the_order_gets(
    live: Site, page: Page, connected: str, sandbox: str, workflow: str
) -> None:
    page.goto(f"{NEW}?repository={connected}")
    expect(page.get_by_label("Connected repository").locator("option:checked")).to_have_text(connected)
    page.locator(f"label[for=workflow-{workflow}]").click()
    page.locator(f"label[for=sandbox-{sandbox}]").click()
    page.get_by_label("What should the agent do?").fill("Choose\nagent: sleep 60")
    page.get_by_label("Model", exact=True).fill("opus")
    page.get_by_role("button", name="Create work order").click()
    order = live.server.order(created_id(page))
    live.cancel(order["agent_work_order_id"])
    assert (order["sandbox_type"], order["workflow_type"], order["model"]) == (sandbox, workflow, "opus")
    assert order["initial_prompt"] == "Choose\nagent: sleep 60"


def test_every_choice_is_there_and_the_missing_ones_name_their_setting(page: Page) -> None:
    page.goto(NEW)
    workflows = page.get_by_role("group", name="Workflow").get_by_role("radio")
    expect(workflows).to_have_count(5)
    for number in range(5):
        expect(workflows.nth(number)).to_be_enabled()
    expect(page.get_by_role("radio", name=re.compile("Plan.*Build.*Test"))).to_be_checked()
    sandboxes = page.get_by_role("group", name="Sandbox")
    expect(sandboxes.get_by_role("radio", name=re.compile("^Git branch"))).to_be_checked()
    expect(sandboxes.get_by_role("radio", name=re.compile("^Git worktree"))).to_be_enabled()
    for name, setting in (("E2B", "E2B_API_KEY"), ("Dagger", "DAGGER")):
        expect(sandboxes.get_by_role("radio", name=re.compile(f"^{name}"))).to_be_disabled()
        expect(sandboxes.locator("label").filter(has_text=name)).to_contain_text(re.compile(setting, re.I))


def test_without_anything_to_do_the_form_comes_back_as_it_was(visit: Visit, connected: str) -> None:
    visit.expect("422")
    page = visit.page
    page.goto(f"{NEW}?repository={connected}")
    page.locator("label[for=sandbox-git_worktree]").click()
    page.get_by_label("Base branch").fill("develop")
    page.get_by_label("What should the agent do?").fill("   ")
    page.get_by_role("button", name="Create work order").click()
    summary = page.get_by_role("alert")
    expect(summary).to_contain_text("Say what the agent should do")
    expect(summary).to_be_focused()
    posts = [answer for answer in visit.answers_to(NEW) if answer.request.method == "POST"]
    of_form = [answer for answer in posts if "action=refresh" not in (answer.request.post_data or "")]
    assert [answer.status for answer in of_form] == [422]  # the first visit asks for the open issues as well
    expect(page.locator("#sandbox-git_worktree")).to_be_checked()
    expect(page.get_by_label("Base branch")).to_have_value("develop")
    request = page.get_by_label("What should the agent do?")
    expect(request).to_have_attribute("aria-invalid", "true")
    summary.get_by_role("link").first.click()
    expect(request).to_be_focused()


def test_a_wrong_field_keeps_the_text_of_the_others(visit: Visit, connected: str) -> None:
    visit.expect("422")
    page = visit.page
    page.goto(f"{NEW}?repository={connected}")
    page.get_by_label("What should the agent do?").fill("Words\nthat took a while")
    page.get_by_label("Base branch").fill("..wrong..")
    page.get_by_role("button", name="Create work order").click()
    expect(page.get_by_label("Base branch")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Base branch")).to_have_value("..wrong..")
    expect(page.get_by_label("What should the agent do?")).to_have_value("Words\nthat took a while")


def test_an_issue_can_be_picked_from_the_open_ones(live: Site, page: Page, connected: str) -> None:
    """By choosing the repository, or by a link to it: the page asks for the issues itself."""
    page.goto(f"{NEW}?repository={connected}")
    issues = page.get_by_role("group", name="Open issues")
    expect(issues).to_contain_text("Teeth are blunt", timeout=20_000)
    page.goto(NEW)
    page.get_by_label("Connected repository").select_option(label=connected)
    expect(issues).to_contain_text("Teeth are blunt", timeout=20_000)
    expect(issues).to_contain_text("bug")
    issues.get_by_text("Teeth are blunt").click()
    expect(page.get_by_label("Issue number")).to_have_value("1")
    page.get_by_label("Issue number").fill("2")
    expect(issues.get_by_role("radio", name=re.compile("Oil is missing"))).to_be_checked()
    page.get_by_role("button", name="Create work order").click()
    order = live.server.order(created_id(page))
    live.cancel(order["agent_work_order_id"])
    assert order["github_issue_number"] == "2"


def test_the_keyboard_alone_fills_and_sends_the_form(live: Site, page: Page, connected: str) -> None:
    page.goto(f"{NEW}?repository={connected}")
    seen: list[str] = []

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.append(
                page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
            )
            if seen[-1] == name:
                return
        raise AssertionError(f"{name} is not reached by Tab: {seen}")

    tab_to("Skip to content")
    page.keyboard.press("Enter")
    tab_to("id_repository")
    tab_to("id_initial_prompt")
    page.keyboard.type("Typed")
    tab_to("workflow-agent_workflow_plan_build_test")
    page.keyboard.press("ArrowDown")
    tab_to("sandbox-git_branch")
    page.keyboard.press("ArrowDown")
    tab_to("create")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    order = live.server.order(created_id(page))
    live.cancel(order["agent_work_order_id"])
    assert order["sandbox_type"] == "git_worktree"
    assert order["workflow_type"] == "agent_workflow_plan_build"
    assert order["initial_prompt"] == "Typed"


def test_back_and_submit_again_makes_no_silent_second_order(live: Site, visit: Visit, connected: str) -> None:
    page = visit.page
    page.goto(f"{NEW}?repository={connected}")
    page.get_by_label("What should the agent do?").fill("Only once\nagent: sleep 60")
    page.get_by_role("button", name="Create work order").click()
    first = created_id(page)
    page.go_back()
    expect(page.get_by_role("heading", name="New work order")).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("heading", name="Only once")).to_be_visible()
    assert created_id(page) == first
    live.cancel(first)


def test_a_double_click_makes_one_order(live: Site, page: Page, connected: str) -> None:
    page.goto(f"{NEW}?repository={connected}")
    page.get_by_label("What should the agent do?").fill("Double click\nagent: sleep 60")
    page.get_by_role("button", name="Create work order").dblclick()
    order_id = created_id(page)
    live.cancel(order_id)
    found = live.server.http.get("/api/agent-work-orders", params={"limit": 100}).json()["agent_work_orders"]
    page.goto("/?q=Double+click")
    expect(page.get_by_role("row").filter(has_text="Double click")).to_have_count(1)
    assert order_id in {order["agent_work_order_id"] for order in found}
