"""The step that a GPU replays computes what `advance` computes, for every sampler, threshold, guide and variance."""

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.extension_points import SAMPLERS, samplers_with
from darkroom.model.sampling.draw import RowPlan, advance, plan_row, start
from darkroom.model.sampling.static_step import StepInputs, kind_of, static_step
from tests.model.small import small_denoiser

STEPS = 4


def denoiser_with_everything() -> Denoiser:
    """Return a denoiser with a snapshot and learned variances."""
    denoiser, other = (small_denoiser(learned_variance=True) for _ in range(2))
    denoiser.snapshot = lambda x, t, labels: other.network(0.9 * x, t, labels)
    return denoiser


def settings() -> list[SamplingConfig]:
    """Return every sampler with every threshold and guide, every variance, an interval of guidance, and no guidance."""
    found = [
        SamplingConfig(
            sampler=sampler,
            threshold=threshold,
            percentile=0.9 if number % 2 else 0.995,
            guide=guide,
            guidance=2.0,
            steps=STEPS,
            eta=0.5 if "eta" in SAMPLERS[sampler].takes else 0.0,
        )
        for number, (sampler, threshold, guide) in enumerate(
            product(SAMPLERS, ("none", "static", "dynamic"), ("unconditional", "snapshot"))
        )
    ]
    found += [
        SamplingConfig(sampler=sampler, variance=variance, steps=STEPS, guidance=1.0)
        for sampler, variance in product(samplers_with("variance"), ("beta", "beta_tilde", "learned"))
    ]
    return [*found, SamplingConfig(steps=STEPS, guidance=3.0, guidance_interval=(0.5, 2.0))]


def stepped(denoiser: Denoiser, plans: Sequence[RowPlan], positions: Sequence[int], state: Tensor) -> list[Tensor]:
    """Return the rows' new states and estimates by `static_step`, from inputs that another step has filled before."""
    inputs = StepInputs(denoiser, kind_of(plans, positions), hosts=2)
    whole = torch.zeros(inputs.kind.rows, *state.shape[1:])
    whole[: len(state)] = state
    if len(plans) > 1:
        inputs.fill(plans[::-1], list(positions)[::-1], range(len(plans)))
    inputs.fill(plans, positions, range(1, len(plans) + 1))
    assert inputs.whole["place"].tolist() == [*range(1, len(plans) + 1), *[0] * (inputs.kind.rows - len(plans))]
    found = static_step(denoiser, inputs, whole)
    assert not found[0][len(plans) :].any()  # padding stays zero
    return [one[: len(plans)] for one in found]


@torch.inference_mode()
def agree(denoiser: Denoiser, plans: Sequence[RowPlan]) -> None:
    """Draw the rows by `advance`, each at a position of its own, and compare each step."""
    state = start(denoiser, plans)
    for first in range(STEPS):
        positions = [max(0, first - row % 2) for row in range(len(plans))]
        found = stepped(denoiser, plans, positions, state)
        known = [state, advance(denoiser, plans, positions, state)]
        torch.testing.assert_close(found, known, rtol=1e-6, atol=1e-6)


def test_rows_of_all_settings_advance_together_as_by_advance() -> None:
    denoiser = denoiser_with_everything()
    plans = [plan_row(denoiser, one, label=row % 3, seed=row, index=row) for row, one in enumerate(settings())]
    agree(denoiser, plans)


@pytest.mark.parametrize("sampling", settings(), ids=lambda one: f"{one.sampler}-{one.threshold}-{one.guide}")
def test_a_row_advances_alone_as_by_advance(sampling: SamplingConfig) -> None:
    denoiser = denoiser_with_everything()
    agree(denoiser, [plan_row(denoiser, sampling, label=1, seed=7, index=3)])


def test_mixtures_rows_without_a_class_and_an_unguided_model_too() -> None:
    denoiser = denoiser_with_everything()
    guided = SamplingConfig(steps=STEPS, guidance=2.0)
    plans = [
        plan_row(denoiser, guided, label=0, seed=1, end_label=2, end_seed=5, mix=0.3),
        plan_row(denoiser, guided, label=None, seed=2),
        plan_row(denoiser, guided.model_copy(update={"guide": "snapshot"}), label=1, seed=3, end_label=0, mix=0.9),
        plan_row(denoiser, guided.model_copy(update={"guidance": 1.0}), label=1, seed=2**62 + 12345, index=2**31 - 1),
    ]
    agree(denoiser, plans)
    agree(small_denoiser("eps"), [plan_row(small_denoiser("eps"), guided, label=2, seed=4)])


def test_few_kinds_of_steps_are_recorded() -> None:
    denoiser = denoiser_with_everything()
    plain = SamplingConfig(sampler="ddim", steps=STEPS, guidance=1.0)
    rows = [plan_row(denoiser, plain, label=0, seed=0)] * 33
    sizes = {kind_of(rows[:count], [0] * count) for count in range(1, 34)}
    assert {kind.rows for kind in sizes} == {1, 2, 4, 8, 16, 32, 64}
    assert len(sizes) == 7
    guided = plan_row(denoiser, plain.model_copy(update={"guidance": 2.0}), label=0, seed=0)
    assert kind_of([guided] * 3, [0] * 3).rows == 8
    by_snapshot = plan_row(denoiser, plain.model_copy(update={"guidance": 2.0, "guide": "snapshot"}), label=0, seed=0)
    assert kind_of([by_snapshot] * 3, [0] * 3) == (4, False, True, False)
