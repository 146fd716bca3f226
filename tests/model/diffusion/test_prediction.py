"""Predictions of eps, x_0 and v are equivalent."""

import itertools

import pytest
import torch

from darkroom.model.config import PredictionName, ScheduleConfig
from darkroom.model.diffusion.forward import add_noise
from darkroom.model.diffusion.prediction import convert, from_x0, to_x0, training_target
from darkroom.model.diffusion.schedule import make_schedule

KINDS: list[PredictionName] = ["eps", "x0", "v"]
SCHEDULE = make_schedule(ScheduleConfig())
T = torch.tensor([1, 2, 17, 300, 700, 999, 1000])


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, len(T), 3, 4, 4, generator=generator, dtype=torch.float64)
    return x0, eps, add_noise(SCHEDULE, x0, T, eps)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(KINDS, KINDS)))
def test_each_target_converts_to_each_other(source: PredictionName, target: PredictionName) -> None:
    x0, eps, x = case()
    said = training_target(SCHEDULE, source, x0, eps, T)
    torch.testing.assert_close(
        convert(SCHEDULE, source, target, x, said, T), training_target(SCHEDULE, target, x0, eps, T)
    )


@pytest.mark.parametrize("order", list(itertools.permutations(KINDS)))
def test_going_round_is_the_identity(order: tuple[PredictionName, ...]) -> None:
    """It is so for arbitrary outputs, too."""
    _, _, x = case()
    output = torch.randn(x.shape, dtype=torch.float64)
    said = output
    for source, target in itertools.pairwise((*order, order[0])):
        said = convert(SCHEDULE, source, target, x, said, T)
    torch.testing.assert_close(said, output, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_to_x0_inverts_from_x0(kind: PredictionName) -> None:
    x0, _, x = case()
    torch.testing.assert_close(to_x0(SCHEDULE, kind, x, from_x0(SCHEDULE, kind, x, x0, T), T), x0)


def test_v_is_the_velocity_of_the_rotation() -> None:
    """For alpha = cos(phi), sigma = sin(phi): v = dx/dphi (Salimans & Ho 2022, appendix D)."""
    x0, eps, _ = case()
    v = training_target(SCHEDULE, "v", x0, eps, T)
    for row, t in enumerate(T.tolist()):
        phi = torch.atan2(torch.tensor(SCHEDULE.sigma[t]), torch.tensor(SCHEDULE.alpha[t]))
        h = 1e-5
        slope = ((phi + h).cos() - (phi - h).cos()) * x0[row] + ((phi + h).sin() - (phi - h).sin()) * eps[row]
        torch.testing.assert_close(v[row], slope / (2 * h), rtol=1e-6, atol=1e-8)
