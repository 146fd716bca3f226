"""Walks through Darkroom as a new user in a browser: `python -m bench.first_walk FOLDER ... --minutes 3`.

The walk begins with `darkroom up` on a fresh state folder. For each FOLDER of class folders it drops the folder on the
first page, starts a planned training, watches it to the end, and draws images with the version that the job promoted.
It prints the clicks, the filled-in fields and the minutes of each stage, and the forecast beside what came of it.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Locator, Page, expect
from rich.console import Console
from rich.table import Table

from bench.plans import IMAGES
from darkroom import evaluate
from darkroom.model.config import parse_recipe
from darkroom.model.planning.plan import minutes_told
from darkroom.model.training.forecast import Forecast, forecast
from tests.app.console.browser import DESKTOP, chromium, drop, opened
from tests.processes import free_port

PATIENCE_SECONDS = 3600.0


@dataclass(frozen=True)
class Stage:
    """The clicks, fields and time of one part of the walk."""

    walk: str
    name: str
    clicks: int = 0
    fields: int = 0
    seconds: float = 0.0


class Walk:
    """The user at the page. Counts clicks and fields, stage by stage."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stages: list[Stage] = []
        self._clicks = 0
        self._fields = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Begin a stage, which lasts as long as the block."""
        self._clicks, self._fields = 0, 0
        begun = time.monotonic()
        yield
        self.stages.append(Stage(self.name, name, self._clicks, self._fields, time.monotonic() - begun))

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


def show(stages: list[Stage], console: Console) -> None:
    """Print the stages of a walk, and their sums."""
    table = Table("walk", "stage", "clicks", "fields", "minutes")
    clicks, fields, seconds = (sum(getattr(one, field) for one in stages) for field in ("clicks", "fields", "seconds"))
    for one in [*stages, Stage(stages[0].walk, "all", clicks, fields, seconds)]:
        table.add_row(one.walk, one.name, str(one.clicks), str(one.fields), f"{one.seconds / 60:.1f}")
    console.print(table)


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


def walk(page: Page, folder: Path, minutes: float, steps: Walk) -> bool:
    """Go from the first page to images of the user's own model. Returns False when the job promoted nothing."""
    with steps.stage("upload the folder"):
        page.goto("/")
        expect(page.get_by_role("heading", level=1)).to_be_visible()  # it takes drops from now on
        drop(page, folder)
        steps.click(page.get_by_role("button", name="Register and train"))
        expect(page.get_by_role("heading", level=1)).to_have_text("New training job")
    with steps.stage("start the training"):
        steps.fill(page.get_by_label("Minutes"), f"{minutes:g}")
        expect(page.get_by_text(f"images in {minutes_told(minutes)}")).to_be_visible()
        steps.click(page.get_by_role("button", name="Start training"))
        expect(page.get_by_role("heading", level=1)).to_contain_text("Job ")
    with steps.stage("watch it to its end"):
        expect(page.locator(".page-head .badge").first).to_have_text("succeeded")
    link, refused = page.get_by_role("link", name="Generate from it"), page.get_by_text("nothing was promoted:")
    expect(link.or_(refused).first).to_be_visible()
    if refused.count():
        return False
    with steps.stage("draw images"):
        steps.click(link)
        run = page.locator(".run").first
        expect(run.locator(".tile-open:not([disabled])").first).to_be_visible()
        expect(run.get_by_role("button", name="Cancel")).to_have_count(0)
    return True


@dataclass(frozen=True)
class Outcome:
    """What a walk's training was expected to reach, and what its version has: unguided, in ten steps."""

    walk: str
    images_seen: int
    planned_images: int
    expected: Forecast
    distance: float
    said: str
    """What the last early verdict found."""


def outcome(url: str, folder: Path, scratch: Path) -> Outcome:
    """Judge the newest job and its promoted version. Raises HTTPStatusError."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60.0) as client:

        def get(path: str) -> httpx.Response:
            return client.get(path).raise_for_status()

        newest = get("/v1/train-jobs?limit=1").json()["jobs"][0]
        job = get(newest["links"]["self"]).json()
        pictures = get(f"/v1/datasets/{job['dataset']}").json()["images"]
        version = get(f"/v1/models/{job['model']}").json()["aliases"]["production"]["version"]
        weights = scratch / f"{folder.name}.safetensors"
        weights.write_bytes(get(f"/v1/models/{job['model']}/versions/{version}/weights").content)
    recipe = parse_recipe(job["configuration"]["recipe"], source="job")
    settings = {"metrics": ("fid",), "images": min(IMAGES, pictures), "steps": 10, "guidance": 1.0}
    (figure,) = evaluate(weights, folder, cache=scratch / "cache", **settings)
    findings = job["verdict"]["findings"] if job["verdict"] else []
    said = ", ".join(f"{one['severity']}: {one['kind']}" for one in findings) or "nothing wrong"
    seen, planned = job["progress"]["images_done"], recipe.training.total_images
    return Outcome(folder.name, seen, planned, forecast(recipe), figure.value, said)


def show_outcome(one: Outcome, console: Console) -> None:
    """Print the forecast beside the outcome."""
    table = Table("walk", "images, planned", "images, seen", "distance, expected", "distance", "last verdict")
    images = (f"{one.planned_images:,}", f"{one.images_seen:,}")
    table.add_row(one.walk, *images, str(one.expected), f"{one.distance:.0f}", one.said)
    console.print(table)


def main() -> None:
    """Go."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of class folders with pictures")
    parser.add_argument("--minutes", type=float, default=3.0, help="time of each training")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each last page")
    arguments = parser.parse_args()
    expect.set_options(timeout=1000 * PATIENCE_SECONDS)
    console = Console()
    with tempfile.TemporaryDirectory() as state, chromium() as browser:
        begun = time.monotonic()
        with darkroom(Path(state), free_port()) as url:
            console.print(f"`darkroom up` took {(time.monotonic() - begun) / 60:.1f} minutes")
            for folder in arguments.folders:
                steps = Walk(folder.name)
                with opened(browser, url, viewport=DESKTOP) as page:
                    page.set_default_timeout(1000 * PATIENCE_SECONDS)
                    promoted = walk(page, folder, arguments.minutes, steps)
                    if arguments.pictures:
                        arguments.pictures.mkdir(parents=True, exist_ok=True)
                        page.screenshot(path=arguments.pictures / f"{folder.name}.png", full_page=True)
                show(steps.stages, console)
                if promoted:
                    show_outcome(outcome(url, folder, Path(state)), console)
                else:
                    console.print(f"{folder.name}: an early verdict refused its promotion")


if __name__ == "__main__":
    main()
