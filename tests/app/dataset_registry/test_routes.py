"""Laws of /datasets: an upload is stored once and unchanged, and a refused one leaves nothing behind."""

import contextlib
import errno
import io
import os
import socket
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select, text

from darkroom.app.cli.service_client import events
from darkroom.app.dataset_registry import decoding, progress_events, routes, service
from darkroom.app.dataset_registry import form as form_module
from darkroom.app.dataset_registry.progress_board import ProgressBoard
from darkroom.app.dataset_registry.request_body import Registration
from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.http import upload
from darkroom.app.http.event_stream import EVENT_STREAM
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import ImageDataset
from darkroom.model.datasets.registered import load_encoded, load_unchanged
from darkroom.model.progress import Pace
from darkroom.store.database import Database
from darkroom.store.dataset_repository import copy_encoded, get_dataset
from darkroom.store.tables import Artifact, ArtifactChunk, Dataset, IdempotencyKey
from tests.app.served import Service, picture, serving
from tests.app.test_refusals import assert_problem
from tests.fixtures.postgres import private_database
from tests.held_decoder import NEWS, TOTAL, HeldDecoder
from tests.processes import wait_until

LIMIT_BYTES = 300_000
BODY_LIMIT_BYTES = 20_000
ENTRIES = 200


class Posted:
    """The service, its database, the folder that it may read, and its folder for temporary files."""

    def __init__(self, service: Service, database: Database, root: Path, temporary: Path) -> None:
        self.service = service
        self.database = database
        self.root = root
        self.temporary = temporary

    def upload(self, content: bytes | Iterator[bytes], key: str | None = None, **query: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        fields = {"name": "clothes", "format": "zip"} | query
        return self.service.client.post("/v1/datasets", params=fields, content=content, headers=headers)

    def path(self, path: Path | str | None, key: str | None = None, **body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        fields = {"name": "clothes", "format": "folder", "path": None if path is None else str(path)} | body
        return self.service.client.post("/v1/datasets", json=fields, headers=headers)

    def kept(self) -> tuple[int, ...]:
        """Return the numbers of records that data sets leave in the database."""
        with self.database.session() as session:
            return tuple(
                session.scalar(select(func.count()).select_from(table)) or 0
                for table in (Dataset, Artifact, ArtifactChunk, IdempotencyKey)
            )

    def temporary_files(self) -> list[str]:
        """Return this process's temporary files, with and without names."""
        held = []
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                held.append(os.readlink(descriptor))
            except FileNotFoundError:  # closed meanwhile
                continue
        return [file for file in held if file.startswith(str(self.temporary))] + os.listdir(self.temporary)

    def on_a_worker(self, name: str, cache: Path) -> ImageDataset:
        """Open the data set as a worker does."""
        with self.database.session() as session:
            row = get_dataset(session, name)
            if row.configuration is not None:
                return load_unchanged(DatasetConfig.model_validate(row.configuration), row.digest, cache)
            return load_encoded(row.digest, lambda file: copy_encoded(session, row, file), cache)


@pytest.fixture(scope="module")
def served(
    weights: Path, postgres_server: PrivatePostgres, template_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Posted]:
    root, temporary = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("temporary")
    settings = {"dataset_limit_bytes": LIMIT_BYTES, "dataset_entries": ENTRIES, "dataset_roots": (root,)}
    settings |= {"body_limit_bytes": BODY_LIMIT_BYTES, "default_model": "tiny"}
    with private_database(postgres_server, template_name) as url:
        database = Database(url)
        with serving(weights, database_url=url, **settings) as service:
            wait_until(lambda: len(service.client.get("/v1/models").json()["models"]) == 2, "the weights registered")
            before, tempfile.tempdir = tempfile.tempdir, str(temporary)  # torch has created its temporary files by now
            try:
                yield Posted(service, database, root, temporary)
            finally:
                tempfile.tempdir = before
        database.dispose()


@pytest.fixture
def posted(served: Posted) -> Posted:
    """The service without data sets."""
    with served.database.session() as session:
        session.execute(text("TRUNCATE datasets, idempotency_keys CASCADE"))
        session.execute(text("DELETE FROM artifacts WHERE digest NOT IN (SELECT artifact_digest FROM checkpoints)"))
    return served


def _png(value: int, side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _zip(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


CLOTHES = _zip(("T-shirt/1.png", _png(1)), ("T-shirt/2.png", _png(2)), ("Größe/1.png", _png(3)))
OTHER = _zip(("T-shirt/1.png", _png(9)))
NOISE = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)


def test_an_uploaded_zip_is_there_as_it_was(posted: Posted, tmp_path: Path) -> None:
    answer = posted.upload(CLOTHES)
    assert answer.status_code == 201, answer.text
    described = answer.json()
    assert answer.headers["location"] == "/v1/datasets/clothes"
    assert posted.service.client.get(answer.headers["location"]).json() == described
    assert (described["name"], described["format"], described["source"]) == ("clothes", "zip", "upload")
    assert described["classes"] == [{"name": "Größe", "images": 1}, {"name": "T-shirt", "images": 2}]
    assert (described["images"], described["image_shape"], described["size_bytes"]) == (3, [3, 4, 4], 144)
    assert described["path"] is None
    dataset = posted.on_a_worker("clothes", tmp_path / "cache")
    assert dataset.digest == described["digest"]
    assert dataset.images[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert dataset.labels.tolist() == [0, 1, 1]
    sheet = posted.service.client.get(described["contact_sheet"])
    assert sheet.headers["content-type"] == "image/png"
    shown = posted.service.client.get("/v1/datasets/clothes/pictures")
    for file in (sheet, shown):
        again = posted.service.client.get(file.url, headers={"If-None-Match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    pixels = picture(sheet.content)
    assert pixels.shape == (2 * 6 + 2, 2 * 6 + 2, 3)
    assert [pixels[top, left, 0] for top, left in ((2, 2), (8, 2), (8, 8))] == [3, 1, 2]
    assert posted.temporary_files() == []


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_events_say_how_many_pictures_are_decoded_and_when_that_ends(
    posted: Posted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, clock = HeldDecoder(monkeypatch, tmp_path), _Clock()
    monkeypatch.setattr(progress_events, "Pace", lambda: Pace(clock))
    query, headers = {"name": "clothes", "format": "zip"}, {"Accept": EVENT_STREAM}
    told: list[tuple[int, float | None]] = []
    with posted.service.client.stream("POST", "/v1/datasets", params=query, content=CLOTHES, headers=headers) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"{EVENT_STREAM}; charset=utf-8")
        for event in events(answer):
            if event.kind == "progress" and event.data["what"] == "decoding pictures" and event.data["total"] == TOTAL:
                told.append((event.data["done"], event.data["eta_seconds"]))
                clock.now += 20.0
                decoder.go_on(event.data["done"])
    assert told == [(2, None), (6, 20.0)]  # four pictures took 20 seconds, and four are left
    assert event.kind == "done"
    assert event.data == posted.service.client.get("/v1/datasets/clothes").json()
    assert posted.temporary_files() == []


def test_an_upload_whose_client_leaves_ends_and_stores_nothing(
    posted: Posted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, stopped, stop = HeldDecoder(monkeypatch, tmp_path), threading.Event(), ProgressBoard.stop
    before = posted.kept()
    monkeypatch.setattr(ProgressBoard, "stop", lambda board: (stop(board), stopped.set()))
    query, headers = {"name": "clothes", "format": "zip"}, {"Accept": EVENT_STREAM}
    with posted.service.client.stream("POST", "/v1/datasets", params=query, content=CLOTHES, headers=headers) as answer:
        next(event for event in events(answer) if event.data.get("total") == TOTAL)
    assert stopped.wait(60.0)
    for done in NEWS:
        decoder.go_on(done)
    wait_until(lambda: posted.temporary_files() == [], "the files of the upload closed")
    assert posted.kept() == before


def test_an_upload_that_waits_gives_its_file_back_when_its_client_leaves(
    posted: Posted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, (first, second) = HeldDecoder(monkeypatch, tmp_path), ("first", "second")
    headers, read, received = {"Accept": EVENT_STREAM}, routes.read_upload, list[Registration]()

    async def received_too(*arguments: Any) -> Registration:
        received.append(await read(*arguments))
        return received[-1]

    monkeypatch.setattr(routes, "read_upload", received_too)

    def upload(name: str) -> contextlib.AbstractContextManager[httpx.Response]:
        query = {"name": name, "format": "zip"}
        return posted.service.client.stream("POST", "/v1/datasets", params=query, content=CLOTHES, headers=headers)

    try:
        with upload(first) as answer:
            next(event for event in events(answer) if event.data.get("total") == TOTAL)
            with upload(second) as waiting:
                coming = events(waiting)  # once it is collected, the client has left
                next(coming)
                file = received[1].file
                assert file is not None
                assert not file.closed
            wait_until(lambda: file.closed, "the waiting upload's file closed")
    finally:
        for done in NEWS:
            decoder.go_on(done)


def test_events_end_with_the_refusal_that_the_answer_would_be(posted: Posted) -> None:
    damaged = _zip(("T-shirt/1.png", _png(1)), ("T-shirt/2.png", b"no picture"))
    refused = posted.upload(damaged)
    query, headers = {"name": "clothes", "format": "zip"}, {"Accept": EVENT_STREAM}
    with posted.service.client.stream("POST", "/v1/datasets", params=query, content=damaged, headers=headers) as answer:
        *_, last = events(answer)
    assert (last.kind, last.data) == ("error", refused.json())
    assert posted.kept()[0] == 0
    unread = posted.service.client.post("/v1/datasets", content=damaged, headers=headers)  # before the events begin
    assert_problem(unread, 422)


def test_events_of_a_check_end_with_what_it_found(posted: Posted) -> None:
    posted.upload(CLOTHES)
    found = posted.service.client.get("/v1/datasets/clothes/check").json()
    with posted.service.client.stream("GET", "/v1/datasets/clothes/check", headers={"Accept": EVENT_STREAM}) as answer:
        *_, last = events(answer)
    assert (last.kind, last.data) == ("done", found)


def test_the_other_formats_are_taken(posted: Posted, tmp_path: Path, write_archives: dict[str, bytes]) -> None:
    for form, content in write_archives.items():
        answer = posted.upload(content, name=form, format=form.partition("-")[0], class_names=["a", "b"])
        assert answer.status_code == 201, answer.text
        assert [one["name"] for one in answer.json()["classes"]] == ["a", "b"]
        np.testing.assert_array_equal(posted.on_a_worker(form, tmp_path / "cache").images[:, 0], NOISE)
    assert len({dataset["digest"] for dataset in posted.service.client.get("/v1/datasets").json()["datasets"]}) == 1


@pytest.fixture
def write_archives() -> dict[str, bytes]:
    """NOISE in the formats without class names; both classes have ten images."""
    labels = np.arange(20) % 2
    idx = {
        "train-images-idx3-ubyte": b"\0\0\x08\x03" + np.array(NOISE.shape, ">i4").tobytes() + NOISE.tobytes(),
        "train-labels-idx1-ubyte": b"\0\0\x08\x01" + np.array([20], ">i4").tobytes() + bytes(labels.tolist()),
    }
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        for name, content in idx.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return {"npz": _npz(images=NOISE, labels=labels), "idx-zip": _zip(*idx.items()), "idx-tar": tar.getvalue()}


def test_image_size_and_split_are_followed(posted: Posted) -> None:
    mixed = _zip(("train/a/1.png", _png(1, 9)), ("train/a/2.png", _png(2, 30)), ("test/a/1.png", _png(3, 9)))
    assert posted.upload(mixed, image_size=8).json()["image_shape"] == [3, 8, 8]
    chosen = posted.upload(mixed, name="chosen").json()  # the median of the shorter sides, which are 9 and 30
    assert chosen["image_shape"] == [3, 9, 9]
    assert posted.upload(mixed, name="rest", split="test").json()["images"] == 1


def test_the_same_upload_again_is_harmless_and_other_content_is_a_conflict(posted: Posted) -> None:
    first = posted.upload(CLOTHES)
    kept = posted.kept()
    again = posted.upload(CLOTHES)
    assert (again.status_code, again.json()) == (200, first.json())
    problem = assert_problem(posted.upload(OTHER), 409)
    assert problem["existing"] == "/v1/datasets/clothes"
    assert posted.kept() == kept
    assert posted.upload(OTHER, name="others").status_code == 201
    assert posted.temporary_files() == []


def test_an_idempotency_key_creates_once(posted: Posted) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: posted.upload(CLOTHES, key="k"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.text for answer in answers}) == 1
    for other in (
        posted.upload(OTHER, key="k"),
        posted.upload(CLOTHES, key="k", name="others"),
        posted.path(None, key="k", format="digits"),
    ):
        assert assert_problem(other, 422)["type"] == "/docs/errors#idempotency-key-reused"
    assert posted.kept()[0] == 1
    assert_problem(posted.upload(b"no zip", key="failed"), 422)
    assert (
        posted.upload(OTHER, key="failed", name="later").status_code == 201
    )  # a failed request does not use up its key
    assert_problem(posted.upload(OTHER, key="a key"), 422)


@pytest.mark.parametrize("name", ["x", "x" * 100, "Größe & 鞋?#%", "a b", "...", "𝕏", "عربى"])
def test_every_name_has_an_address(posted: Posted, name: str) -> None:
    answer = posted.upload(OTHER, name=name)
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == name
    assert answer.headers["location"] == f"/v1/datasets/{quote(name, safe='')}"
    assert posted.service.client.get(answer.headers["location"]).json() == answer.json()
    assert posted.service.client.get(answer.json()["contact_sheet"]).status_code == 200


def test_names_that_look_equal_are_equal(posted: Posted) -> None:
    assert posted.upload(OTHER, name="Gro\u0308ße").json()["name"] == "Größe"
    assert posted.upload(OTHER, name="Größe").status_code == 200


@pytest.mark.parametrize("name", ["", "x" * 101, "a/b", "../x", "a\\b", ".", "..", " a", "a\n", "a\0", "\x1b[2J"])
def test_an_invalid_name_is_refused(posted: Posted, name: str) -> None:
    kept = posted.kept()
    for answer in (posted.upload(OTHER, name=name), posted.path(None, name=name, format="digits")):
        assert [error["pointer"].strip("/") for error in assert_problem(answer, 422)["errors"]] == ["name"]
    assert posted.kept() == kept


def test_pages_hold_every_data_set_once(posted: Posted) -> None:
    names = [f"set {number}" for number in range(5)]
    for name in names:
        posted.upload(OTHER, name=name)
    seen, after = [], {}
    while True:
        page = posted.service.client.get("/v1/datasets", params={"limit": 2} | after).json()
        seen += [dataset["name"] for dataset in page["datasets"]]
        if page["next_after"] is None:
            break
        after = {"after": page["next_after"]}
    assert seen == names
    for query in ("limit=0", "limit=x", "after=%00"):
        assert_problem(posted.service.client.get(f"/v1/datasets?{query}"), 422)


def test_an_unknown_data_set_is_404(posted: Posted) -> None:
    for address in ("/v1/datasets/none", "/v1/datasets/none/contact-sheet"):
        assert_problem(posted.service.client.get(address), 404)
    assert_problem(posted.service.client.get("/v1/datasets/%0a"), 422)


def _lying(content: bytes) -> bytes:
    """Return the archive with a false size for its entries: 1,000 bytes instead of 20 MB."""
    return content.replace((20 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little"))


def _encrypted(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[6] |= 1
    changed[changed.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def _link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


def _tar(header: tarfile.TarInfo, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    header.size = len(content)
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(header, io.BytesIO(content))
        archive.addfile(tarfile.TarInfo("last"))
    return buffer.getvalue()


def _tar_link() -> bytes:
    header = tarfile.TarInfo("data_batch_1")
    header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return _tar(header)


HOSTILE: dict[str, tuple[Callable[[], bytes], dict[str, str], str]] = {
    "bomb": (lambda: _zip(("a/1.png", bytes(100 << 20))), {}, "unpacks to 104857600 bytes"),
    "lying bomb": (lambda: _lying(_zip(("a/1.png", bytes(20 << 20)))), {}, "a/1.png: damaged or truncated"),
    "npz bomb": (
        lambda: _npz(images=np.zeros((100_000, 32, 32), np.uint8), labels=np.zeros(100_000, np.uint8)),
        {"format": "npz"},
        "unpacks to",
    ),
    "tar bomb": (lambda: _tar(tarfile.TarInfo("x"), bytes(100 << 20)), {"format": "cifar10"}, "unpacks to more than"),
    "picture bomb": (lambda: _zip(("a/1.png", _png(1, 10_001))), {}, "a/1.png: 10001x10001 pixels"),
    "foreign path": (lambda: _zip(("../../a/1.png", _png(1))), {}, "'../../a/1.png': not a plain relative name"),
    "absolute path": (lambda: _zip(("/etc/a/1.png", _png(1))), {}, "'/etc/a/1.png': not a plain relative name"),
    "foreign path in tar": (
        lambda: _tar(tarfile.TarInfo("../test_batch")),
        {"format": "cifar10"},
        "not a plain relative name",
    ),
    "link": (
        lambda: _zip(("a/1.png", _png(1)), (_link("a/2.png"), b"/etc/passwd")),
        {},
        "'a/2.png': a link or special file",
    ),
    "link in tar": (_tar_link, {"format": "cifar10"}, "'data_batch_1': a link"),
    "damaged picture": (lambda: _zip(("a/1.png", _png(1)[:45])), {}, "a/1.png: not a readable image"),
    "text as picture": (lambda: _zip(("a/1.png", b"hello")), {}, "a/1.png: not a readable image"),
    "wrong extension": (lambda: _zip(("a/1.exe", b"MZ")), {}, "a/1.exe: not a readable image"),
    "too many files": (
        lambda: _zip(*((f"a/{n}.png", b"") for n in range(ENTRIES + 1))),
        {},
        f"more than {ENTRIES} entries",
    ),
    "npz as zip": (lambda: _npz(images=NOISE, labels=np.zeros(20, int)), {}, "use format npz"),
    "zip as npz": (lambda: CLOTHES, {"format": "npz"}, "has no array called 'images'"),
    "zip as cifar10": (lambda: CLOTHES, {"format": "cifar10"}, "the archive: lacks"),
    "objects": (
        lambda: _npz(images=np.array([{}], dtype=object), labels=np.zeros(1, int)),
        {"format": "npz"},
        "an array of Python objects is refused",
    ),
    "truncated": (lambda: CLOTHES[:-30], {}, "not a readable zip archive, or truncated"),
    "truncated tar": (lambda: _tar(tarfile.TarInfo("x"), NOISE.tobytes())[:600], {"format": "stl10"}, "truncated"),
    "encrypted": (lambda: _encrypted(_zip(("a/1.png", _png(1)))), {}, "'a/1.png': encrypted"),
    "empty class": (lambda: _zip(("a/1.png", _png(1)), ("b/", b"")), {}, "b: a class without images"),
    "no class": (lambda: _zip(), {}, "holds no class folders"),
    "no archive": (lambda: b"hello", {}, "not a readable zip archive"),
    "nothing": (lambda: b"", {}, "not a readable zip archive"),
    "other names": (lambda: CLOTHES, {"class_names": "x"}, "not class_names x"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_or_faulty_upload_leaves_nothing_behind(posted: Posted, what: str) -> None:
    make, query, fault = HOSTILE[what]
    content = make()
    assert len(content) <= LIMIT_BYTES
    kept = posted.kept()
    problem = assert_problem(posted.upload(content, key="k", **query), 422)
    assert problem["type"] == "/docs/errors#dataset-unreadable"
    assert fault in problem["detail"]
    assert "/dev/" not in problem["detail"]
    assert posted.kept() == kept
    assert posted.temporary_files() == []


def test_a_killed_decoder_loses_nothing_and_the_service_goes_on(
    posted: Posted, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = posted.kept()
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "COMMAND", ("sh", "-c", "kill -KILL $$"))
        problem = assert_problem(posted.upload(CLOTHES, key="k"), 422)
    assert "was ended by SIGKILL; nothing was stored" in problem["detail"]
    assert posted.kept() == kept
    assert posted.temporary_files() == []
    assert posted.upload(CLOTHES, key="k").status_code == 201


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"format": "folder"}, "format"),
        ({"format": "digits"}, "format"),
        ({"format": None}, "format"),
        ({"name": None}, "name"),
        ({"split": "validation"}, "split"),
        ({"image_size": 3}, "image_size"),
        ({"image_size": "x"}, "image_size"),
        ({"image_size": 1025}, "image_size"),
        ({"class_names": ["a", ""]}, "class_names"),
        ({"path": "/etc"}, "path"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_faulty_query_is_named(posted: Posted, query: dict[str, Any], pointer: str) -> None:
    fields = {name: value for name, value in ({"name": "x", "format": "zip"} | query).items() if value is not None}
    answer = posted.service.client.post("/v1/datasets", params=fields, content=CLOTHES)
    assert [error["pointer"] for error in assert_problem(answer, 422)["errors"]] == [pointer]


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 10_000):
        yield content[start : start + 10_000]


def test_uploads_have_a_limit_of_their_own(posted: Posted) -> None:
    kept = posted.kept()
    over = bytes(LIMIT_BYTES + 1)
    for body in (over, _pieces(over)):
        assert f"larger than {LIMIT_BYTES}" in assert_problem(posted.upload(body), 413)["detail"]
    just = posted.upload(_zip(("a/1.png", _png(1)), ("a/.fill", os.urandom(LIMIT_BYTES - 400)), method=0))
    assert just.status_code == 201, just.text
    assert posted.kept() != kept
    kept = posted.kept()
    json_body = b'{"name": "' + b"x" * BODY_LIMIT_BYTES + b'"}'
    for path in ("/v1/datasets", "/v1/generate"):
        answer = posted.service.client.post(path, content=json_body, headers={"Content-Type": "application/json"})
        assert f"larger than {BODY_LIMIT_BYTES}" in assert_problem(answer, 413)["detail"]
    twice = [("Content-Type", "application/json"), ("Content-Type", "application/zip")]
    assert posted.service.client.post("/v1/datasets", content=json_body, headers=twice).status_code in (413, 422)
    assert posted.kept() == kept
    assert posted.temporary_files() == []


@pytest.mark.parametrize("address", ["/v1/datasets?name=x&format=zip", "/v1/datasets?name=x"])
def test_the_refusal_of_an_archive_in_a_form_says_what_to_send(posted: Posted, address: str) -> None:
    for names in (["clothes.ZIP"], ["clothes.zip", "more.npz"]):
        files = [("file", (name, CLOTHES)) for name in names]
        answer = posted.service.client.post(address, files=files, data={"format": "zip"})
        assert "--data-binary" in assert_problem(answer, 415)["detail"]
    assert posted.temporary_files() == []


def test_names_are_read_as_browsers_escape_them(posted: Posted) -> None:
    files = [("set/a/1.png", _png(1)), ("set/%22b%22/1.png", _png(2)), ("set/a/Icon%0D", b"no picture")]
    answer = posted.service.client.post("/v1/datasets", **_form(files, name="escaped"))
    assert answer.status_code == 201, answer.text
    assert answer.json()["left_out"]["junk"] == 1
    assert [one["name"] for one in answer.json()["classes"]] == ['"b"', "a"]


FOLDER = [("T-shirt/1.png", _png(1)), ("T-shirt/2.png", _png(2)), ("Größe/1.png", _png(3)), ("Thumbs.db", b"junk")]


def _form(files: list[tuple[str, bytes]], **fields: str | list[str]) -> dict[str, Any]:
    """Return the arguments of a form with a folder's files, as browsers send `webkitRelativePath`."""
    parts = [("files", (name, content, "application/octet-stream")) for name, content in files]
    return {"data": fields, "files": parts}


def test_the_files_of_a_folder_are_the_same_data_set_as_its_zip(posted: Posted, tmp_path: Path) -> None:
    post = posted.service.client.post
    wrapped = [(f"clothes/{name}", content) for name, content in FOLDER]
    answer = post("/v1/datasets", **_form(wrapped, name="form"), headers={"Idempotency-Key": "once"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["digest"] == posted.upload(CLOTHES).json()["digest"]
    assert answer.json()["left_out"] == {"junk": 1, "damaged": 0, "damaged_pictures": []}
    assert [one["name"] for one in answer.json()["classes"]] == ["Größe", "T-shirt"]
    again = post("/v1/datasets", **_form(wrapped, name="form"), headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()) == (200, answer.json())
    other = post("/v1/datasets", **_form(wrapped[1:], name="form"), headers={"Idempotency-Key": "once"})
    assert assert_problem(other, 422)["type"] == "/docs/errors#idempotency-key-reused"
    sized = post("/v1/datasets?image_size=8", **_form(FOLDER, name="sized", class_names=["Größe", "T-shirt"]))
    assert sized.json()["image_shape"] == [3, 8, 8]
    assert posted.on_a_worker("sized", tmp_path / "cache").images.shape == (3, 3, 8, 8)
    assert posted.temporary_files() == []


def _raw(content: bytes, query: str = "", start: bytes = b"--b\r\nContent-Disposition: form-data; ") -> dict[str, Any]:
    """Return the arguments of a form with this content, and of an address."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return {"content": start + content, "headers": headers, "url": f"/v1/datasets{query}"}


HOSTILE_FORMS: dict[str, tuple[dict[str, Any], int, str]] = {
    "foreign path": (_form([("../a/1.png", _png(1))], name="x"), 422, "not a plain relative name"),
    "absolute path": (_form([("/a/1.png", _png(1))], name="x"), 422, "not a plain relative name"),
    "twice": (_form([("a/1.png", _png(1)), ("a/1.png", _png(2))], name="x"), 422, "'a/1.png' occurs twice"),
    "too many": (_form([(f"a/{n}.png", b"") for n in range(ENTRIES + 1)], name="x"), 422, f"more than {ENTRIES} files"),
    "no name": (_form(FOLDER), 422, "name"),
    "faulty field": (_form(FOLDER, name="x", fit="squeeze"), 422, "fit"),
    "format": (_form(FOLDER, name="x", format="npz"), 422, "format"),
    "long field": (_form(FOLDER, name="x" * 5000), 422, "longer than 4096"),
    "deep": (_form([("a/" * 20 + "1.png", _png(1))], name="x"), 422, "folders deep"),
    "no files": (_raw(b'name="files"; filename=""\r\n\r\n\r\n--b--', "?name=x"), 422, "holds no class folders"),
    "no boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
    "no form": (_raw(b"", start=b"hello"), 400, "not a multipart form"),
    "truncated": (_raw(b'name="files"; filename="a/1.png"\r\n\r\nabc'), 400, "truncated"),
    "not UTF-8": (_raw(b'name="files"; filename="\xff/1.png"\r\n\r\n\r\n--b--'), 422, "not UTF-8"),
    "too large": (_form([("a/1.png", bytes(LIMIT_BYTES))], name="x"), 413, "larger than"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE_FORMS)
def test_a_hostile_or_faulty_form_leaves_nothing_behind(posted: Posted, what: str) -> None:
    request, status, fault = HOSTILE_FORMS[what]
    kept = posted.kept()
    problem = assert_problem(posted.service.client.post(**{"url": "/v1/datasets"} | request), status)
    assert fault in problem["detail"]
    assert posted.kept() == kept
    assert posted.temporary_files() == []


def test_all_damaged_pictures_are_listed_and_can_be_left_out(posted: Posted) -> None:
    damaged = [(f"a/{number:03}.png", b"no picture") for number in range(120)]
    content = _zip(("a/whole.png", _png(1)), ("a/notes.txt", b"text"), *damaged)
    kept = posted.kept()
    problem = assert_problem(posted.upload(content), 422)
    assert problem["damaged"] == 120
    assert [one[:23] for one in problem["damaged_pictures"]] == [f"the archive: a/{n:03}.png:" for n in range(120)]
    assert "skip_damaged" in problem["detail"]
    assert len(problem["detail"]) <= decoding.MESSAGE
    assert "/dev/" not in str(problem)
    assert " object at 0x" not in str(problem)
    assert posted.kept() == kept
    described = posted.upload(content, skip_damaged="true").json()
    assert (described["images"], described["left_out"]["junk"], described["left_out"]["damaged"]) == (1, 1, 120)
    assert described["left_out"]["damaged_pictures"] == problem["damaged_pictures"][:100]


def test_an_error_about_ten_pictures_is_whole(posted: Posted) -> None:
    damaged = [(f"shoes/picture {number}.jpg", b"no picture") for number in range(10)]
    detail = assert_problem(posted.upload(_zip(("shoes/whole.png", _png(1)), *damaged)), 422)["detail"]
    assert detail.count("its bytes have no known picture format") == 10
    assert detail.endswith("on the command line)")


def test_the_answer_says_which_split_is_used(posted: Posted) -> None:
    content = _zip(*((f"{split}/a/1.png", _png(value)) for value, split in enumerate(("Train", "test", "val"))))
    for split, used in (("train", "Train"), ("test", "test")):
        splits = posted.upload(content, name=split, split=split).json()["splits"]
        assert splits == [{"folder": one, "images": 1, "used": one == used} for one in ("Train", "test", "val")]


def test_fit_and_ground_are_followed(posted: Posted, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), (9, 9, 9)).save(buffer, "PNG")
    answer = posted.upload(_zip(("a/1.png", buffer.getvalue())), image_size=8, fit="pad", ground="#102030")
    assert answer.status_code == 201, answer.text
    image = posted.on_a_worker("clothes", tmp_path / "cache").images[0]
    assert image[:, 0, 0].tolist() == [16, 32, 48]
    assert image[:, 4, 0].tolist() == [9, 9, 9]
    assert assert_problem(posted.upload(CLOTHES, name="x", ground="red"), 422)["errors"][0]["pointer"] == "ground"


def test_pages_of_pictures_by_class(posted: Posted) -> None:
    posted.upload(CLOTHES)
    _write_classes(posted.root / "pictures", 7)
    posted.path(posted.root / "pictures", name="path")
    get = posted.service.client.get

    def values(name: str, **query: Any) -> list[int]:
        answer = get(f"/v1/datasets/{name}/pictures", params={"columns": 1} | query)
        assert answer.headers["content-type"] == "image/png", answer.text
        return [int(value) for value in picture(answer.content)[2::6, 2, 0]]

    assert values("clothes") == [3, 1, 2]
    assert values("clothes", **{"class": "T-shirt"}) == [1, 2]
    assert values("clothes", **{"class": "T-shirt", "offset": 1}) == [2]
    assert values("clothes", limit=1) == [3]
    assert values("clothes", index=[2, 0]) == [2, 3]
    assert values("path", **{"class": "b"}) == [7]
    assert posted.upload(_zip(("a/1.png", _png(5, 300))), name="large").status_code == 201
    large = get("/v1/datasets/large/pictures")
    assert picture(large.content).shape == (96 + 4, 96 + 4, 3)
    for query in ({"class": "none"}, {"offset": 3}, {"index": [3]}, {"index": [-1]}, {"limit": 0}):
        assert_problem(get("/v1/datasets/clothes/pictures", params=query), 422)
    (posted.root / "pictures" / "b" / "1.png").write_bytes(_png(8))
    assert "changed" in assert_problem(get("/v1/datasets/path/pictures"), 409)["detail"]
    for address in ("pictures", "check"):
        assert_problem(get(f"/v1/datasets/none/{address}"), 404)


def test_a_check_finds_repeated_flat_and_unequal_pictures(posted: Posted) -> None:
    images = np.random.default_rng(1).integers(0, 256, (45, 12, 12), dtype=np.uint8)
    images[44] = images[3]  # in another class
    images[5] = np.clip(images[6].astype(int) + 2, 0, 255)  # nearly the same
    images[7] = 90
    labels = np.repeat([0, 1], [42, 3])
    posted.upload(_npz(images=images, labels=labels, class_names=np.array(["a", "b"])), format="npz")
    posted.upload(_npz(images=images[8:10], labels=[0, 0], class_names=np.array(["a"])), name="test", format="npz")
    found = posted.service.client.get("/v1/datasets/clothes/check").json()
    groups = [[(one["index"], one["class"]) for one in group["pictures"]] for group in found["alike"]]
    assert groups == [[(3, "a"), (44, "b")], [(5, "a"), (6, "a")]]
    assert [group["identical"] for group in found["alike"]] == [True, False]
    assert [one["index"] for one in found["flat"]] == [7]
    assert (found["images"], found["alike_groups"], found["flat_count"]) == (45, 2, 1)
    text = " ".join(found["findings"])
    for words in (
        "a has 42 images, b 3",
        "look like another one: 2.",
        "more than one class: 1.",
        "one colour only: 1.",
    ):
        assert words in text
    across = posted.service.client.get("/v1/datasets/clothes/check", params={"against": "test"}).json()
    shared = [group["pictures"] for group in across["alike"] if group["both_datasets"]]
    assert [[(one["dataset"], one["index"]) for one in group] for group in shared] == [
        [("clothes", 8), ("test", 0)],
        [("clothes", 9), ("test", 1)],
    ]
    assert "Pictures that are also in test: 2." in " ".join(across["findings"])


def test_a_client_that_leaves_while_it_sends_leaves_nothing(posted: Posted) -> None:
    kept = posted.kept()
    address = httpx.URL(posted.service.url)
    for head in (b"Content-Length: 200000", b"Transfer-Encoding: chunked"):
        with socket.create_connection((address.host, address.port)) as connection:
            request = b"POST /v1/datasets?name=x&format=zip HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n"
            connection.sendall(request + (b"%x\r\n" % 90_000 if b"chunked" in head else b""))
            connection.sendall(bytes(80_000))
            wait_until(lambda: posted.temporary_files() != [], "the upload has begun")
        wait_until(lambda: posted.temporary_files() == [], "the upload is forgotten")
    assert posted.kept() == kept
    assert posted.service.client.get("/healthz").status_code == 200


class _FullFile:
    """A temporary file on a full disk."""

    def __init__(self) -> None:
        self._file = io.BytesIO()

    def __enter__(self) -> "_FullFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("full", [1, 2])
def test_a_full_disk_is_507(posted: Posted, monkeypatch: pytest.MonkeyPatch, full: int) -> None:
    """The first temporary file holds the upload, the second its encoding, which another process writes."""
    made = 0

    def make() -> BinaryIO | _FullFile:
        nonlocal made
        made += 1
        if made != full:
            return tempfile.TemporaryFile()
        return _FullFile() if full == 1 else open("/dev/full", "r+b", buffering=0)

    for module in (upload, service):
        monkeypatch.setattr(module, "TemporaryFile", make)
    kept = posted.kept()
    problem = assert_problem(posted.upload(CLOTHES), 507)
    assert problem["type"] == "/docs/errors#storage-full"
    assert made == full
    assert posted.kept() == kept
    assert posted.temporary_files() == []


def test_a_disk_that_is_too_full_for_a_form_is_507(posted: Posted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_module, "TemporaryFile", _FullFile)
    kept = posted.kept()
    problem = assert_problem(posted.service.client.post("/v1/datasets", **_form(FOLDER, name="x")), 507)
    assert problem["type"] == "/docs/errors#storage-full"
    assert posted.kept() == kept
    assert posted.temporary_files() == []


def _write_classes(folder: Path, value: int = 5) -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").write_bytes(_png(value))
    return folder


def test_a_path_is_registered_and_read_where_it_is(posted: Posted, tmp_path: Path) -> None:
    folder = _write_classes(posted.root / "here")
    (posted.root / "link").symlink_to(folder)
    answer = posted.path(posted.root / "link")
    assert answer.status_code == 201, answer.text
    described = answer.json()
    assert (described["source"], described["path"], described["images"]) == ("path", str(folder), 2)
    assert posted.on_a_worker("clothes", tmp_path / "cache").digest == described["digest"]
    assert posted.service.client.get(described["contact_sheet"]).status_code == 200
    again = posted.path(folder)
    assert (again.status_code, again.json()) == (200, described)
    assert posted.kept()[1] == 3  # two weights files and the contact sheet, but no images
    (folder / "b" / "1.png").write_bytes(_png(6))
    assert_problem(posted.path(folder), 409)
    with pytest.raises(ValueError, match="changed since it was registered"):
        posted.on_a_worker("clothes", tmp_path / "cache")


def test_the_bundled_digits_need_no_path(posted: Posted, tmp_path: Path) -> None:
    answer = posted.path(None, name="digits", format="digits")
    assert answer.status_code == 201, answer.text
    assert (answer.json()["images"], answer.json()["path"]) == (1500, None)
    assert posted.on_a_worker("digits", tmp_path / "cache").digest == answer.json()["digest"]


def test_paths_that_lead_out_of_the_roots_are_refused(posted: Posted, tmp_path: Path) -> None:
    outside = _write_classes(tmp_path / "outside")
    inside = _write_classes(posted.root / "partly")
    (posted.root / "way out").symlink_to(outside)
    (posted.root / "circle").symlink_to(posted.root / "circle")
    (inside / "a" / "2.png").symlink_to(outside / "a" / "1.png")
    kept = posted.kept()
    for path in (
        outside,
        posted.root / ".." / outside.name,
        posted.root / "way out",
        posted.root / "circle",
        inside,
        Path("relative"),
        "/",
        str(posted.root) + "-more",
    ):
        problem = assert_problem(posted.path(path), 422)
        assert [error["pointer"] for error in problem["errors"]] == ["/path"], problem
        assert str(posted.root) in problem["detail"]
    for path in (posted.root / "nothing", posted.root):
        assert assert_problem(posted.path(path), 422)["type"] == "/docs/errors#dataset-unreadable"
    assert posted.kept() == kept


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": 3}, "/name"),
        ({"path": "/a\0b"}, "/path"),
        ({"path": ""}, "/path"),
        ({"path": None}, "/path"),
        ({"format": "digits"}, "/path"),
        ({"format": "tar"}, "/format"),
        ({"image_size": "32"}, "/image_size"),
        ({"class_names": "ab"}, "/class_names"),
        ({"class_names": ["a", 1]}, "/class_names/1"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_a_faulty_body_is_named(posted: Posted, change: dict[str, Any], pointer: str) -> None:
    body = {"name": "x", "format": "folder", "path": str(posted.root)} | change
    problem = assert_problem(posted.service.client.post("/v1/datasets", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"\xff", 400), (b"[" * 5000, 400), (b"3", 422), (b"[]", 422), (b"", 400)]
)
def test_a_body_that_is_no_request_is_refused(posted: Posted, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    assert_problem(posted.service.client.post("/v1/datasets", content=body, headers=headers), status)
    with_query = posted.service.client.post("/v1/datasets?name=x", json={"name": "x", "format": "digits"})
    assert [error["pointer"] for error in assert_problem(with_query, 422)["errors"]] == ["name"]


def test_every_status_is_documented(posted: Posted) -> None:
    document = posted.service.client.get("/openapi.json").json()
    paths = document["paths"]
    assert {"/v1/datasets", "/v1/datasets/{name}", "/v1/datasets/{name}/contact-sheet"} <= set(paths)
    post = paths["/v1/datasets"]["post"]
    assert {"200", "201", "400", "409", "413", "415", "422", "503", "507"} <= set(post["responses"])
    assert {parameter["name"] for parameter in post["parameters"]} == {
        "name", "format", "split", "image_size", "fit", "ground", "skip_damaged", "class_names", "Idempotency-Key"
    }  # fmt: skip
    put = paths["/v1/datasets/{name}"]["put"]
    assert {parameter["name"] for parameter in put["parameters"]} == {
        "name", "format", "split", "image_size", "fit", "ground", "skip_damaged", "class_names"
    }  # fmt: skip
    for one, of_address in ((post, set()), (put, {"name"})):
        forms = one["requestBody"]["content"]
        assert set(forms) == {"application/octet-stream", "multipart/form-data", "application/json"}
        fields = {"name", "split", "image_size", "fit", "ground", "skip_damaged", "class_names"} - of_address
        for media, more in (("multipart/form-data", {"files"}), ("application/json", {"format", "path"})):
            component = forms[media]["schema"]["$ref"].rpartition("/")[2]
            assert set(document["components"]["schemas"][component]["properties"]) == fields | more


def test_while_the_database_is_away_no_upload_is_received(weights: Path) -> None:
    with socket.socket() as bound:  # the port is bound, but nothing listens on it
        bound.bind(("127.0.0.1", 0))
        url = f"postgresql://nobody@127.0.0.1:{bound.getsockname()[1]}/none"
        for settings in ({"database_url": url}, {}):
            with serving(weights, default_model="tiny", **settings) as service:
                for answer in (
                    service.client.post("/v1/datasets?name=x&format=zip", content=CLOTHES),
                    service.client.post("/v1/datasets", json={"name": "x", "format": "digits"}),
                    service.client.get("/v1/datasets"),
                    service.client.get("/v1/datasets/x"),
                    service.client.get("/v1/datasets/x/contact-sheet"),
                ):
                    assert_problem(answer, 503)
                    assert int(answer.headers["retry-after"]) >= 1


def test_the_roots_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().dataset_roots == (Path("/usr/share/datasets"),)
    monkeypatch.setenv("DARKROOM_DATASET_ROOTS", "/data:/mnt/sets")
    assert Settings().dataset_roots == (Path("/data"), Path("/mnt/sets"))
    monkeypatch.setenv("DARKROOM_DATASET_ROOTS", "")
    assert Settings().dataset_roots == ()
