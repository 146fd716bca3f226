"""A work process with faults: `python -m tests.worker.broken_work FAULTS ...`, otherwise like worker.entry.

FAULTS: names of functions below, each with a number, such as `killed_at=160,judged=80`. `killed` needs no number.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from darkroom.worker import entry

NOISE_BYTES = 1 << 20


def killed(_: int) -> None:
    """Die by SIGKILL before the work begins."""
    os.kill(os.getpid(), signal.SIGKILL)


def noisy(_: int) -> None:
    """Print lines that are hard to store, and a last one without a line break."""
    for line in (b"before\n", b"nul \0 byte\n", b"\xff\xfe not UTF-8\n", b"x" * NOISE_BYTES + b"\n", b"\0\n"):
        os.write(1, line)
    os.write(2, b"to standard error\n")


def killed_at(images: int) -> None:
    """Die by SIGKILL when the checkpoint at `images` images is stored."""
    from darkroom.worker.training import JobRecord

    original = JobRecord.checkpoint

    def checkpoint(self: JobRecord, images_seen: int, weights: bytes, state: bytes) -> None:
        original(self, images_seen, weights, state)
        self.flush()
        if images_seen == images:
            killed(0)

    _patch(JobRecord, "checkpoint", checkpoint)


def poisoned(images: int) -> None:
    """Set a weight and its average to NaN after `images` images."""
    from darkroom.model.training.trainer import Trainer

    original = Trainer.advance

    def advance(self: Trainer) -> None:
        original(self)
        if self.images_seen == images:
            self.network.stem.bias.data[0] = math.nan
            self.ema.weights["stem.bias"][0] = math.nan

    _patch(Trainer, "advance", advance)


def judged(best: int) -> None:
    """Replace the evaluation: a checkpoint is better the nearer it is to `best` images."""
    from darkroom.model.figure import Figure
    from darkroom.model.metrics import evaluation
    from darkroom.worker.training import JobRecord

    original = JobRecord.evaluation

    def record(self: JobRecord, images_seen: int, found: Sequence[Figure]) -> None:
        original(self, images_seen, [replace(one, value=float(abs(images_seen - best))) for one in found])

    _patch(evaluation, "require_metrics", lambda _: None)
    _patch(evaluation, "evaluate", lambda *_: (Figure("distance", 0.0, {"of": "test"}, 0.0),))
    _patch(JobRecord, "evaluation", record)


def unjudgeable(images: int) -> None:
    """Let the evaluation and the sample grid at `images` images run out of memory."""
    import torch

    import darkroom.model.training.run
    from darkroom.model.metrics import evaluation
    from darkroom.model.training.trainer import Trainer

    seen, advance = 0, Trainer.advance

    def noted(self: Trainer) -> None:
        nonlocal seen
        advance(self)
        seen = self.images_seen

    def unless_full(original: Callable[..., Any]) -> Callable[..., Any]:
        def tried(*arguments: Any) -> Any:
            if seen == images:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(*arguments)

        return tried

    _patch(Trainer, "advance", noted)
    _patch(evaluation, "evaluate", unless_full(evaluation.evaluate))
    _patch(darkroom.model.training.run, "sample", unless_full(darkroom.model.training.run.sample))


def full_disk(_: int) -> None:
    """Let the data set's cache be on a full disk."""
    import numpy as np

    def save(_: Path, array: Any) -> None:
        with Path("/dev/full").open("wb") as full:
            np.lib.format.write_array(full, array)

    _patch(np, "save", save)


def impatient(_: int) -> None:
    """Try a transaction again at once."""
    from darkroom.worker import transactions

    _patch(transactions, "RETRY_SECONDS", 0.0)


def out_of_memory(images: int) -> None:
    """Let the network allocate more memory than any machine has, after `images` images."""
    import torch

    _before_step_at(images, lambda: torch.empty(1 << 60, dtype=torch.uint8))


def out_of_device_memory(images: int) -> None:
    """Let the device report that its memory is full, after `images` images."""
    import torch

    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    _before_step_at(images, full)


def stuck(images: int) -> None:
    """Let the step after `images` images last until SIGTERM arrives, and then finish."""

    def wait() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        arrived = False

        def note(*arguments: Any) -> None:
            nonlocal arrived
            handler(*arguments)
            arrived = True

        signal.signal(signal.SIGTERM, note)
        print(f"process {os.getpid()} is stuck", flush=True)
        while not arrived:
            time.sleep(0.01)

    _before_step_at(images, wait)


def _before_step_at(images: int, action: Callable[[], object]) -> None:
    from darkroom.model.diffusion.unet import UNet
    from darkroom.model.training.trainer import Trainer

    advances, forward = Trainer.advance, UNet.forward
    due = False

    def advance(self: Trainer) -> None:
        nonlocal due
        due = self.images_seen == images
        advances(self)

    def broken(self: UNet, *arguments: Any) -> Any:
        nonlocal due
        if due:
            due = False
            action()
        return forward(self, *arguments)

    _patch(Trainer, "advance", advance)
    _patch(UNet, "forward", broken)


def _patch(owner: object, name: str, new: object) -> None:
    mock.patch.object(owner, name, new).start()


FAULTS: dict[str, Callable[[int], None]] = {
    fault.__name__: fault
    for fault in (
        killed,
        noisy,
        killed_at,
        poisoned,
        judged,
        unjudgeable,
        full_disk,
        impatient,
        out_of_memory,
        out_of_device_memory,
        stuck,
    )
}


def main(arguments: list[str]) -> None:
    """Put the faults in, then work."""
    for described in filter(None, arguments[0].split(",")):
        name, _, number = described.partition("=")
        FAULTS[name](int(number or 0))
    entry.main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
