"""Compares the engine with a bare loop, and a short request alone with one beside a long request.

python -m bench.engine CHECKPOINT [--profile]

Both results are ratios within one run, since machines differ and other programs disturb them:

* throughput: network rows per second of the engine with a full queue, divided by those of a bare loop that calls the
  same network at the same batch size. The two alternate, so that a disturbance affects both.
* latency: time for 1 image at 10 steps while 64 images at 50 steps are running, divided by its time alone.

--profile prints instead what the parts of a step take while 32 guided images are drawn in 50 steps.
"""

import argparse
import contextlib
import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from darkroom.app.engine.engine import Engine, EngineLimits, Ticket
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.phases import Drawing
from darkroom.app.engine.request import Event, Failed, Finished, RowRequest, SampleRequest
from darkroom.model.checkpoint import Checkpoint, load_checkpoint
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.images.described_png import described_png
from darkroom.model.machine.threads import compute_alone

ROUNDS = 5
BARE_SECONDS = 4.0
BARE_CALLS = 20
LONG_ROWS, LONG_STEPS = 64, 50
SHORT_STEPS = 10
PROFILED_ROWS = 32
FORWARD, WHOLE = "forward pass", "whole"
SHORT_REPEATS = 5


class StepCounter(EngineObserver):
    """Counts what the engine computes. mark: network rows so far, and when the last step ended."""

    def __init__(self) -> None:
        self.mark = (0, 0.0)
        self.steps = 0

    def step(self, rows: int, network_rows: int, seconds: float, batch_limit: int) -> None:
        self.mark = (self.mark[0] + network_rows, time.perf_counter())
        self.steps += 1


@dataclass
class Call:
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)
    ticket: Ticket | None = None

    def sink(self, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            self.seconds = time.perf_counter() - self.began
            self.over.set()


def _submit(engine: Engine, checkpoint: Checkpoint, images: int, steps: int, guidance: float, seed: int) -> Call:
    every_step = {"steps": steps, "guidance": guidance, "guidance_interval": None}
    sampling = checkpoint.header.sampling.model_copy(update=every_step)
    classes = len(checkpoint.header.class_names)
    rows = tuple(RowRequest(index % classes, seed, index, sampling) for index in range(images))
    call = Call()
    call.ticket = engine.submit(SampleRequest(checkpoint.digest, rows), call.sink)
    return call


@torch.inference_mode()
def bare_rows_per_second(denoiser: Denoiser, batch: int, seconds: float = BARE_SECONDS) -> float:
    """Return the network rows per second of the network alone, called on one batch for `seconds` at least.

    A GPU is waited for once in BARE_CALLS calls, so that it never idles.
    """
    device = denoiser.device
    x = torch.randn(batch, *denoiser.image_shape, device=device).contiguous(memory_format=torch.channels_last)
    t = torch.full((batch,), 500, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    denoiser.network(x, t, labels)
    began, rows = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        for _ in range(BARE_CALLS if device.type == "cuda" else 1):
            denoiser.network(x, t, labels)
            rows += batch
        wait_for(device)
    return rows / elapsed


def wait_for(device: torch.device) -> None:
    """Wait until the device has computed everything that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _engine_rows_per_second(engine: Engine, counter: StepCounter, checkpoint: Checkpoint, guidance: float) -> float:
    """Return the network rows per second while several requests wait, from the end of one full step to a later one."""
    calls = [_submit(engine, checkpoint, 64, LONG_STEPS, guidance, seed) for seed in range(8)]
    steps = counter.steps
    while counter.steps < steps + 3:
        time.sleep(0.001)
    rows, began = counter.mark
    time.sleep(BARE_SECONDS)
    rows_then, ended = counter.mark
    rate = (rows_then - rows) / (ended - began)
    for call in calls:
        assert call.ticket is not None
        call.ticket.cancel()
    for call in calls:
        call.over.wait()
    return rate


def throughput(
    engine: Engine, counter: StepCounter, checkpoint: Checkpoint, denoiser: Denoiser, guidance: float
) -> None:
    """Print the rates of ROUNDS alternating measurements, and the median of their ratios."""
    batch = engine.status().resident[checkpoint.digest]
    ratios = []
    print(f"\n| round | bare loop, batch {batch}: network rows / s | engine, guidance {guidance:g} | ratio |")
    print("| --- | --- | --- | --- |")
    for number in range(ROUNDS):
        before = bare_rows_per_second(denoiser, batch)
        rate = _engine_rows_per_second(engine, counter, checkpoint, guidance)
        bare = (before + bare_rows_per_second(denoiser, batch)) / 2
        ratios.append(rate / bare)
        print(f"| {number + 1} | {bare:.0f} | {rate:.0f} | {rate / bare:.3f} |", flush=True)
    print(f"\nmedian ratio {statistics.median(ratios):.3f} (goal: at least 0.95)")


def latency(engine: Engine, checkpoint: Checkpoint, guidance: float) -> None:
    """Print how much longer a short request takes beside a long one than alone."""
    alone = []
    for seed in range(SHORT_REPEATS):
        call = _submit(engine, checkpoint, 1, SHORT_STEPS, guidance, seed)
        call.over.wait()
        alone.append(call.seconds)
    beside = []
    for seed in range(SHORT_REPEATS):
        long = _submit(engine, checkpoint, LONG_ROWS, LONG_STEPS, guidance, seed)
        time.sleep(0.5)
        call = _submit(engine, checkpoint, 1, SHORT_STEPS, guidance, seed)
        call.over.wait()
        beside.append(call.seconds)
        assert not long.over.is_set(), "the long request ended too soon to measure anything"
        assert long.ticket is not None
        long.ticket.cancel()
        long.over.wait()
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"\n1 image at {SHORT_STEPS} steps, guidance {guidance:g}, median of {SHORT_REPEATS}:")
    print(f"alone {1e3 * statistics.median(alone):.0f} ms, while {LONG_ROWS} at {LONG_STEPS} steps run ", end="")
    print(f"{1e3 * statistics.median(beside):.0f} ms (worst {1e3 * max(beside):.0f} ms): ", end="")
    print(f"ratio {ratio:.2f} (goal: at most 3)")


class _Parts:
    """Measures the parts of each step, without the parts inside them, on the engine's thread. A step begins at `pick`.

    steps: seconds by part. `whole` is the time until the next step begins.
    """

    def __init__(self) -> None:
        self.steps: list[Counter[str]] = []
        self.began: float | None = None
        self._now: Counter[str] = Counter()
        self._inside: list[float] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, which then adds its time to the part."""

        def measured(*arguments: Any) -> Any:
            began = time.perf_counter()
            self._inside.append(0.0)
            try:
                return function(*arguments)
            finally:
                seconds = time.perf_counter() - began
                self._now[part] += seconds - self._inside.pop()
                if self._inside:
                    self._inside[-1] += seconds

        return measured

    def beginning(self, pick: Callable[..., Any]) -> Callable[..., Any]:
        """Return `pick`, which then also ends the step before it."""

        def measured(*arguments: Any) -> Any:
            now = time.perf_counter()
            if self.began is not None:
                self.steps.append(self._now + Counter({WHOLE: now - self.began}))
            self.began, self._now = now, Counter()
            return pick(*arguments)

        return measured


def profile(checkpoint: Checkpoint) -> None:
    """Print the median time of each part of a step, and the cost beside the forward pass."""
    compute_alone()  # as the service does
    parts, counter, denoiser = _Parts(), StepCounter(), checkpoint.denoiser()
    engine = Engine(observer=counter)
    denoiser.network = parts.timed(FORWARD, denoiser.network)
    replaced = {
        (Drawing, "advance"): "sampler and guidance",
        (Drawing, "results"): "pixels",
        (engine._stepper, "step"): "counts and speed",
        (engine._stepper, "_deliver"): "events",
        (engine._queue, "pick"): "policy",
    }
    with contextlib.ExitStack() as stack:
        for (owner, name), part in replaced.items():
            stack.enter_context(mock.patch.object(owner, name, parts.timed(part, getattr(owner, name))))
        stack.enter_context(mock.patch.object(engine._queue, "pick", parts.beginning(engine._queue.pick)))
        engine.start()
        engine.load(checkpoint.digest, denoiser).result()
        for seed in range(ROUNDS + 1):
            if seed == 1:  # the first request only warms up
                parts.steps.clear()
            parts.began = None
            _submit(engine, checkpoint, PROFILED_ROWS, LONG_STEPS, 2.0, seed).over.wait()
        engine.stop(0.0)
    whole, forward = (statistics.median(step[part] for step in parts.steps) for part in (WHOLE, FORWARD))
    print(f"{PROFILED_ROWS} images in {LONG_STEPS} steps: medians of {len(parts.steps)} steps of the engine\n")
    print("| part of a step | ms | share of the forward pass |\n| --- | ---: | ---: |")
    for part in (FORWARD, *replaced.values()):
        seconds = statistics.median(step[part] for step in parts.steps)
        print(f"| {part} | {1e3 * seconds:.3f} | {seconds / forward:.2%} |")
    print(f"| the whole step | {1e3 * whole:.3f} | {whole / forward:.2%} |")
    beside = statistics.median(step[WHOLE] - step[FORWARD] for step in parts.steps)
    encoding = _encoding_seconds(denoiser) * ROUNDS / sum(step[FORWARD] for step in parts.steps)
    print(f"\ncost beside the forward pass: {beside / forward:.2%} (goal: less than 3%)")
    print(f"encoding, on another thread: {encoding:.2%}")


def _encoding_seconds(denoiser: Denoiser) -> float:
    """Return the time to encode the images of a request, each as a PNG."""
    channels, height, width = denoiser.image_shape
    images = np.random.default_rng(0).integers(256, size=(PROFILED_ROWS, height, width, channels), dtype=np.uint8)
    began = time.perf_counter()
    for image in images:
        described_png(image, {})
    return time.perf_counter() - began


def main() -> None:
    """Run both benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--profile", action="store_true", help="print the parts of a step instead")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    if arguments.profile:
        profile(checkpoint)
        return
    denoiser = checkpoint.denoiser()
    counter = StepCounter()
    engine = Engine(EngineLimits(queue_rows=4096, queue_seconds=math.inf), counter)
    engine.start()
    engine.load(checkpoint.digest, denoiser).result()
    for guidance in (1.0, checkpoint.header.sampling.guidance):
        throughput(engine, counter, checkpoint, denoiser, guidance)
        latency(engine, checkpoint, guidance)
    engine.stop(0.0)


if __name__ == "__main__":
    main()
