"""Draws the rows of one version: keeps their states on the device, and advances them step by step.

`PlainDrawer` calls `advance`. On a GPU, `ReplayingDrawer` records each kind of step once (`replay.py`) and replays it.
Python then asks for four operations a step instead of hundreds, and does not wait for the step.
"""

import time
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from darkroom.app.engine.replay import AHEAD, Flight, Lookahead, Recorder, recording_on
from darkroom.app.engine.row_states import Place, RowStates
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.samplers.step import STATE
from darkroom.model.sampling.draw import RowPlan, advance, start
from darkroom.model.sampling.static_step import StepInputs, StepKind, kind_of, static_step


class Drawer(Protocol):
    """Draws rows of one denoiser. One thread calls it."""

    denoiser: Denoiser

    def begin(self, plans: Sequence[RowPlan]) -> list[Place]:
        """Make the states of rows before their first step."""

    def advance(self, plans: Sequence[RowPlan], positions: Sequence[int], places: Sequence[Place]) -> Tensor:
        """Advance every row by one step; returns the estimates of x_0, which the next call may overwrite.

        If it raises, no state has changed.
        """

    def timed(self, network_rows: int, seconds: float) -> Flight | None:
        """Return a step whose duration is known now, if there is a new one.

        network_rows, seconds: of the last step, as the host has measured it.
        """


class PlainDrawer:
    """Draws by `advance`, and waits for each step."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self._states = RowStates(denoiser.image_shape, denoiser.device)

    def begin(self, plans: Sequence[RowPlan]) -> list[Place]:
        """See Drawer."""
        return self._states.take(start(self.denoiser, plans))

    def advance(self, plans: Sequence[RowPlan], positions: Sequence[int], places: Sequence[Place]) -> Tensor:
        """See Drawer."""
        with self._states.changing(places) as state:
            return advance(self.denoiser, plans, positions, state)

    def timed(self, network_rows: int, seconds: float) -> Flight | None:
        """See Drawer."""
        return Flight(network_rows, seconds)


class ReplayingDrawer:
    """Draws by recordings of `static_step`.

    record: makes a recording of a function without arguments. Tests on the CPU give one that calls the function.
    """

    def __init__(self, denoiser: Denoiser, record: Recorder, ahead: Lookahead) -> None:
        self.denoiser = denoiser
        self._states = RowStates(denoiser.image_shape, denoiser.device)
        self._record, self._ahead = record, ahead
        self._steps: dict[StepKind, _RecordedStep] = {}

    @property
    def recordings(self) -> int:
        """Number of kinds of steps that were recorded."""
        return len(self._steps)

    def begin(self, plans: Sequence[RowPlan]) -> list[Place]:
        """See Drawer."""
        return self._states.take(start(self.denoiser, plans))

    def advance(self, plans: Sequence[RowPlan], positions: Sequence[int], places: Sequence[Place]) -> Tensor:
        """See Drawer. It returns before the step has ended; at most two steps are under way."""
        self._ahead.wait()
        began = time.perf_counter()
        kind = kind_of(plans, positions)
        if kind not in self._steps:
            self._steps[kind] = _RecordedStep(self.denoiser, kind, self._record)
        step = self._steps[kind]
        with self._ahead.flight(sum(plan.network_rows(k) for plan, k in zip(plans, positions, strict=True)), began):
            step.inputs.fill(plans, positions, [place.number for place in places])
            torch.index_select(self._states.tensor, 0, step.inputs.whole["place"], out=step.state)
            step.recording.replay()
            self._states.put(step.inputs.whole["place"], step.moved)
        return step.estimates

    def timed(self, network_rows: int, seconds: float) -> Flight | None:
        """See Drawer."""
        return self._ahead.take()


class _RecordedStep:
    """A recorded step, and the tensors that it reads and writes."""

    def __init__(self, denoiser: Denoiser, kind: StepKind, record: Recorder) -> None:
        self._denoiser = denoiser
        self.inputs = StepInputs(denoiser, kind, hosts=AHEAD)
        self.state = torch.zeros(kind.rows, STATE, *denoiser.image_shape, device=denoiser.device)
        self.moved, self.estimates = torch.zeros_like(self.state), torch.zeros_like(self.state[:, 0])
        self.recording = record(self._compute)

    def _compute(self) -> None:
        moved, estimates = static_step(self._denoiser, self.inputs, self.state)
        self.moved.copy_(moved)
        self.estimates.copy_(estimates)


def make_drawer(denoiser: Denoiser) -> Drawer:
    """Return the drawer for the denoiser's device."""
    if denoiser.device.type != "cuda":
        return PlainDrawer(denoiser)
    return ReplayingDrawer(denoiser, *recording_on(denoiser.device))
