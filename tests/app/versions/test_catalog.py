"""Laws of the catalog: the meaning of names, behaviour in faults, and the order in which versions leave memory."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from sqlalchemy import delete, update

import darkroom.app.versions.catalog
import darkroom.app.versions.stored
import darkroom.model.checkpoint
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.versions.catalog import MAIN_MODEL, Catalog
from darkroom.app.versions.version import UnknownModel, Version
from darkroom.model.checkpoint import CheckpointError
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.diffusion.fixed_shapes import FixedShapes
from darkroom.model.digest import digest_of
from darkroom.model.machine.compiler import compiler_works
from darkroom.store.aliases import set_alias
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database, DatabaseAway
from darkroom.store.model_repository import PRODUCTION, VersionCollected
from darkroom.store.tables import ArtifactChunk, Checkpoint, ModelAlias
from tests.app.served import DIVERGED, diverged_weights, store_weights, tiny_weights, weights_folder


@asynccontextmanager
async def opened(
    weights: Path, database: Database | None = None, *, default: str | None = None, versions: int = 4
) -> AsyncIterator[tuple[Catalog, Engine]]:
    """A catalog over a running engine, with the folder's weights loaded."""
    engine = Engine(EngineLimits(batch_rows=2, versions=versions))
    engine.start()
    try:
        catalog = Catalog(engine, database, device=torch.device("cpu"), default=default)
        await catalog.open(weights)
        yield catalog, engine
    finally:
        engine.stop(0.0)


async def test_the_default_is_the_first_shipped_model_unless_the_setting_names_another(tmp_path: Path) -> None:
    weights = weights_folder(tmp_path, beta=1, alpha=2)
    async with opened(weights) as (catalog, _):
        assert catalog.ready
        assert (await catalog.find(None)).name == "alpha"
    async with opened(weights, default="beta") as (catalog, engine):
        found = await catalog.find(None)
        assert found.name == "beta"
        assert found.digest == digest_of(tiny_weights("beta", 1))
        assert found.digest in engine.status().resident
    shipped = weights_folder(tmp_path / "shipped", **{"emoji": 1, MAIN_MODEL: 2})
    async with opened(shipped) as (catalog, _):
        assert (await catalog.find(None)).name == MAIN_MODEL


async def test_a_damaged_file_is_named_and_the_others_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = weights_folder(tmp_path, good=1)
    (weights / "cut.safetensors").write_bytes(tiny_weights("cut")[:-10])
    (weights / "text.safetensors").write_text("not weights")
    with caplog.at_level(logging.ERROR):
        async with opened(weights) as (catalog, _):
            assert catalog.ready
            assert (await catalog.find("good")).name == "good"
            with pytest.raises(UnknownModel, match="models in production: good"):
                await catalog.find("cut")
    assert "cut.safetensors" in caplog.text
    assert "text.safetensors" in caplog.text


@pytest.mark.parametrize("factor", DIVERGED.values(), ids=DIVERGED)
async def test_weights_that_are_not_finite_are_never_served(
    factor: float, tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Such weights are not served as a file, as production or by their number."""
    weights = weights_folder(tmp_path, tiny=0)
    (weights / "broken.safetensors").write_bytes(diverged_weights("broken", factor))
    with caplog.at_level(logging.ERROR):
        async with opened(weights, database) as (catalog, engine):
            assert "shipped weights are not served" in caplog.text
            broken = store_weights(database, diverged_weights("tiny", factor), "trained")
            _point(database, "tiny", broken)
            await catalog.look()
            assert (await catalog.find("tiny")).digest == digest_of(tiny_weights("tiny", 0))
            assert "production of tiny cannot be loaded; the earlier version stays served" in caplog.text
            assert "not finite" in caplog.text
            with pytest.raises(CheckpointError, match="not finite"):
                await catalog.ensure_loaded(await catalog.find("tiny@2"))
            assert list(engine.status().resident) == [digest_of(tiny_weights("tiny", 0))]


async def test_a_model_that_does_not_run_is_named_and_the_others_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_folder(tmp_path, broken=1, good=2)
    load = Engine.load

    def broken(engine: Engine, version: str, denoiser: Denoiser) -> Future[None]:
        monkeypatch.setattr(Engine, "load", load)  # only the first one is broken
        denoiser.network = lambda x, t, labels: x[:, :0]
        return load(engine, version, denoiser)

    monkeypatch.setattr(Engine, "load", broken)
    with caplog.at_level(logging.ERROR):
        async with opened(weights) as (catalog, _):
            assert catalog.ready
            assert (await catalog.find(None)).name == "good"
    assert "broken sha256:" in caplog.text
    assert "does not run" in caplog.text


async def test_a_device_that_is_lost_in_a_load_ends_the_engine_and_its_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later call would fail, too. Without this, an idle service would look healthy until its next drawing."""
    told = threading.Event()
    engine = Engine(EngineLimits(batch_rows=2), on_failure=told.set)
    engine.start()

    def lost(*arguments: object) -> Denoiser:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(darkroom.model.checkpoint.Checkpoint, "denoiser", lost)
    await Catalog(engine, None, device=torch.device("cpu"), default=None).open(weights_folder(tmp_path, tiny=1))
    assert await asyncio.to_thread(told.wait, 60)
    engine.stop(0.0)
    assert not engine.alive


async def test_a_version_compiles_before_the_engine_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    own = darkroom.model.checkpoint.Checkpoint.denoiser

    def fixed(*arguments: Any) -> Denoiser:
        denoiser = own(*arguments)
        network = denoiser.network

        def watched(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            threads.append(threading.current_thread().name)
            return network(x, t, labels)

        denoiser.network = FixedShapes(watched)
        return denoiser

    monkeypatch.setattr(darkroom.model.checkpoint.Checkpoint, "denoiser", fixed)
    async with opened(weights_folder(tmp_path, tiny=1)) as (catalog, _):
        assert catalog.ready
    ahead = threads.index("engine")
    assert ahead == 2 * 2  # two sizes, with classes and with mixtures
    assert set(threads[ahead:]) == {"engine"}


async def test_a_snapshot_is_warmed_up_as_the_network_is_and_counts_as_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carrying.safetensors").write_bytes(tiny_weights("carrying", snapshot_seed=4))
    load, calls = Engine.load, [0, 0]

    def counting(number: int, network: Network) -> Network:
        def counted(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            calls[number] += 1
            return network(x, t, labels)

        return counted

    def counted_load(engine: Engine, version: str, denoiser: Denoiser) -> Future[None]:
        assert denoiser.snapshot is not None
        denoiser.network, denoiser.snapshot = counting(0, denoiser.network), counting(1, denoiser.snapshot)
        return load(engine, version, denoiser)

    monkeypatch.setattr(Engine, "load", counted_load)
    async with opened(tmp_path) as (catalog, engine):
        assert catalog.ready
        assert all(calls)
        assert engine.status().networks == 2


@pytest.mark.parametrize(("device", "drawn_on"), [("cpu", None), ("cuda:1", "cuda, bfloat16")])
def test_the_catalog_says_how_its_device_draws(device: str, drawn_on: str | None) -> None:
    compiler_works.cache_clear()
    assert Catalog(Engine(), None, device=torch.device(device), default=None).drawn_on == drawn_on


async def test_one_file_under_two_names_stays_two_models(tmp_path: Path, database: Database) -> None:
    weights = weights_folder(tmp_path, tiny=0)
    data = tiny_weights("tiny", 0)
    async with opened(weights, database) as (catalog, _):
        copy = store_weights(database, data, "imported", name="copy")
        found = await catalog.find("copy")
        assert (found.name, found.digest) == ("copy", copy)
        shipped = await catalog.find("tiny")
        assert (shipped.name, shipped.digest, shipped.number) == ("tiny", copy, 1)


async def test_an_alias_is_looked_up_without_its_bytes_once_they_are_known(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_folder(tmp_path, tiny=0)
    async with opened(weights, database) as (catalog, _):
        second, third = (store_weights(database, tiny_weights("tiny", seed), "trained") for seed in (5, 6))
        with database.session() as session:
            set_alias(session, COMMAND_LINE, "tiny", "candidate", second)
        assert (await catalog.find("tiny@candidate")).digest == second
        with monkeypatch.context() as patch:
            patch.setattr(darkroom.app.versions.stored, "checkpoint_beginning", None)
            patch.setattr(darkroom.app.versions.stored, "checkpoint_bytes", None)
            assert (await catalog.find("tiny@candidate")).digest == second
        with database.session() as session:
            set_alias(session, COMMAND_LINE, "tiny", "candidate", third)
        assert (await catalog.find("tiny@candidate")).digest == third  # the catalog asks the store each time


async def test_without_any_model_it_is_not_ready(tmp_path: Path) -> None:
    async with opened(tmp_path) as (catalog, _):
        assert not catalog.ready
        with pytest.raises(UnknownModel):
            await catalog.find(None)


async def test_names_and_the_versions_that_they_mean(tmp_path: Path, database: Database) -> None:
    weights = weights_folder(tmp_path, tiny=0)
    async with opened(weights, database) as (catalog, _):
        shipped, second = (
            digest_of(tiny_weights("tiny", 0)),
            store_weights(database, tiny_weights("tiny", 5), "trained"),
        )
        with database.session() as session:
            set_alias(session, COMMAND_LINE, "tiny", "candidate", second)
        for reference, digest in {
            "tiny": shipped,
            "tiny@production": shipped,
            "tiny@1": shipped,
            f"tiny@{shipped}": shipped,
            f"tiny@{shipped[:20]}": shipped,
            "tiny@2": second,
            "tiny@candidate": second,
            f"tiny@{second}": second,
        }.items():
            version = await catalog.find(reference)
            assert version.digest == digest, reference
            await catalog.ensure_loaded(version)
        for reference in ("nobody", "tiny@3", "tiny@nothing", "tiny@sha256:" + "0" * 64, "tiny@sha256:", "@1", ""):
            with pytest.raises(UnknownModel):
                await catalog.find(reference)


async def _promote(weights: Path, database: Database) -> str:
    """Register the shipped weights, then make another version production; return its digest."""
    async with opened(weights, database):
        pass
    promoted = store_weights(database, tiny_weights("tiny", 7), "trained")
    with database.session() as session:
        set_alias(session, COMMAND_LINE, "tiny", PRODUCTION, promoted)
    return promoted


async def test_the_stores_production_version_is_served_in_place_of_the_shipped_one(
    tmp_path: Path, database: Database
) -> None:
    weights = weights_folder(tmp_path, tiny=0)
    promoted = await _promote(weights, database)
    async with opened(weights, database) as (catalog, engine):
        assert (await catalog.find("tiny")).digest == promoted
        assert promoted in engine.status().resident


async def test_lost_bytes_of_production_leave_the_shipped_weights_in_service(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    weights = weights_folder(tmp_path, tiny=0)
    promoted = await _promote(weights, database)
    with database.session() as session:
        session.execute(delete(ArtifactChunk).where(ArtifactChunk.digest == promoted))
    with caplog.at_level(logging.ERROR):
        async with opened(weights, database) as (catalog, _):
            assert (await catalog.find("tiny")).digest == digest_of(tiny_weights("tiny", 0))
    assert "production of tiny cannot be loaded" in caplog.text


async def test_the_least_recently_used_version_leaves_first_and_returns_when_asked_for(tmp_path: Path) -> None:
    weights = weights_folder(tmp_path, a=1, b=2, c=3)
    async with opened(weights, versions=2) as (catalog, engine):
        a, b, c = [await catalog.find(name) for name in "abc"]
        assert set(engine.status().resident) == {b.digest, c.digest}
        await catalog.ensure_loaded(a)
        assert set(engine.status().resident) == {c.digest, a.digest}


def _point(database: Database, name: str, version: str | int) -> None:
    """Move production as another replica or a training job does."""
    with database.session() as session:
        set_alias(session, COMMAND_LINE, name, PRODUCTION, version)


async def test_the_catalog_follows_production_when_others_move_it_there_and_back(
    tmp_path: Path, database: Database
) -> None:
    shipped = digest_of(tiny_weights("tiny", 0))
    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, engine):
        trained = store_weights(database, tiny_weights("tiny", 5), "trained")
        await catalog.look()
        assert (await catalog.find("tiny")).digest == shipped  # a new checkpoint is not production
        for digest in (trained, shipped, trained):
            _point(database, "tiny", digest)
            await catalog.look()
            assert (await catalog.find("tiny")).digest == digest
            assert (await catalog.find("tiny@production")).digest == digest
            assert {shipped, trained} <= set(engine.status().resident)  # the earlier version stays in memory


async def test_a_model_that_a_job_has_trained_is_loaded_without_a_restart(tmp_path: Path, database: Database) -> None:
    async with opened(tmp_path, database) as (catalog, engine):
        trained = store_weights(database, tiny_weights("new", 5), "trained")
        await catalog.look()
        with pytest.raises(UnknownModel):
            await catalog.find("new")
        assert (await catalog.find("new@1")).digest == trained
        _point(database, "new", 1)
        await catalog.look()
        assert trained in engine.status().resident
        assert (await catalog.find(None)).digest == trained


async def test_the_first_promotion_of_a_service_without_models_makes_it_ready(
    tmp_path: Path, database: Database
) -> None:
    async with opened(tmp_path, database) as (catalog, _):
        trained = store_weights(database, tiny_weights("new", 5), "trained")
        assert not catalog.ready
        await catalog.promote(COMMAND_LINE, "new", "1")
        assert catalog.ready  # at once, because the client may ask for images next
        assert (await catalog.find(None)).digest == trained


async def test_a_promotion_reads_and_decodes_the_weights_once(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding the version reads only its header, as for shipped weights."""
    calls: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        original = getattr(module, name)

        def count(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(module, name, count)

    counted(darkroom.model.checkpoint, "load")  # safetensors' function, which decodes all tensors
    counted(darkroom.app.versions.stored, "checkpoint_bytes")  # reads all bytes
    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, engine):
        assert calls == ["load"]
        calls.clear()
        trained = store_weights(database, tiny_weights("tiny", 5), "trained")
        await catalog.promote(COMMAND_LINE, "tiny", trained)
        assert calls == ["checkpoint_bytes", "load"]
        assert trained in engine.status().resident


async def test_loading_detects_a_header_that_was_damaged_when_it_was_read(tmp_path: Path, database: Database) -> None:
    """A header that is read alone cannot be checked, because the digest is of the whole file."""
    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, engine):
        data = tiny_weights("tiny", 5)
        trained = store_weights(database, data, "trained")
        _overwrite(database, trained, data.replace(b"T-shirt/top", b"X-shirt/top"))
        version = await catalog.find(f"tiny@{trained}")
        assert version.header.class_names[2] == "X-shirt/top"
        with pytest.raises(CheckpointError, match="is corrupted"):
            await catalog.ensure_loaded(version)
        _overwrite(database, trained, data)
        with pytest.raises(CheckpointError, match="its header was damaged"):
            await catalog.ensure_loaded(version)
        assert trained not in engine.status().resident
        await catalog.ensure_loaded(found := await catalog.find(f"tiny@{trained}"))
        assert found.header.class_names[2] == "T-shirt/top"
        assert trained in engine.status().resident


async def test_a_header_that_is_longer_than_one_read_is_read_completely(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(darkroom.app.versions.stored, "HEADER_BYTES", 100)
    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, _):
        trained = store_weights(database, tiny_weights("tiny", 5), "trained")
        assert (await catalog.find(f"tiny@{trained}")).header.class_names[2] == "T-shirt/top"


def _overwrite(database: Database, digest: str, data: bytes) -> None:
    with database.session() as session:
        session.execute(update(ArtifactChunk).where(ArtifactChunk.digest == digest).values(data=data))


async def test_a_promotion_during_the_load_of_the_shipped_weights_does_not_make_it_ready(
    tmp_path: Path, database: Database
) -> None:
    engine = Engine(EngineLimits(batch_rows=2))
    engine.start()
    try:
        catalog = Catalog(engine, database, device=torch.device("cpu"), default=None)
        store_weights(database, tiny_weights("new", 5), "trained")
        await catalog.promote(COMMAND_LINE, "new", "1")
        assert not catalog.ready
        await catalog.open(weights_folder(tmp_path, tiny=0))
        assert catalog.ready
    finally:
        engine.stop(0.0)


async def test_a_deleted_production_alias_leaves_the_versions(tmp_path: Path, database: Database) -> None:
    async with opened(weights_folder(tmp_path, tiny=0, other=1), database) as (catalog, _):
        with database.session() as session:
            name = Checkpoint.digest == digest_of(tiny_weights("tiny", 0))
            (checkpoint,) = session.query(Checkpoint).where(name)
            session.execute(delete(ModelAlias).where(ModelAlias.checkpoint_id == checkpoint.id))
        await catalog.look()
        for reference in ("tiny", "tiny@production"):
            with pytest.raises(
                UnknownModel, match=r"'tiny' has 1 version, and none is in production.*tiny@1.*PUT /v1/mod"
            ):
                await catalog.find(reference)
        with pytest.raises(UnknownModel, match=r"no version or alias '9'; it has 1 version, .*: tiny@1"):
            await catalog.find("tiny@9")
        with pytest.raises(UnknownModel, match="no model 'digits'; models in production: other"):
            await catalog.find("digits")
        assert (await catalog.find("tiny@1")).number == 1
        assert (await catalog.find(None)).name == "other"


async def test_loaded_versions_are_served_while_the_store_is_away(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(database: Database) -> None:
        raise DatabaseAway("the server has gone")

    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, _):
        trained = store_weights(database, tiny_weights("tiny", 5), "trained")
        _point(database, "tiny", trained)
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(darkroom.app.versions.catalog, "production_versions", away)
            for _ in range(3):
                await catalog.look()
            assert (await catalog.find("tiny")).digest == digest_of(tiny_weights("tiny", 0))
        assert caplog.text.count("the server has gone") == 1
        await catalog.look()
        assert (await catalog.find("tiny")).digest == trained


async def test_a_storage_that_is_away_holds_up_its_own_versions_alone(
    tmp_path: Path,
    database: Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(darkroom.app.versions.catalog, "FIRST_RETRY_SECONDS", 0.0)
    shared, unmounted = tmp_path / "shared", tmp_path / "unmounted"
    shared.mkdir()
    outside = Database(database_url, artifacts_url=str(shared))
    away = store_weights(outside, tiny_weights("away", 5), "trained")
    here = store_weights(database, tiny_weights("here", 6), "trained")
    _point(database, "away", away)
    _point(database, "here", here)
    shared.rename(unmounted)
    with caplog.at_level(logging.WARNING):
        async with opened(weights_folder(tmp_path, shipped=0), outside) as (catalog, _):
            for _ in range(3):
                await catalog.look()
            assert (await catalog.find("here")).digest == here
            assert catalog.production("away") is None
            unmounted.rename(shared)
            await catalog.look()
            assert (await catalog.find("away")).digest == away
            assert (await catalog.find("shipped")).number == 1
    outside.dispose()
    said = [record.getMessage() for record in caplog.records]
    folder = f"the folder {shared} of the artifacts does not exist or cannot be reached"
    assert said == [
        f"shipped weights are not registered yet, so jobs cannot use them: {folder}",
        f"production of away cannot be loaded; the earlier version stays served: {folder}",
    ]


async def test_a_version_that_cannot_be_loaded_replaces_nothing_and_is_tried_again(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = digest_of(tiny_weights("tiny", 0))
    monkeypatch.setattr(darkroom.app.versions.catalog, "FIRST_RETRY_SECONDS", 0.0)
    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, _):
        broken = store_weights(database, tiny_weights("tiny", 5), "trained")
        with database.session() as session:
            (chunk,) = session.query(ArtifactChunk).where(ArtifactChunk.digest == broken)
            good, chunk.data = chunk.data, b"damaged"
        _point(database, "tiny", broken)
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                await catalog.look()
                assert (await catalog.find("tiny")).digest == shipped
        assert caplog.text.count("production of tiny cannot be loaded") == 1
        with database.session() as session:
            session.execute(update(ArtifactChunk).where(ArtifactChunk.digest == broken).values(data=good))
        await catalog.look()
        assert (await catalog.find("tiny")).digest == broken


async def test_a_version_that_cannot_be_loaded_is_left_alone_for_a_while(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def read(database: Database, name: str, digest: str) -> None:
        reads.append(digest)
        raise OSError("the remote artifact store is away")

    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, _):
        _point(database, "tiny", store_weights(database, tiny_weights("tiny", 5), "trained"))
        monkeypatch.setattr(darkroom.app.versions.catalog, "read_weights", read)
        for _ in range(3):
            await catalog.look()
        assert len(reads) == 1
        _point(database, "tiny", store_weights(database, tiny_weights("tiny", 6), "trained"))
        await catalog.look()
        assert len(reads) == 2  # another version is tried at once


async def test_a_version_that_lost_the_alias_while_it_was_warming_up_is_not_served(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = digest_of(tiny_weights("tiny", 0))
    async with opened(weights_folder(tmp_path, tiny=0), database) as (catalog, _):
        _point(database, "tiny", store_weights(database, tiny_weights("tiny", 5), "trained"))
        load = catalog.ensure_loaded

        async def loaded_slowly(version: Version) -> None:
            await load(version)
            _point(database, "tiny", shipped)

        monkeypatch.setattr(catalog, "ensure_loaded", loaded_slowly)
        await catalog.look()
        assert (await catalog.find("tiny")).digest == shipped


async def test_models_that_exceed_memory_replace_none_before_their_first_request(
    tmp_path: Path, database: Database
) -> None:
    async with opened(weights_folder(tmp_path, a=1, b=2), database, versions=2) as (catalog, engine):
        before = set(engine.status().resident)
        third = store_weights(database, tiny_weights("c", 3), "imported")
        await catalog.look()
        assert set(engine.status().resident) == before
        found = await catalog.find("c")
        await catalog.ensure_loaded(found)
        assert found.digest == third
        assert third in engine.status().resident


async def test_a_collected_version_is_served_while_it_is_in_memory_and_then_refused(
    tmp_path: Path, database: Database
) -> None:
    async with opened(weights_folder(tmp_path, tiny=0), database, versions=2) as (catalog, engine):
        old, new = (store_weights(database, tiny_weights("tiny", seed), "trained") for seed in (5, 6))
        await catalog.ensure_loaded(await catalog.find("tiny@2"))
        with database.session() as session:
            session.execute(update(Checkpoint).where(Checkpoint.digest == old).values(artifact_digest=None))
        await catalog.ensure_loaded(await catalog.find("tiny@2"))
        for reference in ("tiny@3", "tiny@1"):  # both must be loaded, so the least recently used version leaves
            await catalog.ensure_loaded(await catalog.find(reference))
        assert old not in engine.status().resident
        with pytest.raises(VersionCollected, match="version 2"):
            await catalog.ensure_loaded(await catalog.find("tiny@2"))
        assert (await catalog.find("tiny@3")).digest == new


async def test_the_catalog_remembers_a_limited_number_of_versions_and_finds_all(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(darkroom.app.versions.catalog, "REMEMBERED_VERSIONS", 4)
    async with opened(weights_folder(tmp_path, tiny=0, other=1), database, versions=2) as (catalog, _):
        stored = [store_weights(database, tiny_weights("tiny", seed), "trained") for seed in range(2, 12)]
        for number, digest in enumerate(stored, start=2):
            assert (await catalog.find(f"tiny@{number}")).digest == digest
            assert len(catalog.digests("tiny")) <= 4
        assert (await catalog.find(f"tiny@{stored[0]}")).number == 2
        for name, seed in (("tiny", 0), ("other", 1)):
            assert catalog.production(name) is not None
            assert digest_of(tiny_weights(name, seed)) in catalog.digests(name)
