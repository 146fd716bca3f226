"""Laws of data sets and of idempotency keys."""

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from darkroom.model.config import DatasetConfig
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.dataset_repository import (
    DatasetConflict,
    DatasetFacts,
    DatasetNotFound,
    Registered,
    copy_encoded,
    find_configured,
    get_dataset,
    get_dataset_by_id,
    list_datasets,
    register_dataset,
)
from darkroom.store.idempotency import IdempotencyKeyReused, purge_idempotency_keys, remember, settle
from darkroom.store.tables import Artifact, Dataset, IdempotencyKey


def _facts(digest: str = "sha256:1") -> DatasetFacts:
    return DatasetFacts("zip", digest, ("a", "Größe"), (3, 4), image_channels=3, image_size=32)


def _upload(session: Session, name: str = "clothes", digest: str = "sha256:1", data: bytes = b"data") -> Registered:
    return register_dataset(session, name, _facts(digest), io.BytesIO(data), b"png")


def _count(session: Session, table: type) -> int | None:
    return session.scalar(select(func.count()).select_from(table))


def test_an_upload_is_read_back(database: Database) -> None:
    with database.session() as session:
        assert _upload(session).created
    with database.session() as session:
        row = get_dataset(session, "clothes")
        assert get_dataset_by_id(session, row.id) is row
        assert (row.format, row.digest, row.class_names) == ("zip", "sha256:1", ["a", "Größe"])
        assert (row.class_counts, row.image_count, row.image_channels, row.image_size) == ([3, 4], 7, 3, 32)
        assert row.configuration is None
        assert Artifacts(session).get(row.contact_sheet_digest) == b"png"
        copy = io.BytesIO()
        copy_encoded(session, row, copy)
        assert copy.getvalue() == b"data"
        with pytest.raises(DatasetNotFound, match="'other'"):
            get_dataset(session, "other")


def test_a_path_keeps_how_to_read_it_and_no_bytes(session: Session) -> None:
    config = DatasetConfig(format="idx", path=Path("/data/größe"), split="test", image_size=32, class_names=("a", "b"))
    row = register_dataset(session, "clothes", _facts(), config, b"png").dataset
    session.expire_all()
    assert DatasetConfig.model_validate(row.configuration) == config
    assert row.artifact_digest is None
    with pytest.raises(ValueError, match="is a path"):
        copy_encoded(session, row, io.BytesIO())


def test_a_path_is_found_by_how_it_is_read_also_if_it_was_registered_before_there_were_newer_fields(
    session: Session,
) -> None:
    config = DatasetConfig(format="idx", path=Path("/data"))
    row = register_dataset(session, "clothes", _facts(), config, b"png").dataset
    kept = {name: value for name, value in (row.configuration or {}).items() if name not in ("fit", "ground")}
    row.configuration = kept
    session.flush()
    assert find_configured(session, config) is row
    for other in ({"fit": "pad"}, {"path": Path("/other")}, {"path": None}):
        assert find_configured(session, config.model_copy(update=other)) is None
    corrected = register_dataset(session, "clothes", _facts("sha256:2"), config, b"png", replace=True).dataset
    session.expire_all()
    assert (row.name, row.replaced_by, find_configured(session, config)) == ("clothes@1", corrected.id, corrected)


def test_an_earlier_version_of_a_long_name_has_a_name_of_allowed_length(session: Session) -> None:
    first = _upload(session, name="x" * 100).dataset
    register_dataset(session, "x" * 100, _facts("sha256:2"), io.BytesIO(b"other"), b"png", replace=True)
    assert first.name == "x" * 98 + "@1"


def test_the_same_content_again_is_harmless_and_other_content_a_conflict(session: Session) -> None:
    first = _upload(session)
    again = _upload(session, data=b"written otherwise")
    assert (again.created, again.dataset.id) == (False, first.dataset.id)
    with pytest.raises(DatasetConflict, match="'clothes' exists with other pictures: replace it"):
        _upload(session, digest="sha256:2", data=b"other")
    assert _upload(session, name="shoes").created  # a second name for the same content, and the same bytes
    assert _count(session, Dataset) == 2
    assert _count(session, Artifact) == 2  # the data and the contact sheet


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_of_no_or_too_many_characters_is_refused(session: Session, name: str) -> None:
    with pytest.raises(IntegrityError), session.begin_nested():
        _upload(session, name)


def _at_once(*works: Callable[[], object]) -> list[object]:
    """Start all works together; returns their results or errors."""
    start = threading.Barrier(len(works))
    results: list[object] = [None] * len(works)

    def run(place: int, work: Callable[[], object]) -> None:
        start.wait()
        try:
            results[place] = work()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_simultaneous_registrations_one_is_created(database: Database) -> None:
    def register(digest: str) -> Callable[[], bool]:
        def work() -> bool:
            with database.session() as session:
                return _upload(session, digest=digest, data=digest.encode()).created

        return work

    results = _at_once(*[register("sha256:1")] * 4)
    assert sorted(map(str, results)) == ["False", "False", "False", "True"]
    results = _at_once(*[register(f"sha256:{number}") for number in (1, 2, 3)])
    assert results[0] is False
    assert [type(result) for result in results[1:]] == [DatasetConflict] * 2


def test_pages_hold_every_data_set_once(session: Session) -> None:
    names = [f"set {number:02d}" for number in range(7)]
    for name in reversed(names):
        _upload(session, name)
    seen: list[str] = []
    after: str | None = None
    while True:
        page = list_datasets(session, after, limit=3)
        seen += [dataset.name for dataset in page.datasets]
        after = page.next_after
        if after is None:
            break
    assert seen == names
    assert list_datasets(session, names[3], limit=3).next_after is None
    with pytest.raises(ValueError, match="at least 1"):
        list_datasets(session, limit=0)


def test_the_repositories_cost_no_numpy() -> None:
    """The supervisor imports the repositories, and must need little memory."""
    heavy = "[name for name in ('numpy', 'torch', 'PIL') if name in sys.modules]"
    code = f"import sys, store.dataset_repository, store.idempotency; print({heavy})"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_key_gives_back_what_it_created(database: Database) -> None:
    with database.session() as session:
        assert remember(session, "POST /a", "k", "digest") is None
        settle(session, "POST /a", "k", 17)
    with database.session() as session:
        assert remember(session, "POST /a", "k", "digest") == 17
        assert remember(session, "POST /b", "k", "other") is None  # the same key in another scope is another key
        with pytest.raises(IdempotencyKeyReused, match="'k'"):
            remember(session, "POST /a", "k", "other")


def test_a_key_whose_transaction_failed_is_new(database: Database) -> None:
    def fail() -> None:
        with database.session() as session:
            remember(session, "POST /a", "k", "digest")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.session() as session:
        assert remember(session, "POST /a", "k", "other") is None


def test_simultaneous_requests_of_one_key_create_once(database: Database) -> None:
    def create() -> int:
        with database.session() as session:
            known = remember(session, "POST /datasets", "k", "digest")
            if known is not None:
                return known
            row = _upload(session, f"set {threading.get_ident()}").dataset
            settle(session, "POST /datasets", "k", row.id)
            return row.id

    results = _at_once(*[create] * 4)
    assert len(set(map(str, results))) == 1
    with database.session() as session:
        assert _count(session, Dataset) == 1
        assert session.scalars(select(Dataset.id)).one() == results[0]


def test_keys_expire_after_a_day(session: Session) -> None:
    for key, hours in (("old", 25), ("older", 30), ("young", 23)):
        remember(session, "POST /a", key, "digest")
        settle(session, "POST /a", key, 17)
        session.execute(
            update(IdempotencyKey)
            .where(IdempotencyKey.key == key)
            .values(created_at=func.now() - timedelta(hours=hours))
        )
    assert remember(session, "POST /a", "young", "digest") == 17
    assert remember(session, "POST /a", "old", "other") is None  # an expired key is a new key
    settle(session, "POST /a", "old", 18)
    assert purge_idempotency_keys(session) == 1
    assert remember(session, "POST /a", "old", "other") == 18
    assert sorted(session.scalars(select(IdempotencyKey.key))) == ["old", "young"]


def test_contact_sheet_and_data_are_kept_by_the_row(session: Session) -> None:
    row = _upload(session).dataset
    for digest in (row.artifact_digest, row.contact_sheet_digest):
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(delete(Artifact).where(Artifact.digest == digest))
    assert Artifacts(session).get(row.contact_sheet_digest) == b"png"
