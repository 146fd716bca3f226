"""Scores how well an image shows its class, by the network that drew it: a log-likelihood ratio.

    score(x_0, c) = mean over (t, eps) in S of  |y - f(x_t, t)|^2 - |y - f(x_t, t, c)|^2

with x_t = alpha_t x_0 + sigma_t eps; f is the network's prediction without and with the class, expressed as v; y is the
v of x_t; squares are means over pixels. Each square is a term of the variational bound. Up to the weights of the times,
the difference therefore estimates log p(x_0 | c) - log p(x_0): the diffusion classifier (Li et al. 2023, equations 5
and 6; Clark & Jaini 2023, equation 3). Both squares share their noise, so the difference varies much less than either.
Errors are in v, so scores of networks that predict eps, x_0 or v mean the same.

S is small and fixed: the times TIMES, each with one noise for every image and class. A score therefore depends only on
network, image and class, and scores of one class can be compared. A score does not measure how good an image looks. The
network judges its own work, so it cannot find images that it draws wrongly with confidence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.forward import add_noise
from darkroom.model.diffusion.prediction import convert, training_target
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.images.pixels import from_pixels
from darkroom.model.machine.device import uploaded
from darkroom.model.sampling.noise import normal_noise
from darkroom.model.sampling.suitability import NO_NULL_CLASS

SCORE_NAME = "class-log-likelihood-ratio"

TIMES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
"""Shares of T. With less noise the image shows its class at any label; with more noise hardly anything is visible.
Measured on the shipped model: a term below 0.5 carries no information by itself."""

SCORE_STEPS = len(TIMES)
"""Network calls for one score, each of SCORE_NETWORK_ROWS rows."""

SCORE_NETWORK_ROWS = 2

NOISE_SEED = 0x5C0BE


def score_step(denoiser: Denoiser, images: Tensor, labels: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Return row b's term number steps[b] (0..SCORE_STEPS - 1) of the sum above, (B,) float32 on the CPU.

    images: (B, C, H, W) in -1..1, as `from_pixels` returns them; labels: not the null label. Calls the network once,
    with 2 B rows.
    """
    schedule = make_schedule(denoiser.config.schedule)
    t = torch.tensor([max(1, round(TIMES[step] * schedule.steps)) for step in steps])
    indices = [0] * len(steps)
    eps = normal_noise([NOISE_SEED] * len(steps), indices, steps, images.shape[1:], images.device).to(images.dtype)
    x = add_noise(schedule, images, t, eps)
    target = training_target(schedule, "v", images, eps, t)
    given = uploaded(labels, images.device)
    both = torch.cat([given, torch.full_like(given, denoiser.null_label)])
    x, t = torch.cat([x, x]), t.repeat(2)
    output = denoiser.network(x, uploaded(t, x.device), both)
    output = output[:, : images.shape[1]].to(x.dtype)  # leaves learned variances out
    v = convert(schedule, denoiser.config.prediction, "v", x, output, t)
    error = (v - torch.cat([target, target])).square().flatten(1).mean(1)
    return (error[len(images) :] - error[: len(images)]).float().cpu()


@torch.inference_mode()
def score(denoiser: Denoiser, pixels: Tensor, labels: Sequence[int], *, batch_images: int = 32) -> Tensor:
    """Return the score of each image, (N,) float32 on the CPU. pixels: (N, C, H, W) uint8; labels: a class each.

    Raises ValueError for a label outside the classes, and for a network that never learned to predict without a class.
    """
    if not denoiser.null_class:
        raise ValueError(NO_NULL_CLASS)
    if any(not 0 <= label < denoiser.null_label for label in labels):
        raise ValueError(f"only images of a class in 0..{denoiser.null_label - 1} have a score")
    scores = []
    for first in range(0, len(pixels), batch_images):
        part = slice(first, first + batch_images)
        images, own = from_pixels(pixels[part].to(denoiser.device)), labels[part]
        terms = [score_step(denoiser, images, own, [step] * len(images)) for step in range(SCORE_STEPS)]
        scores.append(torch.stack(terms).mean(0))
    return torch.cat(scores)
