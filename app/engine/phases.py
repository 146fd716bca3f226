"""The two phases of a row: it is drawn, and then scored where that was asked for.

A phase object is one row in its phase. The rows of one engine step are all in the same phase: `advance` computes the
step in one batch, and `results` says what there is to see of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch
from torch import Tensor

from darkroom.app.engine.request import Failed, Pixels, Preview, RowDone, SampleRequest
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.images.pixels import from_pixels, to_pixels
from darkroom.model.sampling.draw import RowPlan, advance, plan_row, start
from darkroom.model.sampling.scoring import SCORE_FORWARD_ROWS, SCORE_STEPS, score_step

NOT_FINITE = Failed("internal", "the model gave values that are not finite")


class Phase(Protocol):
    """One row in its phase."""

    @property
    def steps_left(self) -> int:
        """Steps until the row is finished, a later phase included."""

    @property
    def forward_rows(self) -> int:
        """Rows of the network's batch that the next step takes."""

    @property
    def forward_rows_left(self) -> int:
        """Rows of the network's batch until the row is finished, a later phase included."""

    @classmethod
    def advance(cls, denoiser: Denoiser, phases: Sequence[Self]) -> None:
        """Compute one step of every row. When it raises, no row has moved, and the step can be tried again."""

    @classmethod
    def results(cls, phases: Sequence[Self]) -> "list[Result]":
        """What the step that was just computed brought, one a row."""


Result = Preview | RowDone | Failed | Phase | None
"""An event for the row's owner, or the phase in which the row goes on; None when there is nothing to see yet."""


@dataclass(eq=False)
class Drawing:
    """A row on its way from noise to image.

    row: its number in the request. state: (STATE, C, H, W), None until the first step; estimate: of x_0, (C, H, W).
    """

    row: int
    plan: RowPlan
    scored: bool
    preview_every_steps: int
    position: int = 0
    state: Tensor | None = None
    estimate: Tensor | None = None

    @property
    def steps_left(self) -> int:
        """Phase."""
        return self.plan.steps - self.position + SCORE_STEPS * self.scored

    @property
    def forward_rows(self) -> int:
        """Phase."""
        return self.plan.forward_rows(self.position)

    @property
    def forward_rows_left(self) -> int:
        """Phase."""
        return self.plan.forward_rows_left[self.position] + SCORE_STEPS * SCORE_FORWARD_ROWS * self.scored

    @classmethod
    def advance(cls, denoiser: Denoiser, phases: Sequence[Self]) -> None:
        """Phase."""
        fresh = [one for one in phases if one.state is None]
        if fresh:
            for one, noise in zip(fresh, start(denoiser, [one.plan for one in fresh]), strict=True):
                one.state = noise
        states = torch.stack([one.state for one in phases if one.state is not None])
        plans, positions = [one.plan for one in phases], [one.position for one in phases]
        moved, estimates = advance(denoiser, plans, positions, states)
        if denoiser.device.type == "cuda":
            torch.cuda.synchronize(denoiser.device)  # the step's time, and its faults, belong to this step
        for one, state, estimate in zip(phases, moved, estimates, strict=True):
            one.state, one.estimate = state, estimate
            one.position += 1

    @classmethod
    def results(cls, phases: Sequence[Self]) -> list[Result]:
        """Phase."""
        seen = [(one, image) for one in phases if (image := one._seen()) is not None]
        if not seen:
            return [None] * len(phases)
        images = torch.stack([image for _, image in seen])
        finite = images.isfinite().flatten(1).all(1).tolist()
        found = {
            one: one._result(pixels.copy(), fine)  # a view would keep the whole batch alive
            for (one, _), pixels, fine in zip(seen, to_pixels(images), finite, strict=True)
        }
        return [found.get(one) for one in phases]

    def _seen(self) -> Tensor | None:
        """The image at the end, and on the way the estimate where a preview is due."""
        if self.position == self.plan.steps:
            return None if self.state is None else self.state[0]
        every = self.preview_every_steps
        return self.estimate if every and self.position % every == 0 else None

    def _result(self, pixels: Pixels, finite: bool) -> Result:
        if self.position < self.plan.steps:
            return Preview(self.row, self.position, self.plan.steps, pixels)
        if not finite:
            return NOT_FINITE
        return Scoring.of(self, pixels) if self.scored else RowDone(self.row, pixels)


@dataclass(eq=False)
class Scoring:
    """A drawn row whose image is being scored. image: (C, H, W), what `pixels` shows; terms: of the score so far."""

    row: int
    label: int
    pixels: Pixels
    image: Tensor
    terms: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, drawn: Drawing, pixels: Pixels) -> "Scoring":
        """Scores the image as it is served: pixels (H, W, C)."""
        assert drawn.state is not None
        image = from_pixels(torch.from_numpy(pixels).permute(2, 0, 1).to(drawn.state.device))
        return cls(drawn.row, drawn.plan.label, pixels, image)

    @property
    def steps_left(self) -> int:
        """Phase."""
        return SCORE_STEPS - len(self.terms)

    @property
    def forward_rows(self) -> int:
        """Phase."""
        return SCORE_FORWARD_ROWS

    @property
    def forward_rows_left(self) -> int:
        """Phase."""
        return self.steps_left * SCORE_FORWARD_ROWS

    @classmethod
    def advance(cls, denoiser: Denoiser, phases: Sequence[Self]) -> None:
        """Phase."""
        images, labels = torch.stack([one.image for one in phases]), [one.label for one in phases]
        terms = score_step(denoiser, images, labels, [len(one.terms) for one in phases]).tolist()
        for one, term in zip(phases, terms, strict=True):
            one.terms.append(term)

    @classmethod
    def results(cls, phases: Sequence[Self]) -> list[Result]:
        """Phase."""
        return [one._result() for one in phases]

    def _result(self) -> Result:
        if not math.isfinite(self.terms[-1]):
            return NOT_FINITE
        return None if self.steps_left else RowDone(self.row, self.pixels, sum(self.terms) / len(self.terms))


def drawings(denoiser: Denoiser, request: SampleRequest) -> list[Drawing]:
    """The request's rows at their beginning; raises ValueError for none, or one that the model cannot draw or score."""
    if not request.rows:
        raise ValueError("a request needs at least one row")
    plans = [
        plan_row(
            denoiser,
            row.sampling,
            label=row.class_index,
            seed=row.seed,
            index=row.index,
            end_label=row.end_class_index,
            end_seed=row.end_seed,
            end_index=row.end_index,
            mix=row.mix,
        )
        for row in request.rows
    ]
    if request.scored and any(plan.label != plan.end_label or plan.label == denoiser.null_label for plan in plans):
        raise ValueError("only images of one class have a score")
    return [Drawing(row, plan, request.scored, request.preview_every_steps) for row, plan in enumerate(plans)]
