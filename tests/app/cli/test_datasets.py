"""Laws of `darkroom datasets` and `upload`: a folder arrives as a data set, which is then listed, renamed, deleted."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.app.cli import transfer
from darkroom.app.cli.terminal import open_console
from darkroom.app.cli.transfer import upload_folder
from darkroom.model.datasets.registered import load_encoded
from darkroom.model.progress import counted
from darkroom.progress import COUNT, Meter, Number
from darkroom.store.database import Database
from darkroom.store.dataset_repository import copy_encoded, get_dataset
from tests.app.cli.calls import Run, refused, run_on
from tests.app.served import Service, serving
from tests.app.training import add_dataset, claim, end
from tests.held_decoder import TOTAL, HeldDecoder

STRANGE = "[bold]Größe 形"


@pytest.fixture
def service(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving(tmp_path, wait_until_ready=False, database_url=database_url, dataset_limit_bytes=100_000) as service:
        yield service


@pytest.fixture
def run(service: Service) -> Run:
    return run_on(service)


def _pictures(folder: Path, side: int = 8) -> Path:
    for label, name in enumerate(("a", "Größe")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((side, side, 3), (10 * label + number, 0, 0), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / ".hidden").write_text("a file that is no picture")
    return folder


def test_an_uploaded_folder_is_listed_renamed_and_deleted(run: Run, database: Database, tmp_path: Path) -> None:
    assert run("datasets", "list").output == "No data sets.\n"
    folder = _pictures(tmp_path / "clothes")
    result = run("upload", folder)
    assert result.exit_code == 0, result.output
    assert result.output == "Data set clothes: 6 images of 2 classes, 8x8 pixels\n"
    with database.session() as session:
        row = get_dataset(session, "clothes")
        dataset = load_encoded(row.digest, lambda file: copy_encoded(session, row, file), tmp_path / "cache")
    assert dataset.class_names == ("Größe", "a")
    assert dataset.images[:, 0, 0, 0].tolist() == [10, 11, 12, 0, 1, 2]

    assert run("upload", folder, "--name", STRANGE, "--image-size", 4).exit_code == 0
    assert run("datasets", "rename", "clothes", "small clothes").output == "Data set clothes is now small clothes\n"
    lines = run("datasets", "list").output.splitlines()
    assert len(lines) == 3  # in a pipe each data set has one line, however narrow the window is
    assert STRANGE in lines[1]
    assert "4x4 colour" in lines[1]
    assert "small clothes" in lines[2]
    assert "8x8 colour" in lines[2]
    assert run("datasets", "keep", STRANGE).exit_code == 0
    refused(run("datasets", "delete", STRANGE), "is marked to be kept")
    assert run("datasets", "keep", STRANGE, "--off").exit_code == 0
    assert run("datasets", "delete", STRANGE, "--dry-run").output.endswith("can be deleted: nothing hangs on it.\n")
    assert run("datasets", "delete", STRANGE).output == f"Data set {STRANGE} is deleted\n"
    assert len(run("datasets", "list").output.splitlines()) == 2


def test_an_upload_says_how_many_pictures_the_service_has_decoded(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held := tmp_path / "held").mkdir()
    decoder, told = HeldDecoder(monkeypatch, held), list[str]()

    @contextmanager
    def noted(console: object) -> Iterator[Meter]:
        def meter(what: str, done: int = 0, total: int | None = None, number: Number = COUNT) -> None:
            told.append(counted(what, done, total, number))
            if total == TOTAL:
                decoder.go_on(done)

        yield meter

    monkeypatch.setattr(transfer, "progress", noted)
    upload_folder(service.url, _pictures(tmp_path / "clothes"), "clothes", {}, open_console())
    assert re.fullmatch(r"uploading: (\d+ bytes) of \1", told[6])  # after the last of six files
    assert [line for line in told if line.endswith(f"of {TOTAL}")] == [
        "decoding pictures: 2 of 10",
        "decoding pictures: 6 of 10",
    ]


def test_what_is_left_out_is_said_and_a_corrected_folder_replaces_the_data_set(run: Run, tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "clothes" / "train").parent
    _pictures(folder / "val")
    (folder / "train" / "a" / "0.png").write_bytes(b"no picture")
    (folder / "train" / "a" / "Thumbs.db").write_bytes(b"junk")
    (folder / "train" / "a" / "1.png").write_bytes(b"nor this")
    refused(run("upload", folder), "train/a/0.png: not a readable", "train/a/1.png: not a readable", "skip_damaged")
    Image.new("RGB", (8, 8)).save(folder / "train" / "a" / "1.png")
    lines = run("upload", folder, "--skip-damaged", "--fit", "pad", "--ground", "#000000").output.splitlines()
    assert lines[:2] == [
        "Data set clothes: 5 images of 2 classes, 8x8 pixels",
        "Left out because they are no pictures: 1",
    ]
    assert lines[2].startswith(
        "Left out because they cannot be read: 1, such as the archive: train/a/0.png: not a readable"
    )
    assert lines[3] == "Left out because they are in val: 6; --split chooses"
    assert "Classes with fewer than 20 images: a (2), Größe (3)." in run("datasets", "check", "clothes").output
    refused(run("upload", folder, "--split", "test"), "exists")
    assert run("upload", folder, "--split", "test", "--replace").output.startswith("Data set clothes: 6 images")
    checked = run("datasets", "check", "clothes", "--against", "clothes@1").output
    assert "Pictures that have one colour only: 6." in checked
    assert "flat   clothes 5 (a)" in checked


def test_a_folder_without_class_folders_is_one_class(run: Run, tmp_path: Path) -> None:
    flat = _pictures(tmp_path / "clothes") / "a"
    assert run("upload", flat, "--name", "flat").output.startswith("Data set flat: 3 images of 1 class,")


def test_linked_folders_are_sent_and_pipes_are_not(run: Run, service: Service, tmp_path: Path) -> None:
    elsewhere = _pictures(tmp_path / "elsewhere")
    folder = tmp_path / "linked"
    folder.mkdir()
    for name in ("first", "second"):
        (folder / name).symlink_to(elsewhere / "a")
    os.mkfifo(elsewhere / "a" / "pipe.png")
    assert run("upload", folder).exit_code == 0
    classes = service.client.get("/v1/datasets/linked").json()["classes"]
    assert classes == [{"name": "first", "images": 3}, {"name": "second", "images": 3}]


def test_a_list_longer_than_a_page_is_complete(run: Run, database: Database) -> None:
    for number in range(201):
        add_dataset(database, f"shapes {number}")
    lines = run("datasets", "list").output.splitlines()[1:]
    assert {line.partition("  ")[0] for line in lines} == {f"shapes {number}" for number in range(201)}


def test_a_data_set_in_use_is_deleted_with_force_only(run: Run, database: Database) -> None:
    add_dataset(database)
    run("jobs", "submit", "digits", "--dataset", "shapes")
    refused(run("datasets", "delete", "shapes", "--force"), "train-jobs/1 (queued)")
    end(database, claim(database))
    refused(run("datasets", "delete", "shapes"), "train-jobs/1 (succeeded)", "force")
    assert run("datasets", "delete", "shapes", "--force").exit_code == 0
    assert run("datasets", "list").output == "No data sets.\n"


def test_a_folder_that_cannot_be_sent_isrefused(run: Run, tmp_path: Path) -> None:
    refused(run("upload", tmp_path / "none"), "none", "is not a folder")
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    (tmp_path / "empty" / ".git" / "config").write_text("hidden")
    refused(run("upload", tmp_path / "empty"), "holds no files")
    refused(run("datasets", "delete", "none"), "'none'")
    refused(run("datasets", "rename", "none", "new"), "'none'")
    folder = tmp_path / "latin-1" / "a"
    folder.mkdir(parents=True)
    (folder / os.fsdecode("Größe.png".encode("latin-1"))).write_bytes(b"")
    refused(run("upload", folder.parent), "is not UTF-8", "Gr\\udcf6")
    damaged = _pictures(tmp_path / "damaged")
    (damaged / "a" / "0.png").write_bytes(b"no picture")
    refused(run("upload", damaged), "0.png")
    large = _pictures(tmp_path / "large")
    (large / "a" / "9.png").write_bytes(bytes(200_000))
    refused(run("upload", large), "100000 bytes")
    assert run("datasets", "list").output == "No data sets.\n"
