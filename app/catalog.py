"""The model versions that requests can name, and their way from files and store into the engine.

Names are resolved in memory, so that a loaded model is served while the database is away. The shipped weights are
loaded from their files at once and registered in the store as soon as it answers.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from sqlalchemy.exc import SQLAlchemyError

from app.engine.engine import Engine
from app.engine.fixed_shapes import prepare_network
from app.engine.request import EngineStopped
from model.checkpoint import Checkpoint, CheckpointError, CheckpointHeader, decode_checkpoint, load_checkpoint
from store.artifacts import ArtifactCorrupted, ArtifactMissing
from store.checkpoint_repository import checkpoint_bytes, register_checkpoint
from store.database import Database
from store.model_repository import PRODUCTION, ModelNotFound, VersionNotFound, list_models, resolve

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
SHORTEST_DIGEST = len("sha256:") + 8


class UnknownModel(LookupError):
    """A model or version that does not exist; the message lists the names that do."""


@dataclass(frozen=True)
class Version:
    """A model version. number: its place in the store, None until it is registered."""

    name: str
    digest: str
    header: CheckpointHeader
    number: int | None = None


class Catalog:
    """See the module. All methods are for the event loop's thread."""

    def __init__(
        self, engine: Engine, database: Database | None, *, device: torch.device, compiled: bool, default: str | None
    ) -> None:
        self._engine = engine
        self._database = database
        self._device = device
        self._compiled = compiled
        self._default = default
        self._versions: dict[tuple[str, str], Version] = {}  # by name and digest: two names may share the bytes
        self._production: dict[str, str] = {}
        self._shipped: dict[str, Path] = {}
        self._one_load = asyncio.Lock()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self.ready = False

    async def open(self, weights_folder: Path) -> None:
        """Load the shipped weights into the engine, then make store and catalog agree, however long it is away."""
        for path in sorted(weights_folder.glob("*.safetensors")):
            try:
                checkpoint = await asyncio.to_thread(load_checkpoint, path)
            except CheckpointError as error:
                log.error("shipped weights left out: %s", error)
                continue
            self._shipped[checkpoint.digest] = path
            version = self._add(checkpoint, None)
            try:
                await self.ensure_loaded(version)
            except CheckpointError as error:
                log.error("shipped weights left out: %s", error)
                del self._shipped[checkpoint.digest], self._versions[version.name, version.digest]
                continue
            self._production.setdefault(version.name, version.digest)
        self.ready = bool(self._production)
        while self._database is not None:
            try:
                await self._synchronise(self._database)
                break
            except SQLAlchemyError as error:
                log.warning("the database is of no use, trying again in %g s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
        self.ready = bool(self._production)
        if not self.ready:
            log.error("no model: %s holds no weights and the store no model", weights_folder)

    async def find(self, reference: str | None) -> Version:
        """The version that NAME, NAME@ALIAS, NAME@NUMBER or NAME@sha256:... means; None: the default model.

        Raises UnknownModel; when only the store could know, also sqlalchemy's errors, ArtifactMissing,
        ArtifactCorrupted and CheckpointError.
        """
        if reference is None:
            reference = self._default or next(iter(self._production), None)
            if reference is None:
                raise UnknownModel("there is no model yet")
        name, _, selector = reference.partition("@")
        here = self._find_here(name, selector)
        if here is not None:
            return here
        if self._database is None or not name:
            raise self._unknown(reference)
        try:
            return await self._find_in_store(self._database, name, selector or PRODUCTION)
        except (ModelNotFound, VersionNotFound, ValueError) as error:
            raise self._unknown(reference) from error

    async def ensure_loaded(self, version: Version) -> None:
        """Wait until the engine holds the version; callers of one version share the work.

        Raises CheckpointError, ArtifactMissing or ArtifactCorrupted when its weights cannot be used, and EngineStopped.
        """
        if version.digest in self._engine.snapshot().resident:
            return
        task = self._loads.get(version.digest)
        if task is None:
            task = asyncio.create_task(self._load(version))
            self._loads[version.digest] = task
            task.add_done_callback(lambda _: self._loads.pop(version.digest, None))
        await asyncio.shield(task)

    def production(self, name: str) -> Version | None:
        """The version that requests for `name` are served from."""
        digest = self._production.get(name)
        return self._versions[name, digest] if digest else None

    def digests(self, name: str) -> list[str]:
        """Digests of the versions of `name` that have been looked at."""
        return [version.digest for version in self._versions.values() if version.name == name]

    def _find_here(self, name: str, selector: str) -> Version | None:
        if selector in ("", PRODUCTION):
            return self.production(name)
        mine = [version for version in self._versions.values() if version.name == name]
        if selector.startswith("sha256:") and len(selector) >= SHORTEST_DIGEST:
            mine = [version for version in mine if version.digest.startswith(selector)]
        else:
            mine = [version for version in mine if str(version.number) == selector]
        return mine[0] if len(mine) == 1 else None

    async def _find_in_store(self, database: Database, name: str, selector: str) -> Version:
        digest, number = await asyncio.to_thread(_resolve, database, name, selector)
        known = self._versions.get((name, digest))
        if known is not None:
            return known
        return self._add(await asyncio.to_thread(_read, database, name, digest), number, name)

    async def _load(self, version: Version) -> None:
        async with self._one_load:  # one at a time: weights on their way count towards no limit
            await self._load_alone(version)

    async def _load_alone(self, version: Version) -> None:
        shipped = self._shipped.get(version.digest)
        if shipped is not None:
            checkpoint = await asyncio.to_thread(load_checkpoint, shipped)
        elif self._database is not None:
            checkpoint = await asyncio.to_thread(_read, self._database, version.name, version.digest)
        else:
            raise CheckpointError(f"{version.digest}: its weights are not at hand")
        if checkpoint.digest != version.digest:
            raise CheckpointError(f"{shipped}: the file was changed while the service ran; restart it")
        denoiser = await asyncio.to_thread(checkpoint.denoiser, self._device)
        denoiser.network = prepare_network(denoiser.network, self._device, compiled=self._compiled)
        try:
            await asyncio.wrap_future(self._engine.load(version.digest, denoiser))
        except EngineStopped:
            raise
        except Exception as error:  # whatever a network raises when it is run for the first time
            raise CheckpointError(f"{version.name} {version.digest}: does not run: {error}") from error
        log.info("serving %s %s", version.name, version.digest)

    async def _synchronise(self, database: Database) -> None:
        """Register the shipped weights, learn the versions' numbers, and load what production points at."""
        for version in [version for version in self._versions.values() if version.digest in self._shipped]:
            path = self._shipped[version.digest]
            number = await asyncio.to_thread(_register, database, version.header, path)
            self._versions[version.name, version.digest] = replace(version, number=number)
        for name, digest in await asyncio.to_thread(_production_digests, database):
            try:
                version = self._versions.get((name, digest)) or await self._find_in_store(database, name, digest)
                await self.ensure_loaded(version)
            except (CheckpointError, ArtifactMissing, ArtifactCorrupted) as error:
                log.error("production of %s cannot be served: %s", name, error)
                continue
            self._production[name] = digest

    def _add(self, checkpoint: Checkpoint, number: int | None, name: str | None = None) -> Version:
        version = Version(name or checkpoint.header.name, checkpoint.digest, checkpoint.header, number)
        self._versions[version.name, version.digest] = version
        return version

    def _unknown(self, reference: str) -> UnknownModel:
        return UnknownModel(f"there is no model {reference!r}; there are: {', '.join(sorted(self._production))}")


def _resolve(database: Database, name: str, selector: str) -> tuple[str, int]:
    """Digest and number of the version that a name means; its bytes stay where they are."""
    with database.session() as session:
        row = resolve(session, name, selector)
        return row.digest, row.version


def _read(database: Database, name: str, digest: str) -> Checkpoint:
    with database.session() as session:
        return decode_checkpoint(checkpoint_bytes(session, resolve(session, name, digest)), source=f"{name}@{digest}")


def _register(database: Database, header: CheckpointHeader, path: Path) -> int:
    with database.session() as session:
        return register_checkpoint(
            session,
            model_name=header.name,
            data=path.read_bytes(),
            configuration=header.model.model_dump(mode="json"),
            class_names=header.class_names,
            images_seen=header.images_seen,
            metrics=header.metrics,
            source="shipped",
        ).version


def _production_digests(database: Database) -> list[tuple[str, str]]:
    """(model, digest) of every model's production alias."""
    found: list[tuple[str, str]] = []
    after: str | None = None
    with database.session() as session:
        while True:
            page = list_models(session, after)
            found += [(m.name, m.aliases[PRODUCTION].digest) for m in page.models if PRODUCTION in m.aliases]
            after = page.next_after
            if after is None:
                return found
