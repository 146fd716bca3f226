"""Takes pictures of the console's pages on a running service: `python -m bench.console_pictures URL`.

The service must have the job, the sweep and the models that the arguments name, and data sets. Other clients ask for
images while the page Service is pictured. A picture shows a whole page in at most 256 colours. The typeface is Inter
where it is installed, otherwise the system's.
"""

import argparse
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.app.console.browser import DESKTOP, PHONE, Theme, chromium, opened
from tests.processes import wait_until

MOST_BYTES = 300_000
SERVICE_LOOKS = 14
"""Readings of the metrics before the page Service is taken."""


@dataclass(frozen=True)
class Shot:
    """A picture of a page. ready: fills the page, and returns when the picture can be taken."""

    name: str
    address: str
    ready: Callable[[Page], None]
    theme: Theme = "light"
    phone: bool = False

    def take(self, browser: Browser, url: str, folder: Path) -> int:
        """Write the picture; returns its bytes."""
        with opened(browser, url, theme=self.theme, viewport=PHONE if self.phone else DESKTOP) as page:
            page.goto(f"/#{self.address}")
            self.ready(page)
            settle(page)
            data = page.screenshot(full_page=True)
        file = BytesIO()
        Image.open(BytesIO(data)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            file, "png", optimize=True
        )
        (folder / f"{self.name}.png").write_bytes(file.getvalue())
        return len(file.getvalue())


def settle(page: Page) -> None:
    """Scroll through the page once, so that the browser fetches all its pictures, and wait for them."""

    def loaded() -> bool:
        page.evaluate("document.querySelector('.is-waiting')?.scrollIntoView()")
        return page.locator(".is-waiting").count() == 0

    wait_until(loaded, "pictures are loaded", every_seconds=0.1)
    page.evaluate("for (const film of document.querySelectorAll('.film')) film.scrollLeft = film.scrollWidth")
    page.evaluate("window.scrollTo(0, 0)")


def shows(selector: str) -> Callable[[Page], None]:
    """Return a `ready` that waits for `selector`."""

    def ready(page: Page) -> None:
        expect(page.locator(selector).first).to_be_visible()

    return ready


def draw(page: Page) -> None:
    """Draw a few images of each class on the page Generate."""
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_label("Images of each").fill("3")
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_role("button", name="Generate", exact=True).click()
    finished = page.locator(".run").first.locator(".tile-open:not([disabled])")
    wait_until(lambda: finished.count() >= 30, "the images are drawn", every_seconds=0.5)
    expect(page.locator(".run").first.get_by_role("button", name="Cancel")).to_have_count(0)


def watch(page: Page) -> None:
    """Wait until the page Service has drawn READINGS readings."""
    chart = page.get_by_role("img", name="Rows in the engine")

    def values() -> int:
        found = re.search(r"(\d+) values", chart.get_attribute("aria-label") or "")
        return int(found[1]) if found else 0

    wait_until(lambda: values() >= 2 * SERVICE_LOOKS, "readings", every_seconds=0.5)


@contextmanager
def visitors(url: str, model: str) -> Iterator[None]:
    """Ask for images as other clients do, as long as the block runs."""
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=600.0, trust_env=False) as client:
            while not over.is_set():
                client.post("/v1/generate", json={"class": [0, 1, 2], "n": 4, "steps": 10, "model": model})
                over.wait(1.0)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def shots(job: int, sweep: int, model: str, drawn_with: str) -> list[Shot]:
    """Return all pictures except that of the page Service."""
    job_page, sampled = f"/training/jobs/{job}", shows(".film li")
    return [
        Shot("generate", f"/generate?model={drawn_with}", draw),
        Shot("generate-phone", f"/generate?model={drawn_with}", draw, "dark", phone=True),
        Shot("jobs", "/training/jobs", shows("table.jobs")),
        Shot("job", job_page, sampled),
        Shot("job-dark", job_page, sampled, "dark"),
        Shot("job-phone", job_page, sampled, phone=True),
        Shot("datasets", "/training/datasets", shows(".dataset")),
        Shot("sweep-dark", f"/training/sweeps/{sweep}", shows(".chart path"), "dark"),
        Shot("model", f"/models/{model}", shows(".chart path")),
    ]


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where the service is")
    parser.add_argument("--out", type=Path, default=Path("docs/console"))
    parser.add_argument("--job", type=int, default=1)
    parser.add_argument("--sweep", type=int, default=1)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--drawn-with", default="fashion-mnist", help="the model on the page Generate")
    parser.add_argument("--only", nargs="*", help="names of pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    service = Shot("service-dark", "/service", watch, "dark")

    def take(browser: Browser, shot: Shot) -> None:
        if not arguments.only or shot.name in arguments.only:
            size = shot.take(browser, arguments.url, arguments.out)
            print(f"{shot.name}.png: {size / 1000:.0f} kB{'' if size < MOST_BYTES else ', too large'}")

    with chromium() as browser:
        for shot in shots(arguments.job, arguments.sweep, arguments.model, arguments.drawn_with):
            take(browser, shot)
        with visitors(arguments.url, arguments.model):
            take(browser, service)


if __name__ == "__main__":
    main()
