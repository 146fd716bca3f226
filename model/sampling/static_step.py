"""A step of `advance` as a pure function of tensors with fixed shapes and addresses, for devices that replay it.

A GPU computes a step of small images faster than Python can ask for its operations one by one. So they are recorded
once for each `StepKind` and then replayed as a whole. That needs a step without decisions by values: every row is
guided, thresholded and gets noise, with coefficients that leave it as it is where its settings do not ask for that.
`StepInputs` holds what differs from step to step, in one block of memory that is sent to the device in one copy.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.samplers.step import STATE
from darkroom.model.sampling.draw import RowPlan, mixtures
from darkroom.model.sampling.noise import noise_of
from darkroom.model.sampling.step_numbers import LINEAR, REAL

_WHOLE = ("place", "source", "guide", "t", "seed", "index", "step", "label")


class StepKind(NamedTuple):
    """What two steps must share to be replayed from one recording.

    rows: size of the batch. mixed: labels are mixtures of classes. by_snapshot: the snapshot guides some rows.
    noisy: some rows get noise.
    """

    rows: int
    mixed: bool
    by_snapshot: bool
    noisy: bool


def kind_of(plans: Sequence[RowPlan], positions: Sequence[int]) -> StepKind:
    """Return the kind of the rows' next step. Its size is a power of two, so that there are few kinds."""
    rows = list(zip(plans, positions, strict=True))
    guided = [plan.by_snapshot for plan, k in rows if plan.network_rows(k) == 2]
    return StepKind(
        rows=1 << (len(rows) + guided.count(False) - 1).bit_length(),
        mixed=any(plan.label != plan.end_label for plan in plans),
        by_snapshot=any(guided),
        noisy=any(plan.table.noise[k] for plan, k in rows),
    )


class StepInputs:
    """The inputs of one kind of step: a block on the host, and the same block on the device.

    hosts: number of blocks on the host. They take turns, so that one can be filled while another is still being sent.
    """

    def __init__(self, denoiser: Denoiser, kind: StepKind, hosts: int = 1) -> None:
        self.kind, self._denoiser, self._next = kind, denoiser, 0
        mixture = denoiser.null_label + 1 if kind.mixed else 0
        self._shapes = {"whole": (len(_WHOLE), kind.rows), "real": (kind.rows, len(REAL) + LINEAR + mixture)}
        size = 8 * len(_WHOLE) * kind.rows + 4 * kind.rows * self._shapes["real"][1]
        on_cuda = denoiser.device.type == "cuda"
        self._hosts: list[tuple[Tensor, Any, Any]] = []
        for _ in range(hosts):
            block = torch.zeros(size, dtype=torch.uint8, pin_memory=on_cuda)
            whole, real = self._parts(block)
            self._hosts.append((block, whole.numpy(), real.numpy()))
        self._block = torch.zeros(size, dtype=torch.uint8, device=denoiser.device)
        whole, real = self._parts(self._block)
        self.whole = dict(zip(_WHOLE, whole, strict=True))
        self.real = {name: real[:, column] for column, name in enumerate(REAL)}
        self.linear = real[:, len(REAL) :][:, :LINEAR].reshape(kind.rows, STATE, STATE + 1)
        self.labels = real[:, len(REAL) + LINEAR :] if kind.mixed else self.whole["label"]

    def _parts(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Return views of a block: whole numbers (names, rows) int64, and real ones (rows, names) float32."""
        end = 8 * len(_WHOLE) * self.kind.rows
        return (
            block[:end].view(torch.int64).reshape(self._shapes["whole"]),
            block[end:].view(torch.float32).reshape(self._shapes["real"]),
        )

    def fill(self, plans: Sequence[RowPlan], positions: Sequence[int], places: Sequence[int]) -> None:
        """Write the rows' next step and send it to the device, in one copy that nothing waits for.

        places: where each row's state lies; the rows of padding get place 0.
        """
        host, whole, real = self._hosts[self._next]
        self._next = (self._next + 1) % len(self._hosts)
        rows, null = len(plans), self._denoiser.null_label
        real[rows:] = 0.0
        real[:rows, : len(REAL) + LINEAR] = [plan.numbers[k] for plan, k in zip(plans, positions, strict=True)]
        place, source, guide, times, seed, index, step, label = whole
        whole[:, rows:] = 0
        times[rows:] = 1
        place[:rows] = places
        guide[:rows] = source[:rows] = np.arange(rows)
        times[:rows] = [plan.table.times[k] for plan, k in zip(plans, positions, strict=True)]
        seed[:rows] = [plan.seed for plan in plans]
        index[:rows] = [plan.index for plan in plans]
        step[:rows] = [k + 1 for k in positions]
        label[:rows] = [plan.label for plan in plans]
        if self.kind.mixed:
            real[:rows, len(REAL) + LINEAR :] = mixtures(plans, null)
        guided = [row for row, plan in enumerate(plans) if plan.network_rows(positions[row]) == 2]
        to_null = [row for row in guided if not plans[row].by_snapshot]
        both = slice(rows, rows + len(to_null))
        source[both], times[both], label[both] = to_null, times[to_null], null
        guide[to_null] = np.arange(rows, rows + len(to_null))
        if self.kind.mixed:
            real[both, len(REAL) + LINEAR + null] = 1.0
        to_snapshot = [row for row in guided if plans[row].by_snapshot]
        guide[to_snapshot] = [self.kind.rows + row for row in to_snapshot]
        self._block.copy_(host, non_blocking=True)


def static_step(denoiser: Denoiser, inputs: StepInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Advance the rows of `inputs`: `advance` without decisions by values, so that a device can replay it.

    state: (rows, STATE, C, H, W). Returns the new state, and the thresholded estimates of x_0.
    """
    kind, whole = inputs.kind, inputs.whole
    real = {name: values.reshape(-1, 1, 1, 1) for name, values in inputs.real.items()}
    x = state[:, 0]
    every, t = x[whole["source"]], whole["t"]
    output, fraction = denoiser.split(denoiser.network(every, t, inputs.labels))
    guides = output
    if kind.by_snapshot:
        assert denoiser.snapshot is not None
        guides = torch.cat([output, denoiser.split(denoiser.snapshot(every, t, inputs.labels))[0]])
    guided = output + (real["guidance"] - 1.0) * (output - guides[whole["guide"]])
    m = _threshold(real["from_x"] * x + real["from_output"] * guided, inputs)

    moved = torch.bmm(inputs.linear[:, :, :STATE], state.flatten(2)).reshape(state.shape)
    moved.addcmul_(inputs.linear[:, :, STATE, None, None, None], m[:, None])
    if kind.noisy:
        scale = real["noise"]
        if fraction is not None:
            scale = scale * (real["spread"] * fraction).exp()
        moved[:, 0] += scale * noise_of(whole["seed"], whole["index"], whole["step"], x.shape[1:])
    return moved, m


def _threshold(x0: Tensor, inputs: StepInputs) -> Tensor:
    """Apply each row's thresholding, as `thresholding.threshold` does. It sorts, since no count may be read."""
    values = x0.abs().flatten(1).sort(dim=1).values
    position = inputs.real["level"] * (values.shape[1] - 1)
    low, high = position.floor().long(), position.ceil().long()
    at_low, at_high = (values.gather(1, place[:, None])[:, 0] for place in (low, high))
    s = torch.lerp(at_low, at_high, position - low).clamp(min=1.0)
    dynamic = inputs.real["dynamic"] != 0.0
    limit = torch.where(dynamic, s, inputs.real["limit"]).reshape(-1, 1, 1, 1)
    return x0.clamp(-limit, limit) / torch.where(dynamic, s, 1.0).reshape(-1, 1, 1, 1)
