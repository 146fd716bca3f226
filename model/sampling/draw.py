"""Drawing images: rows with their own settings advance together, one step at a time.

The serving engine and all offline sampling call the same two functions, `start` and `advance`. An image therefore does
not depend on the caller or on the other rows of its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.machine.device import uploaded
from darkroom.model.machine.threads import computing_alone
from darkroom.model.samplers import StepTable, step_table
from darkroom.model.samplers.step import STATE
from darkroom.model.sampling.guidance import network_rows_left
from darkroom.model.sampling.interpolation import slerp
from darkroom.model.sampling.noise import normal_noise
from darkroom.model.sampling.step_numbers import (
    AFFINE,
    NOISE,
    REAL,
    SPREAD,
    TIME,
    TO_NULL,
    TO_SNAPSHOT,
    Steps,
    step_numbers,
)
from darkroom.model.sampling.suitability import NO_NULL_CLASS, needs_null_class
from darkroom.model.sampling.thresholding import threshold


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Everything that determines one image, given the denoiser.

    label, end_label, mix: the class, or the mixture (1 - mix) label + mix end_label of two classes.
    (seed, index), (end_seed, end_index), mix: the start noise, or the spherical mixture of two.
    guidance: the weight of guided steps; 1 for none.
    network_rows_left: network rows still to compute from each position on (`model/sampling/guidance.py`).
    numbers: of each step (`model/sampling/step_numbers.py`).
    """

    label: int
    end_label: int
    seed: int
    end_seed: int
    mix: float
    index: int
    end_index: int
    guidance: float
    sampling: SamplingConfig
    table: StepTable
    network_rows_left: tuple[int, ...]
    numbers: Steps

    @property
    def by_snapshot(self) -> bool:
        """True when the snapshot guides, in place of "no class"."""
        return self.sampling.guide == "snapshot"

    @property
    def steps(self) -> int:
        """Number of steps; each calls the network once."""
        return len(self.table.noise)

    def network_rows(self, position: int) -> int:
        """Return the network rows of the step at this position: two where it is guided, else one."""
        return self.network_rows_left[position] - self.network_rows_left[position + 1]


def plan_row(
    denoiser: Denoiser,
    sampling: SamplingConfig,
    *,
    label: int | None,
    seed: int,
    index: int = 0,
    end_label: int | None = None,
    end_seed: int | None = None,
    end_index: int | None = None,
    mix: float = 0.0,
) -> RowPlan:
    """Resolve one image's settings. label None, or guidance 0 with guide `unconditional`, draws without a class.

    Raises ValueError for a label, step count, guide or variance that the model does not have, and for settings that
    need a prediction without a class from a model that never learned it.
    """
    null = denoiser.null_label
    for candidate in (label, end_label):
        if candidate is not None and not 0 <= candidate < null:
            raise ValueError(f"class {candidate} is not in 0..{null - 1}")
    if (label is None or needs_null_class(sampling)) and not denoiser.null_class:
        raise ValueError(NO_NULL_CLASS)
    by_snapshot = sampling.guide == "snapshot"
    if by_snapshot and denoiser.snapshot is None:
        raise ValueError("the model carries no snapshot to guide by")
    if sampling.variance == "learned" and not denoiser.config.learned_variance:
        raise ValueError("the model has not learned variances")
    unconditional = label is None or sampling.unconditional
    guidance = 1.0 if unconditional and not by_snapshot else sampling.guidance
    first = null if label is None or unconditional else label
    return RowPlan(
        label=first,
        end_label=first if unconditional or end_label is None else end_label,
        seed=seed,
        end_seed=seed if end_seed is None else end_seed,
        mix=mix,
        index=index,
        end_index=index if end_index is None else end_index,
        guidance=guidance,
        sampling=sampling,
        table=step_table(denoiser.config.schedule, sampling),
        network_rows_left=network_rows_left(denoiser.config.schedule, sampling, guidance),
        numbers=step_numbers(denoiser.config.schedule, denoiser.config.prediction, sampling, guidance),
    )


def start(denoiser: Denoiser, plans: Sequence[RowPlan]) -> Tensor:
    """Return the state (B, STATE, C, H, W) of rows before their first step."""
    indices = [plan.index for plan in plans]
    zeros = [0] * len(plans)
    shape, device = denoiser.image_shape, denoiser.device
    noise = normal_noise([plan.seed for plan in plans], indices, zeros, shape, device)
    if any((plan.end_seed, plan.end_index) != (plan.seed, plan.index) for plan in plans):
        end_indices = [plan.end_index for plan in plans]
        end = normal_noise([plan.end_seed for plan in plans], end_indices, zeros, shape, device)
        noise = slerp(noise, end, uploaded([plan.mix for plan in plans], device))
    state = torch.zeros(len(plans), STATE, *shape, device=device)
    state[:, 0] = noise
    return state


def _labels(denoiser: Denoiser, plans: Sequence[RowPlan]) -> Tensor:
    if all(plan.label == plan.end_label for plan in plans):
        return uploaded([plan.label for plan in plans], denoiser.device)
    return uploaded(mixtures(plans, denoiser.null_label), denoiser.device)


def mixtures(plans: Sequence[RowPlan], null_label: int) -> npt.NDArray[np.float32]:
    """Return the rows' mixtures of labels, (B, null_label + 1)."""
    mixture = np.zeros((len(plans), null_label + 1), dtype=np.float32)
    for row, plan in enumerate(plans):
        mixture[row, plan.label] += 1.0 - plan.mix
        mixture[row, plan.end_label] += plan.mix
    return mixture


def advance(denoiser: Denoiser, plans: Sequence[RowPlan], positions: Sequence[int], state: Tensor) -> Tensor:
    """Advance every row by one step: row b goes from its time number positions[b] to the next.

    state: (B, STATE, C, H, W). It becomes the new state, unless the step raises. Returns the thresholded estimates of
    x_0, (B, C, H, W).
    """
    x = state[:, 0]
    host = np.array([plan.numbers[k] for plan, k in zip(plans, positions, strict=True)])
    numbers, t = uploaded(host, x.device), torch.from_numpy(host[:, TIME].astype(np.int64))
    to_null, to_snapshot = host[:, TO_NULL] != 0.0, host[:, TO_SNAPSHOT] != 0.0
    m, fraction = denoiser.estimate_by(numbers[:, AFFINE], x, t, _labels(denoiser, plans), to_null, to_snapshot)
    modes = [plan.sampling.threshold for plan in plans]
    if any(mode != "none" for mode in modes):
        m = threshold(m, modes, [plan.sampling.percentile for plan in plans])
    noisy: list[int] = host[:, NOISE].nonzero()[0].tolist()
    noise = None
    if noisy:
        noise_rows = uploaded(noisy, x.device)
        chosen = [(plans[row], positions[row]) for row in noisy]
        noise = _noise(denoiser, chosen, numbers[noise_rows], None if fraction is None else fraction[noise_rows])

    # The state changes last, because a step that fails must change no row.
    linear = numbers[:, len(REAL) :].reshape(-1, STATE, STATE + 1)
    if any(plan.table.uses_memory for plan in plans):
        moved = torch.bmm(linear[..., :STATE], state.flatten(2)).reshape(state.shape)
        torch.addcmul(moved, linear[..., STATE:, None, None], m[:, None], out=state)
    else:
        x.mul_(linear[:, 0, :1, None, None]).addcmul_(linear[:, 0, STATE:, None, None], m)
    if noise is not None:
        x.index_add_(0, noise_rows, noise)
    return m


def _noise(denoiser: Denoiser, rows: Sequence[tuple[RowPlan, int]], numbers: Tensor, fraction: Tensor | None) -> Tensor:
    """Return the noise of rows, each a plan and a position, in this step. fraction: see `Denoiser.estimate`."""
    z = normal_noise(
        [plan.seed for plan, _ in rows],
        [plan.index for plan, _ in rows],
        [position + 1 for _, position in rows],
        denoiser.image_shape,
        denoiser.device,
    )
    own = numbers[:, :, None, None, None]
    scale = own[:, NOISE]
    if fraction is not None:
        scale = scale * (own[:, SPREAD] * fraction).exp()
    return scale * z


@torch.inference_mode()
@computing_alone()
def sample(denoiser: Denoiser, plans: Sequence[RowPlan], *, batch_rows: int = 64) -> Tensor:
    """Draw the planned images from start noise to the end; returns (N, C, H, W), about in -1..1."""
    images = []
    for first in range(0, len(plans), batch_rows):
        batch = plans[first : first + batch_rows]
        state = start(denoiser, batch)
        for k in range(max(plan.steps for plan in batch)):
            active = [row for row, plan in enumerate(batch) if k < plan.steps]
            rows = uploaded(active, denoiser.device)
            moved = state[rows]
            advance(denoiser, [batch[row] for row in active], [k] * len(active), moved)
            state[rows] = moved
        images.append(state[:, 0])
    return torch.cat(images)


TRIAL_STEPS = 10


def draws_finite(denoiser: Denoiser) -> bool:
    """Draw one image by ddim in TRIAL_STEPS steps without thresholding; return True when it is finite.

    Finite weights can still be so large that the network overflows. Costs TRIAL_STEPS network calls of one row, and as
    many of the snapshot, if there is one.
    """
    guided = {} if denoiser.snapshot is None else {"guidance": 2.0, "guide": "snapshot"}
    steps = min(TRIAL_STEPS, denoiser.config.schedule.steps)
    plain = SamplingConfig(sampler="ddim", steps=steps, threshold="none")
    plan = plan_row(denoiser, plain.model_copy(update=guided), label=0, seed=0)
    return bool(sample(denoiser, [plan]).isfinite().all())
