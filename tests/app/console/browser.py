"""A headless Chromium for tests: Debian's, driven by Playwright without a browser download."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.app.served import Service
from tests.processes import PATIENCE_SECONDS

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
Theme = Literal["light", "dark"]

PHONE: ViewportSize = {"width": 360, "height": 740}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser. Without one, tests are skipped, but on CI they fail."""
    path = shutil.which("chromium")
    if path is None:
        reason = "needs Debian's package chromium (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Faults:
    """The errors that a page reports during a test."""

    def __init__(self, page: Page) -> None:
        self.found: list[str] = []
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("console", lambda message: self._look(message.text))

    def _look(self, text: str) -> None:
        if "Content Security Policy" in text:
            self.found.append(text)


@contextmanager
def opened(
    browser: Browser, url: str, *, viewport: ViewportSize | None = None, theme: Theme = "light"
) -> Iterator[Page]:
    """Open a page in a new context. At the end, no script may have failed and nothing may have broken the policy."""
    context = browser.new_context(base_url=url, viewport=viewport, color_scheme=theme, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_SECONDS)
    faults = Faults(page)
    try:
        yield page
        assert faults.found == []
    finally:
        context.close()


def drop(page: Page, path: Path) -> None:
    """Drop a folder or a file on the middle of the page, as a user does."""
    chrome = page.context.new_cdp_session(page)
    x, y = (page.evaluate(f"window.inner{side} / 2") for side in ("Width", "Height"))
    data = {"items": [], "files": [str(path.resolve())], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        chrome.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})


def accessibility_faults(page: Page) -> list[str]:
    """Return the faults that axe-core finds in the page, by the rules of WCAG 2.2 A and AA."""
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:4]}" for one in found]


def overflow(page: Page) -> int:
    """Return the number of pixels by which the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def assert_marked(page: Page, service: Service, address: str) -> None:
    """Mark what the page shows to be kept, and take the mark off again. address: of its answer."""
    for pressed, other, keep in (("Keep", "Do not keep", True), ("Do not keep", "Keep", False)):
        page.get_by_role("button", name=pressed, exact=True).first.click()
        expect(page.get_by_role("button", name=other, exact=True).first).to_be_visible()
        assert service.client.get(address).json()["keep"] is keep
