"""The console's pages as pictures, and docs/example.png, from a service that is started and filled for them.

The service has a state folder and a port of its own. It holds the shipped model, two data sets, one short training and
one small sweep. A picture is a whole page. The typeface is Inter where it is installed, else the system's.
"""

import re
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from sklearn.datasets import load_digits

from bench.experiments.guidance import WEIGHTS
from bench.first_walk import darkroom
from bench.pictures.origin import write_picture
from tests.app.console.browser import DESKTOP, PHONE, Theme, chromium, opened
from tests.processes import PATIENCE_SECONDS, free_port, wait_until

FOLDER = Path("docs/console")
EXAMPLE = Path("docs/example.png")
MODEL = WEIGHTS.stem
EXAMPLE_REQUEST = {"class": ["Trouser", "Sneaker", "Bag"], "n": 8, "seed": 7}
"""The request that README.md and docs/generate.md show."""

TRAINING = {
    "recipe": "digits",
    "model": "digits",
    "promote": "best",
    "overrides": {
        "training.total_images": 12_000,
        "training.checkpoint_every_images": 3_000,
        "training.sample_every_images": 2_000,
        "sampling.steps": 20,
        "evaluation.every_images": 3_000,
        "evaluation.images": 200,
        "evaluation.steps": 10,
    },
}
SWEEP = {
    "name": "Learning rate and width",
    "recipe": "digits",
    "model": "digits-try",
    "overrides": {
        "training.total_images": 1_500,
        "training.checkpoint_every_images": 1_500,
        "training.sample_every_images": 1_500,
        "sampling.steps": 10,
        "evaluation.every_images": 1_500,
        "evaluation.images": 100,
        "evaluation.steps": 10,
    },
    "grid": {"optimizer.learning_rate": [5e-4, 2e-3, 8e-3], "model.unet.width": [16, 32]},
}

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SERVICE_LOOKS = 14
"""Readings of the metrics before the page Service is taken."""


@dataclass(frozen=True)
class Shot:
    """A picture of a page. ready: brings it about, and returns when it can be taken."""

    name: str
    address: str
    ready: Callable[[Page], None]
    theme: Theme = "light"
    phone: bool = False

    def take(self, browser: Browser, url: str) -> None:
        """Write the picture."""
        with opened(browser, url, theme=self.theme, viewport=PHONE if self.phone else DESKTOP) as page:
            page.goto(f"/#{self.address}")
            self.ready(page)
            settle(page)
            write_picture(FOLDER / f"{self.name}.png", page.screenshot(full_page=True), [WEIGHTS])


def settle(page: Page) -> None:
    """Scroll through the page once, so that the browser fetches all its pictures, and wait for them."""

    def loaded() -> bool:
        page.evaluate("document.querySelector('.is-waiting')?.scrollIntoView()")
        return page.locator(".is-waiting").count() == 0

    wait_until(loaded, "pictures are loaded")
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
    wait_until(lambda: finished.count() >= 30, "the images are drawn")
    expect(page.locator(".run").first.get_by_role("button", name="Cancel")).to_have_count(0)


def watch(page: Page) -> None:
    """Wait until the page Service has drawn enough readings."""
    chart = page.get_by_role("img", name="Rows in the engine")

    def values() -> int:
        found = re.search(r"(\d+) values", chart.get_attribute("aria-label") or "")
        return int(found[1]) if found else 0

    wait_until(lambda: values() >= 2 * SERVICE_LOOKS, "readings")


def write_archive(path: Path) -> None:
    """Write a zip of scikit-learn's digits, with one folder for each."""
    digits = load_digits()
    with zipfile.ZipFile(path, "w") as archive:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            file = BytesIO()
            Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(file, "png")
            archive.writestr(f"{NAMES[label]}/{number:04d}.png", file.getvalue())


@contextmanager
def visitors(url: str) -> Iterator[None]:
    """Ask for images as two other clients do, as long as the block runs."""
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=600.0, trust_env=False) as client:
            while not over.is_set():
                client.post("/v1/generate", json={"class": [0, 1, 2], "n": 4, "model": MODEL})
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


def fill(client: httpx.Client) -> None:
    """Upload a data set, train, sweep, and return when the jobs have ended. Draws the example first."""
    picture = client.post("/generate", json=EXAMPLE_REQUEST).raise_for_status().content
    write_picture(EXAMPLE, picture, [WEIGHTS])
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "digits.zip"
        write_archive(archive)
        wanted = {"name": "digits-by-name", "format": "zip"}
        client.post("/v1/datasets", params=wanted, content=archive.read_bytes()).raise_for_status()
    client.post("/v1/train-jobs", json=TRAINING).raise_for_status()
    client.post("/v1/sweeps", json=SWEEP).raise_for_status()
    while waiting := [job for job in client.get("/v1/train-jobs").raise_for_status().json()["jobs"] if unfinished(job)]:
        print(f"{len(waiting)} jobs are not finished yet", flush=True)
        time.sleep(10.0)


def unfinished(job: Mapping[str, Any]) -> bool:
    """True while a job waits or runs. A job that failed ends the program."""
    if job["status"] in ("failed", "cancelled"):
        raise SystemExit(f"job {job['id']} ended as {job['status']}: {job['failure']}")
    return bool(job["status"] != "succeeded")


SHOTS = (
    Shot("generate", f"/generate?model={MODEL}", draw),
    Shot("generate-phone", f"/generate?model={MODEL}", draw, "dark", phone=True),
    Shot("jobs", "/training/jobs", shows("table.jobs")),
    Shot("job", "/training/jobs/1", shows(".film li")),
    Shot("job-dark", "/training/jobs/1", shows(".film li"), "dark"),
    Shot("job-phone", "/training/jobs/1", shows(".film li"), phone=True),
    Shot("datasets", "/training/datasets", shows(".dataset")),
    Shot("sweep-dark", "/training/sweeps/1", shows(".chart path"), "dark"),
    Shot("model", f"/models/{MODEL}", shows(".class-rows img")),  # drawn after the rest of the page
)
SERVICE = Shot("service-dark", "/service", watch, "dark")
"""Taken while `visitors` ask for images."""


def write_console() -> None:
    """Start the service, fill it, and take every picture."""
    expect.set_options(timeout=1000 * PATIENCE_SECONDS)
    with (
        chromium() as browser,
        tempfile.TemporaryDirectory() as folder,
        darkroom(Path(folder) / "state", free_port()) as url,
        httpx.Client(base_url=url, timeout=600.0, trust_env=False) as client,
    ):
        fill(client)
        for shot in SHOTS:
            shot.take(browser, url)
        with visitors(url):
            SERVICE.take(browser, url)
