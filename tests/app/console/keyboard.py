"""Helpers for tests that use a page by keyboard only."""

from playwright.sync_api import Page

FOCUSED = """(() => {
  const here = document.activeElement;
  return here.getAttribute("aria-label") || here.labels?.[0]?.innerText || here.innerText;
})()"""
"""What the focused element is called."""

MOST_STOPS = 150


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element of that name has the focus."""
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        if str(page.evaluate(FOCUSED)).strip() == name:
            return
    raise AssertionError(f"Tab never reaches {name}")
