"""The model versions in memory, and those that are loading: the engine warms them up between other versions' steps."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from darkroom.app.engine.drawer import Drawer
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.request import EngineStopped, VersionNotLoaded
from darkroom.app.engine.speed import SpeedCurve
from darkroom.app.engine.warmup import measure_speed
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.machine.memory import is_device_lost

log = logging.getLogger(__name__)

GROWS_AFTER = 1000
"""Steps without a fault after which a limit that out of memory lowered grows again."""


@dataclass(eq=False)
class Resident:
    """A model version in memory, and its measured speed. batch_limit: most network rows a step, at first `most`."""

    version: str
    drawer: Drawer
    speed: SpeedCurve
    most: int

    def __post_init__(self) -> None:
        self.batch_limit = self.most
        self._steps = 0

    @property
    def denoiser(self) -> Denoiser:
        """The version's denoiser."""
        return self.drawer.denoiser

    @property
    def networks(self) -> int:
        """Number of networks of this version."""
        return 1 if self.denoiser.snapshot is None else 2

    def ran_out_of_memory(self, network_rows: int) -> None:
        """Lower the limit to half of the network rows that were too many."""
        self.batch_limit = min(self.batch_limit, max(1, network_rows // 2))
        self._steps = 0

    def succeeded(self) -> None:
        """Count a step. After GROWS_AFTER of them a lowered limit doubles: what took the memory may have gone."""
        if self.batch_limit < self.most:
            self._steps += 1
            if self._steps >= GROWS_AFTER:
                self.batch_limit, self._steps = min(self.most, 2 * self.batch_limit), 0

    @property
    def full_step(self) -> float:
        """Seconds of a full step."""
        return self.speed.seconds(self.batch_limit)

    def seconds(self, network_rows: int) -> float:
        """Return the time of that many network rows in full batches."""
        return network_rows * self.full_step / self.batch_limit


@dataclass(eq=False)
class _Loading:
    version: str
    drawer: Drawer
    measurement: Iterator[SpeedCurve | None]
    future: Future[None]


class Residents:
    """The versions in memory, least recently used first. limit: most networks; lock: the engine's, for every change.

    served: returns the versions that leave memory last, because everybody may draw with them.

    The caller of a method holds the lock, except that of `warm_up_once`, which takes it.
    """

    def __init__(self, limit: int, lock: threading.Condition, observer: EngineObserver) -> None:
        self._limit = limit
        self._lock = lock
        self._observer = observer
        self._held: OrderedDict[str, Resident] = OrderedDict()
        self._loading: list[_Loading] = []
        self.served: Callable[[], Container[str]] = frozenset[str]

    @property
    def loading(self) -> bool:
        """True while a version is loading."""
        return bool(self._loading)

    @property
    def networks(self) -> int:
        """Number of networks in memory."""
        return sum(resident.networks for resident in self._held.values())

    @property
    def batch_limits(self) -> dict[str, int]:
        """Batch limit by version, least recently used first."""
        return {version: resident.batch_limit for version, resident in self._held.items()}

    def find(self, version: str) -> Resident:
        """Return the version; raises VersionNotLoaded if it is not in memory."""
        try:
            return self._held[version]
        except KeyError:
            raise VersionNotLoaded(version) from None

    def used(self, resident: Resident) -> None:
        """Make it the most recently used one."""
        self._held.move_to_end(resident.version)

    def load(self, version: str, drawer: Drawer, batch_rows: int) -> Future[None]:
        """Queue a version's warm-up; the future ends when the version is in memory."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from now on callers cannot cancel it
        if version in self._held:
            future.set_result(None)
        else:
            self._loading.append(_Loading(version, drawer, measure_speed(drawer, batch_rows), future))
        return future

    def warm_up_once(self, busy: Container[Resident]) -> None:
        """Measure one step of the first loading version. After its last one the version is resident.

        busy: versions that must stay in memory.
        """
        loading, began = self._loading[0], time.perf_counter()
        try:
            speed = next(loading.measurement)
        except Exception as error:  # a model that cannot run must not end the engine's thread
            self._loading.pop(0)
            self._observer.version_loaded("failed")
            loading.future.set_exception(error)
            if is_device_lost(error):
                raise
            return
        finally:
            self._observer.warm_up_step(time.perf_counter() - began)
        if speed is None:
            return
        with self._lock:
            self._loading.pop(0)
            self._held[loading.version] = Resident(loading.version, loading.drawer, speed, speed.knee())
            self._evict(busy)
        self._observer.version_loaded("loaded")
        log.info("version %s is warm: %d network rows a step", loading.version, speed.knee())
        loading.future.set_result(None)

    def fail_loads(self) -> None:
        """Fail all loads, because the engine stops."""
        for loading in self._loading:
            loading.future.set_exception(EngineStopped())
        self._loading.clear()

    def _evict(self, busy: Container[Resident]) -> None:
        newest = next(reversed(self._held))
        for version in sorted(self._held, key=self.served().__contains__):  # the order of use stays within both parts
            if self.networks <= self._limit:
                return
            if version != newest and self._held[version] not in busy:
                del self._held[version]
