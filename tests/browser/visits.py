"""Pages under observation: whatever a browser complains about is a failed test."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

from tests.browser.world import Site

MARKS = [pytest.mark.e2e, pytest.mark.xdist_group("browser")]
DESKTOP, PHONE = 1280, 390
_ABORTED = ("htmx:sendAbort", "htmx:afterRequest")  # a poll under way when the person leaves the page
AXE = Path(__file__).parents[1] / "vendor" / "axe-core" / "axe.min.js"
_INIT = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
_HURRY = "setInterval(() => document.dispatchEvent(new Event('poll-now')), 300)"
_RUN_AXE = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map((found) =>
  `${found.id}: ${found.help}\\n` + found.nodes.slice(0, 4).map((node) =>
    `    ${node.target.join(" ")}  ${node.html.slice(0, 160)}\\n      ${node.failureSummary.replaceAll("\\n", " ")}`
  ).join("\\n"))"""
_WIDTHS = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
_WIDE = """() => [...document.querySelectorAll("body *")].filter((element) =>
  element.getBoundingClientRect().right > document.documentElement.clientWidth + 1).slice(0, 8)
  .map((element) => `${element.tagName}.${element.className}`)"""
type Options = dict[str, Any]


class Visit:
    """One person's browser. What is not announced with `expect` must not go wrong."""

    def __init__(self, browser: Browser, site: Site, **options: Any) -> None:
        self.site = site
        self.problems: list[str] = []
        self.answers: list[Response] = []
        self._expected: list[str] = []
        settings: Options = {
            "viewport": {"width": DESKTOP, "height": 900},
            "base_url": site.base_url,
            **options,
        }
        self.context: BrowserContext = browser.new_context(**settings)
        self.context.set_default_timeout(10_000)
        self.context.add_init_script(_INIT)
        self.context.on("console", self._on_console)
        self.context.on("weberror", lambda error: self.problems.append(f"page error: {error.error}"))
        self.context.on("request", self._on_request)
        self.context.on("response", lambda answer: self.answers.append(answer))
        self.context.on("requestfailed", self._on_failed)
        self.page: Page = self.context.new_page()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self.context.close()
        if kind is None:
            assert not self.complaints(), "\n".join(self.complaints())

    def hurry(self) -> Page:
        """The page, which from its next load on polls ten times as often, so that nobody waits for a poll."""
        self.page.add_init_script(_HURRY)
        return self.page

    def expect(self, pattern: str) -> None:
        """Complaints that match this regular expression are part of the test."""
        self._expected.append(pattern)

    def complaints(self) -> list[str]:
        return [it for it in self.problems if not any(re.search(known, it) for known in self._expected)]

    def answers_to(self, path: str) -> list[Response]:
        """All answers so far whose path matches the regular expression as a whole."""
        return [answer for answer in self.answers if re.fullmatch(path, urlsplit(answer.url).path)]

    def wait_until(self, look: Callable[[], bool], seconds: float, what: str, every: float = 0.1) -> None:
        """Polls while the browser goes on."""
        for _ in range(int(seconds / every)):
            if look():
                return
            self.page.wait_for_timeout(every * 1000)
        raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")

    # --- checks of the page that is open ---

    def axe(self) -> list[str]:
        """Violations of accessibility rules, with where they are."""
        if not self.page.evaluate("() => Boolean(window.axe)"):
            self.page.evaluate(AXE.read_text())
        found: list[str] = self.page.evaluate(_RUN_AXE)
        return found

    def too_wide(self) -> list[str]:
        """What reaches beyond the window's right edge, if the page as a whole scrolls sideways."""
        scroll, client = self.page.evaluate(_WIDTHS)
        if scroll <= client:
            return []
        wide: list[str] = self.page.evaluate(_WIDE)
        return [f"the page is {scroll} px wide in a window of {client} px", *wide]

    # --- listening ---

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.text.startswith(_ABORTED):
            return
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in {"http", "https", "ws", "wss"} and address.hostname != "127.0.0.1":
            self.problems.append(f"request to {request.url}")

    def _on_failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # left for another page while under way
            self.problems.append(f"request failed: {request.url} {request.failure}")
