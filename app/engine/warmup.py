"""Warm-up: measures a model version at every batch size, to find the batch limit."""

import logging
import math
import time
from collections.abc import Iterator

import torch

from darkroom.app.engine.drawer import Drawer, ReplayingDrawer
from darkroom.app.engine.speed import SpeedCurve
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.fixed_shapes import BUCKETS, FixedShapes
from darkroom.model.machine.memory import is_out_of_memory
from darkroom.model.sampling.draw import RowPlan, plan_row

log = logging.getLogger(__name__)

REPEATS = 3


def measure_speed(drawer: Drawer, batch_rows: int) -> Iterator[SpeedCurve | None]:
    """Yield None after each step, so that the caller can serve in between, and the speed curve at the end.

    The steps are a sampler's real ones, of unguided rows. The best of REPEATS counts, because other processes may
    disturb a step. Each size first runs untimed steps of everything that compiles or is recorded: both networks, noise,
    and on a device of fixed shapes also mixtures of labels. Out of memory ends the curve early.
    """
    denoiser = drawer.denoiser
    plain = SamplingConfig(sampler="ddim", steps=1, threshold="dynamic")
    by_snapshot = plain.model_copy(update={"guidance": 2.0, "guide": "snapshot"})
    plan = plan_row(denoiser, plain, label=0, seed=0)
    everything = plain if denoiser.snapshot is None else by_snapshot
    untimed = [plan_row(denoiser, everything, label=0, seed=0)]
    if isinstance(denoiser.network, FixedShapes) and len(denoiser.class_names) > 1:
        untimed.append(plan_row(denoiser, everything, label=0, seed=0, end_label=1, mix=0.5))
    if isinstance(drawer, ReplayingDrawer):
        untimed.append(plan_row(denoiser, plain.model_copy(update={"sampler": "ddpm", "steps": 2}), label=0, seed=0))
    measured: dict[int, float] = {}
    for size in (bucket for bucket in BUCKETS if bucket <= batch_rows):
        best = math.inf
        for repeat, row in enumerate([*untimed, *[plan] * REPEATS]):
            try:
                seconds = _timed_step(drawer, [row] * size)
            except Exception as error:
                if not (is_out_of_memory(error) and measured):
                    raise
                log.warning("out of memory at %d network rows in warm-up; steps will be smaller", size)
                yield SpeedCurve(measured)
                return
            if repeat >= len(untimed):
                best = min(seconds, best)
            yield None
        measured[size] = best
    yield SpeedCurve(measured)


def _timed_step(drawer: Drawer, plans: list[RowPlan]) -> float:
    """Return the seconds of the rows' first step."""
    places = drawer.begin(plans)
    began = time.perf_counter()
    drawer.advance(plans, [0] * len(plans), places)
    if drawer.denoiser.device.type == "cuda":
        torch.cuda.synchronize(drawer.denoiser.device)
    return time.perf_counter() - began
