"""Text of strangers on every page: nothing runs, nothing reaches out, nothing breaks the layout."""

import base64
import json
from collections.abc import Mapping

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.visits import MARKS, PHONE
from tests.browser.world import Site

pytestmark = MARKS
RUN = "<script>window.__pwned=1</script>"
IMAGE = "<img src=x onerror=window.__pwned=2>"
LINK = "[press](javascript:window.__pwned=3)"
OVERRIDE = "user\u202etxt.exe\u2066 end"
LONG = "W" * 3000
ANSI = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J"
HOSTILE = f'{RUN} {IMAGE} "><svg onload=window.__pwned=4> {LINK} {OVERRIDE}'
PLAN = f"""# {RUN}

{IMAGE} {LINK} [data](data:text/html,<script>window.__pwned=5</script>) ![x](http://evil.example/pixel.png)

<https://evil.example/{LONG[:400]}> <iframe src="javascript:window.__pwned=6"></iframe> {{{{ 7|add:"7" }}}}

| {RUN} | b |
|---|---|
| {LONG} | {OVERRIDE} |

```html
{RUN}
{LONG}
```
"""


def shell(script: str) -> str:
    """A line of the scripted agent that runs any script."""
    return f"run echo {base64.b64encode(script.encode()).decode()} | base64 -d | sh"


def says(*blocks: Mapping[str, object]) -> str:
    """A shell command that prints an assistant's turn as Claude Code does."""
    event = {
        "type": "assistant",
        "message": {"role": "assistant", "content": list(blocks)},
        "session_id": "s",
    }
    return f"cat <<'END_OF_EVENT'\n{json.dumps(event)}\nEND_OF_EVENT\n"


@pytest.fixture(scope="module")
def hostile(live: Site) -> str:
    repository = live.remotes.add_repository("acme", "hostile")
    issue = live.remotes.github.add_issue(
        repository, f"{HOSTILE} {LONG[:500]}", f"{HOSTILE}\n{ANSI}", labels=(RUN,)
    )
    tool_use = {
        "type": "tool_use",
        "id": "t1",
        "name": f"Bash{RUN}",
        "input": {"command": f"{HOSTILE}\n{ANSI}{LONG}", IMAGE: LONG},
    }
    plan = shell(
        f"mkdir -p specs; cat > specs/plan-$WORKORDERS_AGENT_WORK_ORDER_ID.md <<'END_OF_PLAN'\n{PLAN}\nEND_OF_PLAN\n"
        f"git add -f specs; git commit -q -F - <<'END_OF_MESSAGE'\n{HOSTILE}\n\n{HOSTILE}\n{LONG}\nEND_OF_MESSAGE\n"
    )
    files = [
        f"{IMAGE}.txt",
        '"><svg onload=window.__pwned=7>.py',
        f"{OVERRIDE}.py",
        f"deep/{'d' * 200}/{'f' * 200}.js",
        "javascript:window.__pwned=8",
    ]
    write = "".join(
        f"mkdir -p \"$(dirname '{name}')\"; cat > '{name}' <<'END_OF_FILE'\n{HOSTILE}\n{ANSI}\n{LONG}\nEND_OF_FILE\n"
        for name in files
    )
    order_id = live.order(
        "\n".join(
            [
                f"{HOSTILE} {LONG}",
                ANSI,
                f"agent: say {HOSTILE} {LONG}",
                "agent: " + shell(says({"type": "text", "text": f"{ANSI} {HOSTILE}\n{LONG}"}, tool_use)),
                f"agent[planning]: {plan}",
                "agent[implementing]: " + shell(f"{write}git add -A; git commit -qm '{RUN} {IMAGE}'"),
            ]
        ),
        repository_url="acme/hostile",
        github_issue_number=str(issue.number),
        workflow_type="agent_workflow_plan_build",
    )
    live.server.completed(order_id)
    return order_id


def listed_addresses(order_id: str) -> list[str]:
    order = f"/work-orders/{order_id}/"
    files = [f"{order}changes/{number}/" for number in range(1, 8)]
    return ["/", f"/?q={RUN}", order, f"{order}?kind=tools", f"{order}changes/", *files, f"{order}cancel/"]


def harmless(page: Page) -> None:
    assert page.evaluate("window.__pwned") is None, page.url
    assert (
        page.evaluate(
            "document.querySelectorAll('[onerror], [onload], iframe, main img, main script').length"
        )
        == 0
    )
    bad = "a => a.filter((it) => !/^(https?:|#|\\/|\\?)/.test(it.getAttribute('href'))).map((it) => it.outerHTML)"
    assert page.locator("a[href]").evaluate_all(bad) == []
    assert (
        page.evaluate(
            "/[\\u202a-\\u202e\\u2066-\\u2069\\u001b]/.test(document.body.innerText + document.title)"
        )
        is False
    )


@pytest.mark.parametrize("width", [1280, PHONE])
def test_no_page_runs_or_breaks(open_browser: Open, hostile: str, width: int) -> None:
    visit = open_browser(viewport={"width": width, "height": 900})
    visit.expect("404")
    wide: list[str] = []
    for address in listed_addresses(hostile):
        visit.page.goto(address)
        visit.page.locator("details:not([open]) > summary").evaluate_all(
            "all => all.forEach((it) => { it.parentElement.open = true; })"
        )
        harmless(visit.page)
        wide += [f"{address}: {it}" for it in visit.too_wide()]
    assert not wide, "\n".join(wide)


def test_the_text_is_there_to_be_read(page: Page, hostile: str) -> None:
    page.goto(f"/work-orders/{hostile}/")
    expect(page.get_by_role("heading", level=1)).to_contain_text(RUN)
    feed = page.get_by_role("region", name="Activity, newest last")
    expect(feed.get_by_text(IMAGE).first).to_be_visible()
    expect(page.get_by_role("region", name="Git activity").get_by_text(RUN).first).to_be_visible()
    plan = page.locator("#order-plan")
    expect(plan.get_by_text("press").first).to_be_visible()
    assert plan.locator("a[href^='javascript'], img, script, iframe").count() == 0
    expect(feed.get_by_text("usertxt.exe end").first).to_be_visible()


def test_the_issue_picker_and_the_follow_up_box(live: Site, page: Page, hostile: str) -> None:
    page.goto("/work-orders/new/")
    page.get_by_label("Connected repository").select_option(label="acme/hostile")
    issues = page.get_by_role("group", name="Open issues")
    expect(issues).to_contain_text(RUN, timeout=20_000)
    harmless(page)
    order_id = live.order("Small\nagent: sleep 600")
    page.goto(f"/work-orders/{order_id}/")
    page.get_by_label("Prompt the agent").fill(f"{HOSTILE} {LONG}")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("region", name="Request").get_by_role("list")).to_contain_text(RUN)
    harmless(page)
    live.cancel(order_id)


def test_a_hostile_search_comes_back_as_text(page: Page, hostile: str) -> None:
    page.goto("/")
    page.get_by_role("searchbox").fill('"><script>window.__pwned=9</script>')
    expect(page.get_by_role("heading", name="No work order matches")).to_be_visible()
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value('"><script>window.__pwned=9</script>')
    harmless(page)
