"""Warm-up: compiles and records a model version at every batch size, and measures it, to find the batch limit."""

import logging
import math
import time
from collections.abc import Iterator
from itertools import product

import torch

from darkroom.app.engine.drawer import Drawer, PlainDrawer, ReplayingDrawer
from darkroom.app.engine.speed import SpeedCurve
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.fixed_shapes import BUCKETS, FixedShapes
from darkroom.model.machine.memory import is_out_of_memory
from darkroom.model.sampling.draw import RowPlan, plan_row

log = logging.getLogger(__name__)

REPEATS = 3

GUIDED_ROWS = 2
"""Network rows of one guided image, which a step takes even where its limit is 1."""


@torch.inference_mode()
def compile_ahead(denoiser: Denoiser, batch_rows: int) -> None:
    """Call both networks of fixed shapes with everything that compiles, on this thread, before `measure_speed`.

    A compilation takes seconds. The engine's thread then compiles nothing, and serves meanwhile. It records nothing
    meanwhile either, because one version loads at a time: CUDA gives up a recording when anybody waits for the device.
    """
    if not isinstance(denoiser.network, FixedShapes):
        return
    drawer = PlainDrawer(denoiser)
    untimed = _untimed(drawer)
    for size in _sizes(batch_rows):
        for row in untimed:
            if _step_in_memory(drawer, [row] * size, is_first=False) is None:
                return  # `measure_speed` finds the limit


def measure_speed(drawer: Drawer, batch_rows: int) -> Iterator[SpeedCurve | None]:
    """Yield None after each step, so that the caller can serve in between, and the speed curve at the end.

    The steps are a sampler's real ones, of unguided rows. The best of REPEATS counts, because other processes may
    disturb a step. Each size first runs untimed steps of everything that compiles or is recorded. Out of memory ends
    the curve early.
    """
    plan = plan_row(drawer.denoiser, _plain(), label=0, seed=0)
    untimed = _untimed(drawer)
    measured: dict[int, float] = {}
    for size in _sizes(batch_rows):
        best = math.inf
        for repeat, row in enumerate([*untimed, *[plan] * REPEATS]):
            seconds = _step_in_memory(drawer, [row] * size, is_first=not measured)
            if seconds is None:
                log.warning("out of memory at %d network rows in warm-up; steps will be smaller", size)
                if drawer.denoiser.device.type == "cuda":
                    torch.cuda.empty_cache()
                yield SpeedCurve(measured)
                return
            if repeat >= len(untimed):
                best = min(seconds, best)
            yield None
        if size <= batch_rows:
            measured[size] = best
    yield SpeedCurve(measured)


def _sizes(batch_rows: int) -> list[int]:
    return [bucket for bucket in BUCKETS if bucket <= max(batch_rows, GUIDED_ROWS)]


def _plain() -> SamplingConfig:
    return SamplingConfig(sampler="ddim", steps=1, threshold="dynamic")


def _untimed(drawer: Drawer) -> list[RowPlan]:
    """Return rows that need everything that a request can: both networks, and what compiles or is recorded.

    On a device of fixed shapes, each network compiles for classes and for mixtures of them. A drawer that replays
    records each `StepKind`.
    """
    denoiser, replays = drawer.denoiser, isinstance(drawer, ReplayingDrawer)
    with_snapshot, with_classes = denoiser.snapshot is not None, len(denoiser.class_names) > 1
    kinds = product(
        (False, True) if replays and with_snapshot else (with_snapshot,),
        (False, True) if with_classes and (replays or isinstance(denoiser.network, FixedShapes)) else (False,),
        (False, True) if replays else (False,),
    )
    rows = []
    for by_snapshot, mixed, noisy in kinds:
        changes: dict[str, object] = {"guidance": 2.0, "guide": "snapshot"} if by_snapshot else {}
        changes |= {"sampler": "ddpm", "steps": 2} if noisy else {}
        sampling, end = _plain().model_copy(update=changes), 1 if mixed else None
        rows.append(plan_row(denoiser, sampling, label=0, seed=0, end_label=end, mix=0.5 if mixed else 0.0))
    return rows


def _step_in_memory(drawer: Drawer, plans: list[RowPlan], *, is_first: bool) -> float | None:
    """Return the seconds of the rows' first step, or None without memory for it. Then its tensors are free.

    is_first: a version that cannot make its smallest step does not run, so that its error is raised.
    """
    try:
        return _timed_step(drawer, plans)
    except Exception as error:
        if is_first or not is_out_of_memory(error):
            raise
    return None


def _timed_step(drawer: Drawer, plans: list[RowPlan]) -> float:
    """Return the seconds of the rows' first step."""
    places = drawer.begin(plans)
    began = time.perf_counter()
    drawer.advance(plans, [0] * len(plans), places)
    if drawer.denoiser.device.type == "cuda":
        torch.cuda.synchronize(drawer.denoiser.device)
    return time.perf_counter() - began
