"""Drawing images: guidance, mixed batches, seeds and prefixes."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from darkroom.model.config import PredictionName, SamplerName, SamplingConfig, ScheduleConfig, ThresholdName
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.images.pixels import from_pixels, to_pixels
from darkroom.model.samplers import step_table
from darkroom.model.sampling.draw import RowPlan, advance, plan_row, sample, start
from darkroom.model.sampling.noise import normal_noise
from tests.model.gaussian import Gaussian
from tests.model.small import small_denoiser

GREY_LEVEL = 2.0 / 255.0
"""One pixel value in the range -1..1."""


def only_conditional(denoiser: Denoiser, label: int) -> Denoiser:
    """Return the same denoiser with a network that ignores labels and always uses `label`."""

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return denoiser.network(x, t, torch.full_like(labels, label))

    return Denoiser(denoiser.config, denoiser.class_names, network)


def test_ddim_with_eta_1_is_ddpm_with_beta_tilde() -> None:
    schedule = ScheduleConfig()
    for steps in (1000, 250, 7):
        ddpm = step_table(schedule, SamplingConfig(sampler="ddpm", variance="beta_tilde", steps=steps))
        ddim = step_table(schedule, SamplingConfig(sampler="ddim", eta=1.0, steps=steps))
        assert (ddpm.times == ddim.times).all()
        np.testing.assert_allclose(ddim.linear, ddpm.linear, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(ddim.noise, ddpm.noise, rtol=1e-8, atol=1e-10)


def test_ddim_with_eta_1_draws_the_images_of_ddpm() -> None:
    data = Gaussian(np.linspace(-0.8, 0.8, 16), np.linspace(0.1, 0.9, 16))
    denoiser = data.denoiser("eps", ScheduleConfig(), side=4)
    images = [
        sample(denoiser, [plan_row(denoiser, sampling, label=0, seed=1, index=index) for index in range(4)])
        for sampling in (
            SamplingConfig(sampler="ddpm", variance="beta_tilde", steps=1000),
            SamplingConfig(sampler="ddim", eta=1.0, steps=1000),
        )
    ]
    torch.testing.assert_close(images[0], images[1], rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_1_is_conditional_and_0_unconditional_bit_for_bit(sampler: SamplerName) -> None:
    denoiser = small_denoiser()
    plain = SamplingConfig(sampler=sampler, steps=5, guidance=1.0)
    rows = range(3)

    def draw(of: Denoiser, sampling: SamplingConfig, label: int | None) -> Tensor:
        return sample(of, [plan_row(of, sampling, label=label, seed=2, index=index) for index in rows])

    conditional = draw(denoiser, plain, 1)
    assert torch.equal(conditional, draw(only_conditional(denoiser, 1), plain, 0))
    unconditional = draw(denoiser, plain.model_copy(update={"guidance": 0.0}), 1)
    null = denoiser.null_label
    assert torch.equal(unconditional, draw(only_conditional(denoiser, null), plain, 0))
    assert torch.equal(unconditional, draw(denoiser, plain, None))
    assert torch.equal(unconditional, draw(denoiser, plain.model_copy(update={"guidance": 3.0}), None))
    assert not torch.allclose(conditional, unconditional, atol=0.01)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 2.0, 7.5])
def test_guidance_combines_estimates_as_equation_6(prediction: PredictionName, w: float) -> None:
    denoiser = small_denoiser(prediction)
    x, t, labels = torch.randn(4, 1, 8, 8), torch.tensor([1, 200, 500, 700]), torch.tensor([0, 1, 2, 0])
    ones, null = torch.ones(4, dtype=torch.float64), torch.full((4,), 3)
    conditional = denoiser.estimate(x, t, labels, ones)[0]
    unconditional = denoiser.estimate(x, t, null, ones)[0]
    guided = denoiser.estimate(x, t, labels, w * ones)[0]
    torch.testing.assert_close(guided, w * conditional + (1 - w) * unconditional, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("guidance", "label", "rows"), [(1.0, 0, 1), (0.0, 0, 1), (2.0, None, 1), (2.0, 0, 2)])
def test_only_guided_rows_cost_two_network_rows(guidance: float, label: int | None, rows: int) -> None:
    inner = small_denoiser()
    seen: list[int] = []

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        seen.append(len(x))
        return inner.network(x, t, labels)

    denoiser = Denoiser(inner.config, inner.class_names, network)
    plan = plan_row(denoiser, SamplingConfig(guidance=guidance, steps=4), label=label, seed=0)
    sample(denoiser, [plan])
    assert plan.network_rows_left == (4 * rows, 3 * rows, 2 * rows, rows, 0)
    assert seen == [rows] * 4


def mixed_plans(denoiser: Denoiser) -> list[RowPlan]:
    thresholds: list[ThresholdName] = ["dynamic", "static", "dynamic"]
    plans = []
    for position, (sampler, w) in enumerate(itertools.product(SAMPLERS, (0.0, 1.0, 2.5))):
        sampling = SamplingConfig(
            sampler=sampler,
            guidance=w,
            steps=(50, 20, 50, 7)[position % 4],
            threshold=thresholds[position % 3],
            percentile=(0.9, 0.995, 0.5)[position // 2 % 3],
            eta=(0.0, 0.5, 1.0)[position % 3],
            variance="beta" if position % 2 else "beta_tilde",
        )
        plans.append(plan_row(denoiser, sampling, label=position % 3, seed=position // 5, index=position))
    blend = SamplingConfig(sampler="unipc", guidance=2.0, steps=50, threshold="dynamic")
    plans.append(plan_row(denoiser, blend, label=0, end_label=2, seed=8, end_seed=9, mix=0.4))
    return plans


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_row_in_a_mixed_batch_is_what_it_is_alone(prediction: PredictionName) -> None:
    denoiser = small_denoiser(prediction)
    plans = mixed_plans(denoiser)
    together = sample(denoiser, plans)
    assert together.flatten(1).std(dim=1).min() > 0.05
    for plan, image in zip(plans, together, strict=True):
        alone = sample(denoiser, [plan])[0]
        assert (alone - image).abs().max() < GREY_LEVEL, plan.sampling
    reverse = sample(denoiser, plans[::-1], batch_rows=5).flip(0)
    assert (reverse - together).abs().max() < GREY_LEVEL


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_at_different_positions_advance_together(sampler: SamplerName) -> None:
    """As in the engine: a new row joins rows that have done some of their steps."""
    denoiser = small_denoiser()
    sampling = SamplingConfig(sampler=sampler, steps=6, guidance=1.5)
    plans = [plan_row(denoiser, sampling, label=label, seed=4, index=label) for label in (0, 1)]
    expected = sample(denoiser, plans)
    with torch.inference_mode():
        first, second = start(denoiser, plans[:1]), start(denoiser, plans[1:])
        for k in range(3):
            advance(denoiser, plans[:1], [k], first)
        state = torch.cat([first, second])
        for k in range(3):
            advance(denoiser, plans, [k + 3, k], state)
        second = state[1:]
        for k in range(3, 6):
            estimate = advance(denoiser, plans[1:], [k], second)
    assert (state[0, 0] - expected[0]).abs().max() < GREY_LEVEL
    assert (second[0, 0] - expected[1]).abs().max() < GREY_LEVEL
    torch.testing.assert_close(second[0, 0], estimate[0], rtol=0.0, atol=1e-5)  # the last step ends on the estimate


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_gives_the_same_image_anywhere_and_asking_for_more_keeps_the_first(sampler: SamplerName) -> None:
    denoiser = small_denoiser()
    sampling = SamplingConfig(sampler=sampler, steps=10, guidance=2.0, eta=1.0)

    def plan(seed: int, index: int) -> RowPlan:
        return plan_row(denoiser, sampling, label=1, seed=seed, index=index)

    few = sample(denoiser, [plan(7, index) for index in range(2)])
    many = sample(denoiser, [plan(7, index) for index in range(6)])
    assert (many[:2] - few).abs().max() < GREY_LEVEL
    again = sample(denoiser, [plan(1, 0), plan(2, 0), plan(7, 1), plan(3, 0)])[2]
    assert (again - few[1]).abs().max() < GREY_LEVEL
    distances = (many[:, None] - many[None]).abs().flatten(2).amax(2) + torch.eye(6)
    assert distances.min() > 10 * GREY_LEVEL  # another index gives another image
    assert (sample(denoiser, [plan(8, 0)])[0] - few[0]).abs().max() > 10 * GREY_LEVEL


def test_the_batch_size_of_sample_does_not_matter() -> None:
    denoiser = small_denoiser()
    sampling = SamplingConfig(steps=5)
    plans = [plan_row(denoiser, sampling, label=index % 3, seed=0, index=index) for index in range(7)]
    whole = sample(denoiser, plans)
    assert (sample(denoiser, plans, batch_rows=3) - whole).abs().max() < GREY_LEVEL


def test_interpolated_start_noise_meets_its_end_points() -> None:
    denoiser = small_denoiser()
    sampling = SamplingConfig()
    plans = [plan_row(denoiser, sampling, label=0, seed=1, end_seed=2, mix=mix) for mix in (0.0, 0.5, 1.0)]
    noise = start(denoiser, plans)[:, 0]
    ends = normal_noise([1, 2], [0, 0], [0, 0], denoiser.image_shape, denoiser.device)
    assert torch.equal(noise[0], ends[0])
    assert torch.equal(noise[2], ends[1])
    assert abs(float(noise[1].norm()) / float(ends.flatten(1).norm(dim=1).mean()) - 1) < 0.05


def test_a_path_between_two_classes_meets_both() -> None:
    denoiser = small_denoiser()
    sampling = SamplingConfig(steps=5, guidance=2.0)
    path = [plan_row(denoiser, sampling, label=0, end_label=2, seed=1, mix=mix) for mix in (0.0, 0.5, 1.0)]
    images = sample(denoiser, path)
    for position, label in ((0, 0), (2, 2)):
        alone = sample(denoiser, [plan_row(denoiser, sampling, label=label, seed=1)])[0]
        assert (images[position] - alone).abs().max() < GREY_LEVEL


@pytest.mark.parametrize("label", [-1, 3, 100])
def test_unknown_classes_are_refused(label: int) -> None:
    denoiser = small_denoiser()
    with pytest.raises(ValueError, match=r"not in 0\.\.2"):
        plan_row(denoiser, SamplingConfig(), label=label, seed=0)
    with pytest.raises(ValueError, match=r"not in 0\.\.2"):
        plan_row(denoiser, SamplingConfig(), label=0, end_label=label, seed=0)


def test_kept_tables_cannot_be_written() -> None:
    table = step_table(ScheduleConfig(), SamplingConfig(steps=5))
    for values in (table.linear, table.noise, table.times):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


def test_pixels_survive_going_to_floats_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    floats = from_pixels(pixels)
    assert (floats.min().item(), floats.max().item()) == (-1.0, 1.0)
    assert (to_pixels(floats)[0, :, :, 0] == pixels[0, 0].numpy()).all()
    assert to_pixels(torch.tensor([[[[-9.0, 9.0]]]])).ravel().tolist() == [0, 255]
