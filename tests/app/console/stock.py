"""Things that the console's tests show: uploads, and jobs for which the test does a worker's part."""

import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy.orm import Session

from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.job_repository import Lease, add_event, succeed
from darkroom.store.run_repository import append_log, record_samples, record_verdict
from darkroom.store.worker_repository import see_worker
from tests.app.served import Json, Service, tiny_weights
from tests.app.training import checkpoint, claim, end, holding, metrics

SCRIPTS = ("قطة", "运动鞋", "👟🧦", "שמלה", "<img src=x onerror=alert(1)>", "a very long name " * 11)
"""Names of classes in several scripts, including ones that are hard to show."""

DATASET = "مجموعة 数据集 👗 a-name-without-a-single-space-in-it-that-is-longer-than-a-telephone-is-wide"
"""Name of a data set."""


def picture_of(height: int = 8, width: int = 8, seed: int = 0) -> bytes:
    """Return a PNG of noise."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def archive(class_names: Sequence[str], each: int = 3, side: int = 8) -> bytes:
    """Return a zip of class folders with images of noise. A class whose name cannot be a path has a numbered folder."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as found:
        for label, name in enumerate(class_names):
            for number in range(each):
                found.writestr(f"{name}/{number}.png", picture_of(side, side, seed=label * each + number))
    return file.getvalue()


def upload(service: Service, name: str = "shapes", class_names: Sequence[str] = ("circle", "square")) -> None:
    """Register a data set."""
    answer = service.client.post("/v1/datasets", params={"name": name, "format": "zip"}, content=archive(class_names))
    assert answer.status_code == 201, answer.text


def post(service: Service, path: str, **body: Any) -> Json:
    """POST something that the service must accept."""
    answer = service.client.post(path, json=body)
    assert answer.status_code in (200, 202), answer.text
    found: Json = answer.json()
    return found


def submit(service: Service, model: str, total_images: int = 500, **fields: Any) -> int:
    """Queue a job of the digits' recipe; returns its id."""
    overrides = {"training.total_images": total_images}
    body = {"recipe": "digits", "dataset": "shapes", "model": model, "overrides": overrides}
    return int(post(service, "/v1/train-jobs", **body | fields)["id"])


class Trainer:
    """Claims the next job, and does the parts of a worker's work that the test calls."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.session() as session:
            see_worker(session, "worker", "cpu", 1)
        self.lease: Lease = claim(database)

    def train(self, images: int, loss: float = 0.5) -> None:
        """Report progress."""
        metrics(self.database, self.lease, images, loss=loss)

    def judge(self, images: int, *findings: Finding, expected: Forecast | None = None) -> None:
        """Store an early verdict."""
        with holding(self.database, self.lease) as (session, job):
            record_verdict(session, job, images, findings, expected)

    def draw(self, images: int) -> None:
        """Store a sample grid."""
        with holding(self.database, self.lease) as (session, job):
            record_samples(session, job, images, Artifacts(session).put(picture_of(40, 100, seed=images)))

    def say(self, *lines: str) -> None:
        """Write to the job's log."""
        with holding(self.database, self.lease) as (session, job):
            append_log(session, job, lines)

    def save(self, images: int, **figures: float) -> None:
        """Store a checkpoint that can be served, and its figures."""
        weights = tiny_weights("trained", images + 1000 * self.lease.job_id, ("circle", "square"))
        named = {name.replace("_", "-"): value for name, value in figures.items()}
        checkpoint(self.database, self.lease, images, named, weights)

    def fail_at(self, what: str, images: int, detail: str) -> None:
        """Report the failure of a part without which the training can continue."""
        with holding(self.database, self.lease) as (session, job):
            add_event(session, job, f"{what}_failed", {"images_seen": images, "detail": detail})

    def end(self, how: Callable[[Session, Lease], object] = succeed) -> None:
        """End the attempt."""
        end(self.database, self.lease, how)

    def whole_run(self, *distances: float) -> None:
        """Carry a job out from start to end, with figures at equal parts of 500 images."""
        self.say("1500 images of 10 classes; training on cpu", *(f"line {number} قطة 👟" for number in range(60)))
        for number in range(1, 31):
            self.train(number * 16, loss=1.0 / number)
        for number, distance in enumerate(distances, 1):
            images = 500 * number // len(distances)
            self.draw(images)
            self.save(images, fid_x=distance, kid_x=distance / 100)
        self.end()
