"""Warm-up: run a model version once at every batch size, then time it, to find how many rows a step should have."""

import logging
import time
from collections.abc import Iterator

import torch

from app.engine.fixed_shapes import BUCKETS
from app.engine.speed import SpeedCurve
from model.config import SamplingConfig
from model.denoiser import Denoiser
from model.memory import is_out_of_memory
from model.sampling import advance, plan_row, start

log = logging.getLogger(__name__)

REPEATS = 3


def measure_speed(denoiser: Denoiser, batch_rows: int) -> Iterator[SpeedCurve | None]:
    """Yield None after each step, so that the caller can serve in between, and the curve at the end.

    The best of REPEATS counts: a disturbed step says nothing of the device. Runs real sampler steps of one plain row
    a forward row; the first step of a size, which may compile, is not timed, and runs the snapshot, too, where there
    is one. Out of memory ends the curve early.
    """
    plain = SamplingConfig(sampler="ddim", steps=1, threshold="dynamic")
    by_snapshot = plain.model_copy(update={"guidance": 2.0, "guide": "snapshot"})
    plan = plan_row(denoiser, plain, label=None, seed=0)
    first = plan if denoiser.snapshot is None else plan_row(denoiser, by_snapshot, label=None, seed=0)
    measured: dict[int, float] = {}
    for size in (bucket for bucket in BUCKETS if bucket <= batch_rows):
        positions = [0] * size
        for repeat in range(1 + REPEATS):
            plans = [plan if repeat > 0 else first] * size
            try:
                state = start(denoiser, plans)
                began = time.perf_counter()
                advance(denoiser, plans, positions, state)
                if denoiser.device.type == "cuda":
                    torch.cuda.synchronize(denoiser.device)
                seconds = time.perf_counter() - began
            except Exception as error:
                if not (is_out_of_memory(error) and measured):
                    raise
                log.warning("out of memory at %d forward rows in warm-up; smaller batches will do", size)
                measured.pop(size, None)
                yield SpeedCurve(measured)
                return
            if repeat > 0:
                measured[size] = min(seconds, measured.get(size, seconds))
            yield None
    yield SpeedCurve(measured)
