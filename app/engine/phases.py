"""The two phases of a row: the engine draws it, and then scores it if its request asks for scores.

A phase object is one row in its phase. All rows of one engine step are in the same phase: `advance` computes the step
in one batch, and `results` returns what it produced.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import torch
from torch import Tensor

from darkroom.app.engine.drawer import Drawer
from darkroom.app.engine.request import Failed, Pixels, Preview, RowDone, SampleRequest
from darkroom.app.engine.row_states import Place
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.images.pixels import from_pixels, to_pixels_and_finite
from darkroom.model.sampling.draw import RowPlan, plan_row
from darkroom.model.sampling.scoring import SCORE_NETWORK_ROWS, SCORE_STEPS, score_step

NOT_FINITE = Failed("internal", "the model gave values that are not finite")


class Phase(Protocol):
    """One row in its phase."""

    @property
    def steps_left(self) -> int:
        """Steps until the row is finished, including those of a later phase."""

    @property
    def network_rows(self) -> int:
        """Network rows of the next step."""

    @property
    def network_rows_left(self) -> int:
        """Network rows until the row is finished, including those of a later phase."""

    @classmethod
    def advance(cls, drawer: Drawer, phases: Sequence[Self]) -> None:
        """Compute one step of every row. If it raises, no row has changed, and the caller may try again."""

    @classmethod
    def results(cls, phases: Sequence[Self]) -> "list[Result]":
        """Return what the last step produced, one result a row."""


Result = Preview | RowDone | Failed | Phase | None
"""An event for the client, or the row's next phase; None when the step produced nothing to send."""


@dataclass(eq=False)
class Drawing:
    """A row that is being drawn, from noise to image.

    row: its number in the request. place: of its state, None until the first step. estimate: of x_0, (C, H, W), when a
    preview is due, else None.
    """

    row: int
    plan: RowPlan
    scored: bool
    preview_every_steps: int
    position: int = 0
    place: Place | None = None
    estimate: Tensor | None = None

    @property
    def steps_left(self) -> int:
        """See Phase."""
        return self.plan.steps - self.position + SCORE_STEPS * self.scored

    @property
    def network_rows(self) -> int:
        """See Phase. Other threads ask, too, while the engine's thread makes the last step."""
        position = self.position
        return self.plan.network_rows(position) if position < self.plan.steps else SCORE_NETWORK_ROWS

    @property
    def network_rows_left(self) -> int:
        """See Phase."""
        return self.plan.network_rows_left[self.position] + SCORE_STEPS * SCORE_NETWORK_ROWS * self.scored

    @classmethod
    def advance(cls, drawer: Drawer, phases: Sequence[Self]) -> None:
        """See Phase."""
        fresh = [one for one in phases if one.place is None]
        if fresh:
            for one, place in zip(fresh, drawer.begin([one.plan for one in fresh]), strict=True):
                one.place = place
        places = [one.place for one in phases if one.place is not None]
        plans, positions = [one.plan for one in phases], [one.position for one in phases]
        estimates = drawer.advance(plans, positions, places)
        for row, one in enumerate(phases):
            one.position += 1
            one.estimate = estimates[row] if one._preview_due else None  # `results` copies it before the next step

    @classmethod
    def results(cls, phases: Sequence[Self]) -> list[Result]:
        """See Phase."""
        visible = [(one, image) for one in phases if (image := one._visible()) is not None]
        if not visible:
            return [None] * len(phases)
        images = torch.stack([image for _, image in visible])
        read = zip(visible, to_pixels_and_finite(images), strict=True)
        found = {one: one._result(pixels, finite) for (one, _), (pixels, finite) in read}
        for one in phases:
            one.estimate = None  # on a CPU it is a view, too
        return [found.get(one) for one in phases]

    def _visible(self) -> Tensor | None:
        """Return the image after the last step, the estimate when a preview is due, else None."""
        if self.position == self.plan.steps:
            return None if self.place is None else self.place.image
        return self.estimate

    @property
    def _preview_due(self) -> bool:
        every = self.preview_every_steps
        return bool(every) and self.position % every == 0

    def _result(self, pixels: Pixels, finite: bool) -> Result:
        if self.position < self.plan.steps:
            return Preview(self.row, self.position, self.plan.steps, pixels)
        if not finite:
            return NOT_FINITE
        return Scoring.of(self, pixels) if self.scored else RowDone(self.row, pixels)


@dataclass(eq=False)
class Scoring:
    """A drawn row whose image is being scored. image: `pixels` as (C, H, W); terms: the score's terms so far."""

    row: int
    label: int
    pixels: Pixels
    image: Tensor
    terms: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, drawn: Drawing, pixels: Pixels) -> "Scoring":
        """Begin to score the image that is served. pixels: (H, W, C), rounded to uint8."""
        assert drawn.place is not None
        image = from_pixels(torch.from_numpy(pixels).permute(2, 0, 1).to(drawn.place.image.device))
        return cls(drawn.row, drawn.plan.label, pixels, image)

    @property
    def steps_left(self) -> int:
        """See Phase."""
        return SCORE_STEPS - len(self.terms)

    @property
    def network_rows(self) -> int:
        """See Phase."""
        return SCORE_NETWORK_ROWS

    @property
    def network_rows_left(self) -> int:
        """See Phase."""
        return self.steps_left * SCORE_NETWORK_ROWS

    @classmethod
    def advance(cls, drawer: Drawer, phases: Sequence[Self]) -> None:
        """See Phase."""
        images, labels = torch.stack([one.image for one in phases]), [one.label for one in phases]
        terms = score_step(drawer.denoiser, images, labels, [len(one.terms) for one in phases]).tolist()
        for one, term in zip(phases, terms, strict=True):
            one.terms.append(term)

    @classmethod
    def results(cls, phases: Sequence[Self]) -> list[Result]:
        """See Phase."""
        return [one._result() for one in phases]

    def _result(self) -> Result:
        if not math.isfinite(self.terms[-1]):
            return NOT_FINITE
        return None if self.steps_left else RowDone(self.row, self.pixels, sum(self.terms) / len(self.terms))


def drawings(denoiser: Denoiser, request: SampleRequest) -> list[Drawing]:
    """Return the request's rows before their first step.

    Raises ValueError for a request without rows, or with a row that the model cannot draw or score.
    """
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
        raise ValueError("a score needs rows of exactly one class: no interpolation between classes, no null class")
    return [Drawing(row, plan, request.scored, request.preview_every_steps) for row, plan in enumerate(plans)]
