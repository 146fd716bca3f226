"""Looks at a running training: its losses on a few pictures, and its sample grid (`verdict.py` judges both)."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from darkroom.model.diffusion.forward import add_noise
from darkroom.model.diffusion.prediction import from_x0, per_row, to_x0, training_target
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.figure import Figure
from darkroom.model.images.pixels import from_pixels
from darkroom.model.training.finding import JUDGED_FROM, Finding
from darkroom.model.training.forecast import (
    LITTLE_NOISE,
    METRIC,
    Anchors,
    Forecast,
    Measured,
    corrected_forecast,
    expected_at,
    noise_left,
)
from darkroom.model.training.objective import loss_weights, row_losses
from darkroom.model.training.time_sampling import TimeSampler
from darkroom.model.training.trainer import Trainer
from darkroom.model.training.verdict import (
    Reference,
    judge_data,
    judge_distance,
    judge_losses,
    judge_pictures,
    judge_speed,
    look_at_training,
)

PROBED = 128
"""Training pictures on which a look compares losses. Always the same ones, with the same noise."""
LEARNED_BY_IMAGES = 50_000
"""Images after which the loss must be better than a guess at each pixel alone, at the latest after JUDGED_FROM. The
averaged weights of four short runs were better after at most 2,000 (digits) to 16,000 images (emoji)."""
HOPELESS_FROM = 0.7
"""Share of the run from which noise ends a run that has not learned anything either."""
HOPELESS_IMAGES = 5_000
"""Images from which noise may do so."""


class Inspection:
    """Looks at one run. findings: of the last look, None before the first."""

    def __init__(self, trainer: Trainer) -> None:
        recipe, data = trainer.recipe, trainer.dataset
        self._trainer = trainer
        self.findings: tuple[Finding, ...] | None = None
        self._measured: Measured | None = None
        self._anchors: Anchors | None = None
        self._schedule = make_schedule(recipe.model.schedule)
        self._weights = loss_weights(self._schedule, recipe.model.prediction, recipe.objective)
        generator = torch.Generator().manual_seed(0)
        rows = np.sort(np.random.default_rng(0).permutation(len(data))[: max(PROBED, 2)])
        self._x0 = from_pixels(torch.from_numpy(data.images[rows]))
        self._labels = torch.from_numpy(data.labels[rows])
        self._t = TimeSampler(self._schedule, recipe.objective.times).draw(len(rows), generator)
        self._eps = torch.randn(self._x0.shape, generator=generator)

    @cached_property
    def _reference(self) -> Reference:
        data, training = self._trainer.dataset, self._trainer.recipe.training
        flipped = training.flipped(data.class_names)
        return look_at_training(data.images, data.labels, data.class_names, flipped=flipped)

    @property
    def done(self) -> float:
        """The share of the run that is done."""
        return self._trainer.place / self._trainer.recipe.training.total_images

    @property
    def forecast(self) -> Forecast | None:
        """The distance at the end, by what the run has measured; None before its first evaluation, and at the end."""
        if self._measured is None or self._anchors is None or self._trainer.ended:
            return None
        return corrected_forecast(self._measured, self._anchors)

    def see(self, figures: Sequence[Figure], anchors: Callable[[], Anchors]) -> None:
        """Take the figures of an evaluation at this moment. anchors: returns those of the data set."""
        found = [figure.value for figure in figures if figure.metric == METRIC]
        if not found:
            return
        if self._anchors is None:
            self._anchors = anchors()
        self._measured = Measured(self.done, found[0], self.noise_left())

    def look(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> tuple[Finding, ...]:
        """Return the findings at this moment. images: a sample grid, (N, C, S, S); labels: (N,)."""
        late = self.done >= JUDGED_FROM
        findings = judge_losses(**self.losses())
        exploded = any(finding.kind == "exploded" for finding in findings)
        if not (exploded or late or self._trainer.images_seen >= LEARNED_BY_IMAGES):
            findings = []
        if late and not exploded:
            findings += judge_pictures(self._reference, images, labels)
        findings += judge_speed(self._trainer.images_seen, self._trainer.place)
        if self._measured is not None:
            expected = expected_at(self._trainer.recipe, self._measured.share)
            findings += judge_distance(self._measured.distance, expected)
        self.findings = (*findings, *judge_data(self._reference))
        return self.findings

    @torch.no_grad()
    def losses(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the losses of `judge_losses` by name, each (PROBED,). Changes nothing in the run."""
        prediction, x0, t = self._trainer.recipe.model.prediction, self._x0, self._t
        x = add_noise(self._schedule, x0, t, self._eps)
        target = training_target(self._schedule, prediction, x0, self._eps, t)
        outputs = self._outputs(x, t)
        outputs["linear"] = from_x0(self._schedule, prediction, x, self._linear(x), t)
        outputs["zeros"] = torch.zeros_like(x0)
        return {name: row_losses(self._weights, output, target, t).double().numpy() for name, output in outputs.items()}

    @torch.no_grad()
    def noise_left(self) -> float:
        """Return the share of a little noise that the averaged weights leave in training pictures."""
        alpha, sigma = self._schedule.alpha, self._schedule.sigma
        time = 1 + int(np.abs(sigma - LITTLE_NOISE * alpha)[1:].argmin())
        t = torch.full_like(self._t, time)
        x = add_noise(self._schedule, self._x0, t, self._eps)
        output = self._outputs(x, t)["average"]
        error = (to_x0(self._schedule, self._trainer.recipe.model.prediction, x, output, t) - self._x0).square().mean()
        return noise_left(float(error), alpha[time], sigma[time])

    def _outputs(self, x: Tensor, t: Tensor) -> dict[str, Tensor]:
        """Return what the weights and their average predict for x (PROBED, C, S, S), on the CPU."""
        network, device = self._trainer.network, self._trainer.device
        given = (x.to(device), t.to(device), self._labels.to(device))
        was_training = network.training
        network.eval()
        outputs = {
            "weights": network(*given),
            "average": functional_call(network, dict(self._trainer.ema.weights), given),
        }
        network.train(was_training)
        return {name: output[:, : x.shape[1]].float().cpu() for name, output in outputs.items()}

    def _linear(self, x: Tensor) -> Tensor:
        """Return the least-squares estimate of the clean images from each pixel of x (B, C, S, S) alone."""
        alpha, sigma = per_row(self._schedule.alpha, self._t, x), per_row(self._schedule.sigma, self._t, x)
        mean, variance = self._x0.mean(0), self._x0.var(0, correction=0)
        return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * mean)


def hopeless(findings: Sequence[Finding], done: float, images_seen: int) -> Finding | None:
    """Return the finding for which a run should end early, or None. done: share of the run.

    An exploded loss ends it at once. Noise ends it only after HOPELESS_FROM, and when the loss says the same: the last
    steps of a run with a falling learning rate take away much noise. A run of less than HOPELESS_IMAGES goes on: its
    end would save nothing.
    """
    kinds = {finding.kind: finding for finding in findings if finding.severity == "failure"}
    if "exploded" in kinds:
        return kinds["exploded"]
    if done >= HOPELESS_FROM and images_seen >= HOPELESS_IMAGES and "not_learning" in kinds:
        return kinds.get("noise")
    return None
