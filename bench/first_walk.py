"""Walks through Darkroom as a new user in a browser: `python -m bench.first_walk`.

The walk begins with `darkroom up` on a fresh state folder. It uploads a zip of class folders (scikit-learn's digits),
starts a training from a recipe, watches it to the end, promotes its best version and draws images with it. For each
stage it prints the clicks, the filled-in fields and the minutes.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from tests.app.console.browser import DESKTOP, chromium, opened
from tests.processes import free_port

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PATIENCE_SECONDS = 3600.0


def write_archive(path: Path) -> int:
    """Write a zip with one folder for each digit; returns the number of images."""
    digits = load_digits()
    with zipfile.ZipFile(path, "w") as archive:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            file = BytesIO()
            Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(file, "png")
            archive.writestr(f"{NAMES[label]}/{number:04d}.png", file.getvalue())
    return len(digits.target)


@dataclass(frozen=True)
class Stage:
    """The clicks, fields and time of one part of the walk."""

    name: str
    clicks: int = 0
    fields: int = 0
    seconds: float = 0.0


class Walk:
    """The user at the page. Counts clicks and fields, stage by stage."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self._clicks = 0
        self._fields = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Begin a stage, which lasts as long as the block."""
        self._clicks, self._fields = 0, 0
        begun = time.monotonic()
        yield
        self.stages.append(Stage(name, self._clicks, self._fields, time.monotonic() - begun))

    def click(self, target: Locator) -> None:
        """One click."""
        target.click()
        self._clicks += 1

    def fill(self, target: Locator, value: str) -> None:
        """Click into a field and type."""
        target.click()
        target.fill(value)
        self._clicks += 1
        self._fields += 1

    def choose_file(self, target: Locator, path: Path) -> None:
        """Click the button, then the file in the system's dialog."""
        target.set_input_files(path)
        self._clicks += 2

    def print(self) -> None:
        """The table."""
        table = Table("stage", "clicks", "fields", "minutes")
        clicks, fields = sum(one.clicks for one in self.stages), sum(one.fields for one in self.stages)
        for one in [*self.stages, Stage("all", clicks, fields, sum(one.seconds for one in self.stages))]:
            table.add_row(one.name, str(one.clicks), str(one.fields), f"{one.seconds / 60:.1f}")
        Console().print(table)


@contextmanager
def darkroom(state: Path, port: int) -> Iterator[str]:
    """Start `darkroom up`, wait until it is ready, and yield its address; then end it with Ctrl-C."""
    command = [str(Path(sys.executable).with_name("darkroom")), "up", "--state", str(state), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            while not is_ready(url):
                if process.poll() is not None:
                    raise SystemExit("darkroom up has ended")
                time.sleep(1.0)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def is_ready(url: str) -> bool:
    """Return true when the service answers that it is ready."""
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:  # it does not listen yet
        return False


def walk(page: Page, archive: Path, images: int, steps: Walk) -> None:
    """Go from the first page to images of the user's own model."""
    with steps.stage("upload a data set"):
        page.goto("/")
        steps.click(page.get_by_role("link", name="Training"))
        steps.click(page.get_by_role("link", name="Data sets"))
        steps.choose_file(page.get_by_label("Archive"), archive)
        steps.click(page.get_by_role("button", name="Register"))
        expect(page.get_by_text("is registered")).to_be_visible()
    with steps.stage("start a training"):
        card = page.get_by_role("article").filter(has=page.get_by_role("heading", name=archive.stem, exact=True))
        steps.click(card.get_by_role("link", name="Train on it"))
        steps.fill(page.get_by_label("Name of the model"), "my-digits")
        steps.fill(page.get_by_label("Images to train on"), str(images))
        steps.fill(page.get_by_label("Samples every (images)"), str(images // 4))
        steps.click(page.get_by_role("button", name="Start training"))
        expect(page.get_by_role("heading", level=1)).to_contain_text("my-digits")
    with steps.stage("first figures are seen"):
        expect(page.get_by_text("loss", exact=False).first).to_be_visible()
        expect(page.get_by_role("region", name="Curves").locator("path").first).to_be_visible()
    with steps.stage("watch it to its end"):
        expect(page.locator(".page-head .badge")).to_have_text("succeeded")
        expect(page.get_by_role("list", name="Samples over time").get_by_role("button").nth(3)).to_be_visible()
    with steps.stage("promote"):
        best = page.get_by_role("region", name="Table of checkpoints").get_by_role("row").filter(has_text="best")
        steps.click(best.get_by_role("button", name="Promote"))
        steps.click(page.get_by_role("dialog").get_by_role("button", name="Promote"))
        expect(page.locator(".notice-title")).to_contain_text("production is version")
    with steps.stage("generate"):
        steps.click(page.get_by_role("link", name="Generate from it"))
        steps.click(page.get_by_role("button", name="All", exact=True))
        steps.click(page.get_by_role("button", name="Generate", exact=True))
        drawn = page.locator(".run").first.locator(".tile-open:not([disabled])")
        expect(drawn).to_have_count(8 * len(NAMES))


def main() -> None:
    """Go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12_000, help="number of images to train on")
    parser.add_argument("--picture", type=Path, help="where to write a picture of the last page")
    arguments = parser.parse_args()
    expect.set_options(timeout=1000 * PATIENCE_SECONDS)
    steps = Walk()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        archive = Path(folder) / "digits-by-name.zip"
        print(f"{write_archive(archive)} images in {archive.name}")
        begun = time.monotonic()
        with darkroom(Path(folder) / "state", free_port()) as url, opened(browser, url, viewport=DESKTOP) as page:
            steps.stages.append(Stage("start (`darkroom up`)", seconds=time.monotonic() - begun))
            page.set_default_timeout(1000 * PATIENCE_SECONDS)
            walk(page, archive, arguments.images, steps)
            if arguments.picture:
                page.screenshot(path=arguments.picture, full_page=True)
    steps.print()


if __name__ == "__main__":
    main()
