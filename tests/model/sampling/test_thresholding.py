"""Thresholding, with each row's quantile against those of torch and numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.model.config import ThresholdName
from darkroom.model.sampling.thresholding import row_quantiles, threshold

MODES: list[ThresholdName] = ["none", "static", "dynamic"]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 300),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_quantiles_equal_torchs_and_numpys(width: int, levels: list[float], seed: int) -> None:
    values = torch.randn(len(levels), width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ours = row_quantiles(values, torch.tensor(levels, dtype=torch.float64))
    for row, level in enumerate(levels):
        assert ours[row].item() == pytest.approx(torch.quantile(values[row], level).item(), abs=1e-9)
        assert ours[row].item() == pytest.approx(float(np.quantile(values[row].numpy(), level)), abs=1e-9)


def test_each_row_gets_its_own_mode_and_percentile() -> None:
    generator = torch.Generator().manual_seed(0)
    modes = MODES * 4
    percentiles = [0.5, 0.9, 0.7, 1.0, 1.0, 1.0, 0.995, 0.995, 0.995, 0.2, 0.2, 0.2]
    x0 = 2.0 * torch.randn(len(modes), 3, 8, 8, generator=generator)
    result = threshold(x0, modes, percentiles)
    for row, (mode, percentile) in enumerate(zip(modes, percentiles, strict=True)):
        if mode == "none":
            expected = x0[row]
        elif mode == "static":
            expected = x0[row].clamp(-1, 1)
        else:
            s = max(1.0, torch.quantile(x0[row].abs(), percentile).item())
            expected = x0[row].clamp(-s, s) / s
        torch.testing.assert_close(result[row], expected, rtol=1e-5, atol=1e-6)
        alone = threshold(x0[row : row + 1], [mode], [percentile])
        assert torch.equal(alone[0], result[row])


def test_dynamic_leaves_images_within_range_alone() -> None:
    x0 = torch.rand(2, 1, 8, 8) * 2 - 1
    assert torch.equal(threshold(x0, ["dynamic"] * 2, [0.995] * 2), x0)


def test_only_float32_is_taken() -> None:
    with pytest.raises(TypeError, match="float32"):
        threshold(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), ["static"], [0.9])
