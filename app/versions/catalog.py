"""Finds the model versions that requests name, and loads them from files or the store into the engine.

The catalog finds names in memory first, so that the service serves loaded models while the database is away. It loads
the shipped weights from their files at once, and registers them in the store as soon as it answers. From then on the
production aliases in the store decide what is served. This process, another replica or a training job may move them.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from darkroom.app.engine.engine import Engine
from darkroom.app.engine.request import EngineStopped
from darkroom.app.engine.warmup import compile_ahead
from darkroom.app.versions.load_guard import LoadGuard, require_memory
from darkroom.app.versions.stored import (
    frontier_figures,
    point_production,
    production_versions,
    read_weights,
    register_shipped,
    resolve_version,
    stored_version,
)
from darkroom.app.versions.version import UnknownModel, Version
from darkroom.model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_header,
)
from darkroom.model.diffusion.network import drawn_on
from darkroom.model.digest import digest_of
from darkroom.model.machine.memory import is_device_lost
from darkroom.store.audit_repository import Actor
from darkroom.store.database import DATABASE_ERRORS, Database
from darkroom.store.model_repository import (
    PRODUCTION,
    AliasTarget,
    ModelNotFound,
    VersionNotFound,
)
from darkroom.store.places import ArtifactsAway
from darkroom.telemetry.loops import surviving

log = logging.getLogger(__name__)

MAIN_MODEL = "fashion-mnist"
"""The default among several shipped models."""
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0

SHORTEST_DIGEST = len("sha256:") + 8
REMEMBERED_VERSIONS = 256
MOST_NAMES_LISTED = 50


@dataclass
class _Refused:
    """A production version that could not be loaded. try_at: the next try, on the event loop's clock."""

    digest: str
    wait_seconds: float
    try_at: float


class Catalog:
    """The versions that requests can name.

    Any thread may call `production`, `digests` and `default`. Only the event loop's thread may call the other methods.
    """

    def __init__(
        self,
        engine: Engine,
        database: Database | None,
        *,
        device: torch.device,
        default: str | None,
        loading_folder: Path | None = None,
    ) -> None:
        self._engine = engine
        self._database = database
        self._device = device
        self._default = default
        self._versions: dict[tuple[str, str], Version] = {}  # by name and digest: two names may share the bytes
        self._production: dict[str, str] = {}
        self._shipped: dict[str, Path] = {}
        self._unregistered: list[tuple[str, str]] = []
        self._refused: dict[str, _Refused] = {}
        self._guard = LoadGuard(loading_folder)
        self._one_load = asyncio.Lock()
        self._switching = asyncio.Lock()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._store_away = False
        self._storage_away = False
        self._opened = False
        self.ready = False
        engine.keep_longest(lambda: list(self._production.values()))

    @property
    def drawn_on(self) -> str | None:
        """How a GPU draws, as images say it; None on a CPU."""
        return drawn_on(self._device, "serve")

    async def open(self, weights_folder: Path) -> None:
        """Load the shipped weights into the engine, then look at the store once."""
        await asyncio.to_thread(self._guard.look)
        for path in sorted(weights_folder.glob("*.safetensors")):
            try:
                version = await asyncio.to_thread(_shipped_version, path)
            except (OSError, CheckpointError) as error:
                log.error("shipped weights are not served: %s", error)
                continue
            self._shipped[version.digest] = path
            self._remember(version)
            try:
                await self.ensure_loaded(version)
            except Exception as error:  # a file that cannot be loaded must not keep the others from being served
                told = isinstance(error, CheckpointError)
                log.error("shipped weights are not served: %s: %s", path, error, exc_info=None if told else error)
                del self._shipped[version.digest], self._versions[version.name, version.digest]
                continue
            self._unregistered.append((version.name, version.digest))
            self._production.setdefault(version.name, version.digest)
        with surviving("models"):
            await self.look()
        self._opened = True
        self._note_readiness()
        if not self.ready:
            log.error("there is no model to serve: add weights to %s, or promote a version", weights_folder)

    async def follow(self, poll_seconds: float) -> None:
        """Look at the store every `poll_seconds`, until cancelled."""
        while self._database is not None:
            await asyncio.sleep(poll_seconds)
            with surviving("models"):
                await self.look()
                self._note_readiness()

    async def look(self) -> None:
        """Look at the store once: register shipped weights, then serve the versions that production aliases point at.

        While the store is away, nothing changes. A version that cannot be loaded replaces none that is served. The
        catalog logs it once, and tries again after longer and longer times.
        """
        if self._database is None:
            return
        try:
            await self._register_shipped(self._database)
            await self._follow_aliases(self._database)
            await self._follow_frontiers(self._database)
        except DATABASE_ERRORS as error:
            if not self._store_away:
                log.warning("the database cannot be used; loaded models are still served: %s", error)
            self._store_away = True
        else:
            if self._store_away:
                log.info("the database can be used again")
            self._store_away = False

    async def promote(self, actor: Actor, name: str, selector: str) -> None:
        """Load and warm a version up, then make it production. So no request waits for it or fails.

        selector: a number, a digest or an alias. Raises ModelNotFound, VersionNotFound, VersionCollected,
        CheckpointError, EngineStopped and DatabaseAway, and then does not change production. A version that was
        set aside is tried once more.
        """
        if self._database is None:
            raise ValueError("a promotion needs a database: set DATABASE_URL")
        version = await self._find_in_store(self._database, name, selector)
        await asyncio.to_thread(self._guard.allow, version.digest)
        await self.ensure_loaded(version)
        async with self._switching:
            await asyncio.to_thread(point_production, self._database, actor, name, version.digest)
            self._production[name] = version.digest
        self._note_readiness()  # a service that started without a model has one now

    async def find(self, reference: str | None) -> Version:
        """Return the version that NAME, NAME@ALIAS, NAME@NUMBER or NAME@sha256:... means; None: the default model.

        Raises UnknownModel. If it must ask the store, it also raises VersionCollected, CheckpointError and
        DatabaseAway.
        """
        if reference is None:
            reference = self.default
            if reference is None:
                raise UnknownModel("no model is in production: name a version (NAME@NUMBER), or promote one")
        name, _, selector = reference.partition("@")
        if selector in ("", PRODUCTION):
            selector = self._production.get(name, PRODUCTION)
        here = self._find_here(name, selector)
        if here is not None:
            return here
        if self._database is None or not name:
            raise self._unknown(reference)
        try:
            return await self._find_in_store(self._database, name, selector)
        except ModelNotFound as error:
            raise self._unknown(reference) from error
        except VersionNotFound as error:
            raise UnknownModel(str(error)) from error

    async def ensure_loaded(self, version: Version) -> None:
        """Wait until the engine holds the version. Callers that wait for the same version share one load.

        Raises CheckpointError if the weights cannot be used, VersionCollected and EngineStopped.
        """
        if version.digest in self._engine.status().resident:
            return
        task = self._loads.get(version.digest)
        if task is None:
            task = asyncio.create_task(self._load(version))
            self._loads[version.digest] = task
            task.add_done_callback(lambda _: self._loads.pop(version.digest, None))
        await asyncio.shield(task)

    def forget(self, name: str, digests: Iterable[str]) -> None:
        """Forget versions whose weights were deleted, so that requests no longer find them in memory."""
        for digest in digests:
            if digest not in self._shipped:
                self._versions.pop((name, digest), None)
            if self._production.get(name) == digest:
                del self._production[name]

    def production(self, name: str) -> Version | None:
        """Return the version that serves requests for `name`; None if there is none or the catalog has not read it."""
        return self._versions.get((name, self._production.get(name, "")))

    def digests(self, name: str) -> list[str]:
        """Return the digests of the versions of `name` that the catalog remembers."""
        return [version.digest for version in list(self._versions.values()) if version.name == name]

    @property
    def set_aside(self) -> int:
        """How many versions are set aside, because a process ended while it loaded them."""
        return self._guard.set_aside

    def _note_readiness(self) -> None:
        """Become ready, for good, when the shipped weights are loaded and there is a production model."""
        self.ready = self.ready or (self._opened and bool(self._production))

    @property
    def default(self) -> str | None:
        """The model of requests that name none: as set, else a shipped one, MAIN_MODEL first, else the first by name.

        Every replica finds the same one.
        """
        if self._default:
            return self._default
        names = [version.name for version in list(self._versions.values()) if version.digest in self._shipped]
        shipped = sorted(names, key=lambda name: name != MAIN_MODEL)
        return next((name for name in shipped if name in self._production), min(list(self._production), default=None))

    def _find_here(self, name: str, selector: str) -> Version | None:
        mine = [version for version in self._versions.values() if version.name == name]
        if selector.startswith("sha256:") and len(selector) >= SHORTEST_DIGEST:
            mine = [version for version in mine if version.digest.startswith(selector)]
        else:
            mine = [version for version in mine if str(version.number) == selector]
        return mine[0] if len(mine) == 1 else None

    async def _find_in_store(self, database: Database, name: str, selector: str) -> Version:
        target = await asyncio.to_thread(resolve_version, database, name, selector)
        known = self._versions.get((name, target.digest))
        if known is not None:
            return known
        version = await asyncio.to_thread(stored_version, database, name, target.digest)
        self._remember(version)
        return version

    async def _load(self, version: Version) -> None:
        if version.digest not in self._shipped:  # the operator's own files are tried at each start
            self._guard.require_allowed(version.digest)
        async with self._one_load:  # one at a time, because no limit counts weights that are still loading
            await asyncio.to_thread(require_memory, version)
            with self._guard.loading(version):
                await self._load_alone(version)

    async def _load_alone(self, version: Version) -> None:
        shipped = self._shipped.get(version.digest)
        if shipped is not None:
            checkpoint = await asyncio.to_thread(load_checkpoint, shipped)
        elif self._database is not None:
            checkpoint = await asyncio.to_thread(read_weights, self._database, version.name, version.digest)
        else:
            raise CheckpointError(f"{version.digest}: its weights are in no file and there is no database to read")
        if checkpoint.digest != version.digest:
            raise CheckpointError(f"{shipped}: the file has changed since the service started; restart the service")
        if checkpoint.header.model_dump_json() != version.header.model_dump_json():
            # the header was read alone before, so its digest could not be checked
            self._versions.pop((version.name, version.digest), None)
            raise CheckpointError(
                f"{version.name}@{version.digest}: its header was damaged when it was read; try again"
            )
        try:
            denoiser = await asyncio.to_thread(checkpoint.denoiser, self._device, "serve")
            await asyncio.to_thread(compile_ahead, denoiser, self._engine.limits.batch_rows)
            await asyncio.wrap_future(self._engine.load(version.digest, denoiser))
        except (EngineStopped, CheckpointError):
            raise
        except Exception as error:  # a network's first run may raise anything
            if is_device_lost(error):
                self._engine.device_lost(error)
            raise CheckpointError(f"{version.name} {version.digest}: the network does not run: {error}") from error
        self._remember(version)
        log.info("serving %s %s", version.name, version.digest)

    async def _register_shipped(self, database: Database) -> None:
        """Register shipped weights in the store, and keep the version numbers that it gives them."""
        while self._unregistered:
            key = self._unregistered[0]
            version = self._versions[key]
            try:
                number = await asyncio.to_thread(
                    register_shipped, database, version.header, self._shipped[version.digest]
                )
                self._versions[key] = replace(version, number=number)
            except ArtifactsAway as error:  # it must not keep the catalog from following the aliases
                if not self._storage_away:
                    log.warning("shipped weights are not registered yet, so jobs cannot use them: %s", error)
                self._storage_away = True
                return
            except OSError as error:  # the file was removed after it was loaded
                log.error("shipped weights cannot be registered, so jobs cannot use them: %s", error)
            self._storage_away = False
            self._unregistered.pop(0)

    async def _follow_aliases(self, database: Database) -> None:
        async with self._switching:
            targets = await asyncio.to_thread(production_versions, database)
            for name in self._production.keys() - targets.keys():
                version = self.production(name)
                if version is not None and version.number is None:
                    continue  # a shipped version that is not registered yet
                log.info("%s no longer has a production version", name)
                del self._production[name]
        for name in self._refused.keys() - targets.keys():
            del self._refused[name]
        for name, target in targets.items():
            if self._production.get(name) != target.digest:
                await self._follow_alias(database, name, target)
            else:
                self._refused.pop(name, None)

    async def _follow_frontiers(self, database: Database) -> None:
        """Read new figures of the frontiers of the versions in memory."""
        resident = self._engine.status().resident.keys()
        found = await asyncio.to_thread(frontier_figures, database, resident)
        for key, version in list(self._versions.items()):
            measured = tuple(found.get(version.digest, ()))
            if version.digest in resident and measured != version.measured:
                self._versions[key] = replace(version, measured=measured)

    async def _follow_alias(self, database: Database, name: str, target: AliasTarget) -> None:
        """Load the version beside the one that is served, then switch to it if the alias still points at it."""
        now = asyncio.get_running_loop().time()
        refused = self._refused.get(name)
        if refused is not None and refused.digest != target.digest:
            refused = None
        if refused is not None and now < refused.try_at:
            return
        try:
            # When memory is full, a model that has not served anyone yet is loaded by its first request.
            if name in self._production or self._has_room():
                await self.ensure_loaded(await self._find_in_store(database, name, target.digest))
        except (ModelNotFound, VersionNotFound):
            return  # deleted in the meantime
        except Exception as error:  # faults of the weights, or their folder or bucket is away
            away = isinstance(error, ArtifactsAway)
            if isinstance(error, (*DATABASE_ERRORS, EngineStopped)) and not away:
                raise
            if refused is None:
                log.error("production of %s cannot be loaded; the earlier version stays served: %s", name, error)
            wait = FIRST_RETRY_SECONDS
            if refused is not None and not away:  # a folder or bucket that is back is used at once
                wait = min(2.0 * refused.wait_seconds, LONGEST_RETRY_SECONDS)
            self._refused[name] = _Refused(target.digest, wait, now + wait)
            return
        self._refused.pop(name, None)
        async with self._switching:
            if (await asyncio.to_thread(production_versions, database)).get(name) == target:
                self._production[name] = target.digest

    def _has_room(self) -> bool:
        return self._engine.status().networks < self._engine.limits.versions

    def _remember(self, version: Version) -> None:
        """Remember a version. Above REMEMBERED_VERSIONS, forget the oldest that are neither served nor in memory."""
        self._versions.setdefault((version.name, version.digest), version)
        surplus = len(self._versions) - REMEMBERED_VERSIONS
        if surplus <= 0:
            return
        kept = self._shipped.keys() | self._engine.status().resident.keys() | {version.digest}
        idle = [(name, d) for name, d in self._versions if d not in kept and self._production.get(name) != d]
        for key in idle[:surplus]:
            del self._versions[key]

    def _unknown(self, reference: str) -> UnknownModel:
        name = reference.partition("@")[0]
        digests = self.digests(name)[:MOST_NAMES_LISTED]
        if digests and self._database is None:
            here = ", ".join(f"{name}@{digest}" for digest in digests)
            return UnknownModel(f"there is no {reference!r}; this service has no database and only these: {here}")
        names = sorted(self._production)
        listed = ", ".join(names[:MOST_NAMES_LISTED]) + (", ..." if len(names) > MOST_NAMES_LISTED else "")
        return UnknownModel(f"there is no model {name!r}; models in production: {listed or 'none'}")


def _shipped_version(path: Path) -> Version:
    data = path.read_bytes()
    header = read_header(data, source=str(path))
    return Version(header.name, digest_of(data), header)
