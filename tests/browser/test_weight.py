"""How heavy pages are, and how still they stand while an order runs."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.visits import DESKTOP, MARKS, PHONE, Visit
from tests.browser.world import HOLD, Site

pytestmark = MARKS
LARGEST_BYTES = 250_000
_SHIFTS = """
window.__shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.__shifts.push(
    [entry.value, ...entry.sources.map((it) => it.node &&
      `${it.node.id || it.node.className || it.node.parentElement?.id || it.node.nodeName} y ${
        Math.round(it.previousRect.y)} → ${Math.round(it.currentRect.y)}`)]);
}).observe({type: "layout-shift", buffered: true});
"""
_AFTER_A_FRAME = "() => new Promise(requestAnimationFrame).then(() => window.__shifts)"


def test_a_running_order_does_not_jump(live: Site, open_browser: Open) -> None:
    """Watched on a desktop and on a phone at once."""
    order_id = live.order(
        "\n".join(
            ["Talk and commit", f"agent[testing]: {HOLD}"]
            + [
                f"agent: {line}"
                for number in range(3)
                for line in (f"say Word {number}", "sleep 0.4", f"commit notes/{number}.txt")
            ]
        )
    )
    visits = [open_browser(viewport={"width": width, "height": 900}) for width in (DESKTOP, PHONE)]
    for visit in visits:
        visit.hurry().add_init_script(_SHIFTS)
        visit.page.goto(f"/work-orders/{order_id}/")
    for visit in visits:
        testing = (
            visit.page.get_by_role("region", name="Progress").get_by_role("listitem").filter(has_text="Test")
        )
        expect(testing).to_contain_text("running", timeout=60_000)
    found: list[list[list[object]]] = [visit.page.evaluate(_AFTER_A_FRAME) for visit in visits]
    live.cancel(order_id)
    for shifts in found:
        total = sum(float(str(shift[0])) for shift in shifts)
        assert total < 0.02, "\n".join(map(str, shifts))


def weight(page: Page, address: str) -> tuple[int, dict[str, int]]:
    """Bytes on the wire of a first load, all together and by address."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    names: dict[str, str] = {}
    sizes: dict[str, int] = {}
    session.on("Network.responseReceived", lambda it: names.update({it["requestId"]: it["response"]["url"]}))
    session.on("Network.loadingFinished", lambda it: sizes.update({it["requestId"]: it["encodedDataLength"]}))
    page.goto(address, wait_until="networkidle")
    by_address = {names.get(key, key): int(size) for key, size in sizes.items()}
    return sum(by_address.values()), by_address


@pytest.mark.parametrize("path", ["/", "/work-orders/new/", "/work-orders/{}/", "/work-orders/{}/changes/"])
def test_the_first_load_is_light(completed: str, visit: Visit, path: str) -> None:
    total, by_address = weight(visit.page, path.format(completed))
    listed = "\n".join(f"{size:>8} {name}" for name, size in by_address.items())
    assert by_address
    assert total < LARGEST_BYTES, f"{total} bytes\n{listed}"
    print(f"{path}: {total} bytes\n{listed}")
