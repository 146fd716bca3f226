"""The samplers step by step against diffusers' schedulers, which are written quite otherwise."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import SamplingConfig, ScheduleConfig, ScheduleName
from model.prediction import to_x0
from model.samplers import StepTable, step_table
from model.samplers.step import ADVANCE, CORRECT, NOISE
from model.schedule import NoiseSchedule, make_schedule

DIFFUSERS: Any = diffusers  # has no types
SHAPE = (2, 1, 4, 4)


def network(x: Tensor, t: int) -> Tensor:
    """Some smooth, non-linear eps-prediction."""
    return 0.9 * x + 0.3 * torch.sin(3.0 * x + t / 300.0)


def step(
    schedule: NoiseSchedule, table: StepTable, k: int, state: list[Tensor], noise: Tensor
) -> tuple[list[Tensor], Tensor]:
    """One step by the formula in model/samplers/step.py, in float64; returns the state and the network's output."""
    x, previous, h1, h2 = state
    t = int(table.times[k])
    output = network(x, t)
    m = to_x0(schedule, "eps", x, output, torch.full((len(x),), t))
    row = table.coefficients[k].tolist()
    corrected = sum(c * point for c, point in zip(row[:CORRECT], (x, previous, m, h1, h2), strict=True))
    assert isinstance(corrected, Tensor)
    moved = row[NOISE] * noise
    for c, point in zip(row[CORRECT : CORRECT + ADVANCE], (corrected, m, h1, h2), strict=True):
        moved = moved + c * point
    return [moved, corrected, m, h1], output


def beginning() -> tuple[list[Tensor], torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return [x, *[torch.zeros_like(x)] * 3], generator


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [4, 20, 1000])
def test_ddim(name: ScheduleName, eta: float, steps: int) -> None:
    config = ScheduleConfig(name=name, steps=1000)
    schedule = make_schedule(config)
    table = step_table(config, SamplingConfig(sampler="ddim", eta=eta, steps=steps))
    theirs = DIFFUSERS.DDIMScheduler(
        num_train_timesteps=1000, trained_betas=schedule.beta[1:], clip_sample=False, timestep_spacing="trailing"
    )
    theirs.alphas_cumprod = torch.tensor(schedule.alpha_bar[1:])
    theirs.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    theirs.set_timesteps(steps)
    assert (theirs.timesteps.numpy() + 1 == table.times[:-1]).all()

    state, generator = beginning()
    for k, t in enumerate(theirs.timesteps.tolist()):
        noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        x = state[0]
        state, output = step(schedule, table, k, state, noise)
        expected = theirs.step(output, t, x, eta=eta, variance_noise=noise if eta else None).prev_sample
        torch.testing.assert_close(state[0], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_multistep(name: ScheduleName, sampler: str, steps: int) -> None:
    config = ScheduleConfig(name=name, steps=1000)
    schedule = make_schedule(config)
    table = step_table(config, SamplingConfig.model_validate({"sampler": sampler, "steps": steps}))
    settings = {"solver_order": 2, "final_sigmas_type": "zero", "timestep_spacing": "trailing"}
    if sampler == "dpmpp_2m":
        theirs = DIFFUSERS.DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++", solver_type="midpoint", lower_order_final=False, **settings
        )
    else:
        theirs = DIFFUSERS.UniPCMultistepScheduler(
            solver_type="bh2", predict_x0=True, lower_order_final=True, **settings
        )
    theirs.set_timesteps(steps)
    # Their tables hold sigma / alpha; ours in their place, so that both step between the very same points.
    theirs.sigmas = torch.tensor(schedule.sigma[table.times] / schedule.alpha[table.times])
    theirs.timesteps = torch.tensor(table.times[:-1] - 1)

    state, generator = beginning()
    x = state[0]
    for k, t in enumerate(theirs.timesteps.tolist()):
        state, output = step(schedule, table, k, [x, *state[1:]], torch.randn(SHAPE, generator=generator))
        x = theirs.step(output, t, x).prev_sample
        # Theirs rounds to float32 on the way.
        scale = float(x.abs().max())
        np.testing.assert_allclose(state[0].numpy(), x.double().numpy(), rtol=0, atol=1e-5 * scale)
