"""Warm-up: measures a model version at every batch size, to find the batch limit and the number of threads."""

import logging
import time
from collections.abc import Iterator

import torch

from darkroom.app.engine.fixed_shapes import BUCKETS, FixedShapes
from darkroom.app.engine.speed import SpeedCurve
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.machine.memory import is_out_of_memory
from darkroom.model.machine.threads import compute_with
from darkroom.model.sampling.draw import RowPlan, advance, plan_row, start

log = logging.getLogger(__name__)

REPEATS = 3

WORTH = 1.25
"""A step uses all threads only if they make it faster by this factor. Otherwise the other cores are free for others."""


def measure_speed(denoiser: Denoiser, batch_rows: int, threads: int) -> Iterator[SpeedCurve | None]:
    """Yield None after each step, so that the caller can serve in between, and the speed curve at the end.

    Each size runs on one thread and on `threads`, until these are WORTH it; larger sizes run on `threads` only. A
    compiled network always runs on `threads`, because each number of threads would need a compilation. The steps are a
    sampler's real ones, of unguided rows. The best of REPEATS counts, because other processes may disturb a step. Each
    size first runs one untimed step, so that compilation is not measured; it also runs the snapshot if there is one.
    Out of memory ends the curve early.
    """
    plain = SamplingConfig(sampler="ddim", steps=1, threshold="dynamic")
    by_snapshot = plain.model_copy(update={"guidance": 2.0, "guide": "snapshot"})
    plan = plan_row(denoiser, plain, label=0, seed=0)
    first = plan if denoiser.snapshot is None else plan_row(denoiser, by_snapshot, label=0, seed=0)
    measured: dict[int, float] = {}
    one_thread_rows = 0
    compiled = isinstance(denoiser.network, FixedShapes)
    for size in (bucket for bucket in BUCKETS if bucket <= batch_rows):
        # try one thread as long as it was enough for all smaller sizes
        try_one = threads > 1 and not compiled and one_thread_rows == size // 2
        best: dict[int, float] = {}
        for count in (1, threads) if try_one else (threads,):
            for repeat in range(1 + REPEATS):
                try:
                    seconds = _timed_step(denoiser, [plan if repeat > 0 else first] * size, count)
                except Exception as error:
                    if not (is_out_of_memory(error) and measured):
                        raise
                    log.warning("out of memory at %d network rows in warm-up; steps will be smaller", size)
                    yield SpeedCurve(measured, one_thread_rows)
                    return
                if repeat > 0:
                    best[count] = min(seconds, best.get(count, seconds))
                yield None
        if try_one and best[1] < WORTH * best[threads]:
            one_thread_rows, measured[size] = size, best[1]
        else:
            measured[size] = best[threads]
    yield SpeedCurve(measured, one_thread_rows)


def _timed_step(denoiser: Denoiser, plans: list[RowPlan], threads: int) -> float:
    """Return the seconds of the rows' first step."""
    compute_with(threads)  # steps that the caller made in between may have set another number
    state = start(denoiser, plans)
    began = time.perf_counter()
    advance(denoiser, plans, [0] * len(plans), state)
    if denoiser.device.type == "cuda":
        torch.cuda.synchronize(denoiser.device)
    return time.perf_counter() - began
