"""The samplers, step by step, against diffusers' schedulers, an independent implementation."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from darkroom.model.config import SamplingConfig, ScheduleConfig, ScheduleName, SpacingName
from darkroom.model.diffusion.prediction import to_x0
from darkroom.model.diffusion.schedule import NoiseSchedule, make_schedule
from darkroom.model.samplers import StepTable, step_table
from darkroom.model.samplers.step import STATE

DIFFUSERS: Any = diffusers  # has no types
SHAPE = (2, 1, 4, 4)


def network(x: Tensor, t: int) -> Tensor:
    """A smooth, non-linear eps-prediction."""
    return 0.9 * x + 0.3 * torch.sin(3.0 * x + t / 300.0)


def step(schedule: NoiseSchedule, table: StepTable, k: int, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Compute one step by the formula in model/samplers/step.py, in float64; returns state and network output."""
    t = int(table.times[k])
    output = network(state[0], t)
    m = to_x0(schedule, "eps", state[0], output, torch.full((len(noise),), t))
    moved = torch.tensordot(torch.from_numpy(table.linear[k].copy()), torch.stack([*state, m]), 1)
    moved[0] += table.noise[k] * noise
    return moved, output


def beginning() -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    state = torch.zeros(STATE, *SHAPE, dtype=torch.float64)
    state[0] = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return state, generator


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
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc", "unipc_3"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_multistep(name: ScheduleName, sampler: str, steps: int) -> None:
    config = ScheduleConfig(name=name, steps=1000)
    schedule = make_schedule(config)
    table = step_table(config, SamplingConfig.model_validate({"sampler": sampler, "steps": steps}))
    settings = {
        "solver_order": 3 if sampler == "unipc_3" else 2,
        "final_sigmas_type": "zero",
        "timestep_spacing": "trailing",
    }
    if sampler == "dpmpp_2m":
        theirs = DIFFUSERS.DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++", solver_type="midpoint", lower_order_final=False, **settings
        )
    else:
        theirs = DIFFUSERS.UniPCMultistepScheduler(
            solver_type="bh2", predict_x0=True, lower_order_final=True, **settings
        )
    theirs.set_timesteps(steps)
    # Their tables hold sigma / alpha. We replace them by ours, so that both step between the same points.
    theirs.sigmas = torch.tensor(schedule.sigma[table.times] / schedule.alpha[table.times])
    theirs.timesteps = torch.tensor(table.times[:-1] - 1)

    state, generator = beginning()
    for k, t in enumerate(theirs.timesteps.tolist()):
        x = state[0]
        state, output = step(schedule, table, k, state, torch.randn(SHAPE, generator=generator))
        expected = theirs.step(output, t, x).prev_sample.double()
        # Their scheduler rounds to float32 between steps.
        np.testing.assert_allclose(state[0].numpy(), expected.numpy(), rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("spacing", ["trailing", "edm"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_ipndm(name: ScheduleName, spacing: SpacingName, steps: int) -> None:
    config = ScheduleConfig(name=name, steps=1000)
    schedule = make_schedule(config)
    table = step_table(config, SamplingConfig(sampler="ipndm", steps=steps, spacing=spacing))
    theirs = DIFFUSERS.IPNDMScheduler()
    theirs.set_timesteps(steps)
    # Here `betas` and `alphas` are diffusers' names for the factors of noise and signal.
    theirs.betas = torch.tensor(schedule.sigma[table.times])
    theirs.alphas = torch.tensor(schedule.alpha[table.times])
    theirs.timesteps = torch.tensor(table.times[:-1] - 1)

    state, generator = beginning()
    for k, t in enumerate(theirs.timesteps.tolist()):
        x = state[0]
        state, eps = step(schedule, table, k, state, torch.randn(SHAPE, generator=generator))
        sigma, alpha = schedule.sigma[t + 1], schedule.alpha[t + 1]
        v = (eps - sigma * x) / alpha
        expected = theirs.step(v, t, x).prev_sample
        if k < steps - 1:  # theirs keeps its order in the step to t = 0; ours ends on the estimate
            torch.testing.assert_close(state[0], expected, rtol=1e-6, atol=1e-8)
        else:
            torch.testing.assert_close(state[0], (x - sigma * eps) / alpha, rtol=1e-6, atol=1e-8)
