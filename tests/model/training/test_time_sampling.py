"""The times of a training batch: their distribution against the density's integral, and by a chi-square test."""

import numpy as np
import pytest
import torch
from scipy import stats

from darkroom.model.config import ScheduleConfig, TimeSamplingConfig
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.training.time_sampling import TimeSampler, time_probabilities

SCHEDULE = make_schedule(ScheduleConfig(name="cosine", steps=1000))
DENSITIES = {"normal": stats.norm(0.5, 2.0), "laplace": stats.laplace(0.5, 2.0)}


@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_the_log_snr_of_the_times_has_the_density_that_was_asked_for(name: str) -> None:
    probabilities = time_probabilities(SCHEDULE, TimeSamplingConfig.model_validate({"name": name}))
    assert probabilities[0] == 0.0
    assert probabilities.sum() == pytest.approx(1.0)
    log_snr = 2.0 * SCHEDULE.half_log_snr[1:]
    for edge in (-4.0, -1.0, 0.5, 2.0, 5.0):
        above = probabilities[1:][log_snr > edge].sum()
        assert above == pytest.approx(DENSITIES[name].sf(edge), abs=0.01)


@pytest.mark.parametrize("name", ["uniform", "normal", "laplace"])
def test_drawn_times_follow_their_probabilities(name: str) -> None:
    config = TimeSamplingConfig.model_validate({"name": name})
    probabilities = time_probabilities(SCHEDULE, config)
    drawn = TimeSampler(SCHEDULE, config).draw(200_000, torch.Generator().manual_seed(4)).numpy()
    assert drawn.min() >= 1
    assert drawn.max() <= 1000
    groups = np.array_split(np.arange(1, 1001), 25)
    observed = np.array([np.isin(drawn, group).sum() for group in groups])
    expected = np.array([probabilities[group].sum() for group in groups])
    kept = expected * len(drawn) > 20
    statistic = (((observed - expected * len(drawn)) ** 2) / (expected * len(drawn)))[kept].sum()
    assert statistic < stats.chi2(kept.sum()).ppf(0.9999)


def test_uniform_times_are_those_of_earlier_runs() -> None:
    config = TimeSamplingConfig()
    drawn = TimeSampler(SCHEDULE, config).draw(50, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, torch.randint(1, 1001, (50,), generator=torch.Generator().manual_seed(1)))
